package bare

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// TestChangedOriginal changes a snapshot that was made there. The listing does not
// tell; the next stream that starts from it does.
func TestChangedOriginal(t *testing.T) {
	x := newScene(t, "two")
	s := openHere(t, x.from, nil)
	parent := func() (listed snapshot.Snapshot, transid uint64) {
		one, two := at(t, s, "one"), at(t, s, "two")
		id, err := stream.NewReader(bytes.NewReader(streamOf(t, s, snapshot.Edge{To: two.ID, From: one.ID}))).Identity()
		if err != nil || !id.HasParent {
			t.Fatal(id, err)
		}
		return one, id.ParentTransid
	}
	base := func(one snapshot.Snapshot, transid uint64) error {
		w, err := s.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}, From: one.ID}, FromTransid: transid, Path: "three"})
		if err != nil {
			return err
		}
		return w.Close()
	}
	x.fs.Snapshot("from/one", "live again", false) // changes nothing
	x.fs.Sync()
	before, transid := parent()
	if before.Transid != 0 || before.Received || transid != before.Generation {
		t.Errorf("%+v is at transaction %d in the stream", before, transid)
	}
	// Copies that have come about otherwise may have another number.
	if err := errors.Join(base(before, transid), base(before, transid+100)); err != nil {
		t.Error(err)
	}
	file := filepath.Join(x.from, "one")
	for _, set := range []string{"false", "true"} {
		if out, err := exec.Command("btrfs", "property", "set", file, "ro", set).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if set == "false" {
			if err := os.WriteFile(filepath.Join(file, "late"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	after, transid := parent()
	if after.ID != before.ID || transid == after.Generation || transid == 0 {
		t.Errorf("%+v is at transaction %d in the stream, after a change", after, transid)
	}
	if bad, ok := errors.AsType[*store.ParentError](base(after, before.Generation)); !ok || bad.Path != file {
		t.Errorf("what was sent before the change can be built upon: %v", bad)
	}
	if err := base(after, transid); err != nil {
		t.Error(err)
	}
}
