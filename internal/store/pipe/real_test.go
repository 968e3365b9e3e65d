package pipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/transfer"
)

// TestReceive gives the streams of real snapshots to btrfs receive, as a sync
// does, with the ledger for notes.
func TestReceive(t *testing.T) {
	fs, to := btrfstest.New(t), btrfstest.New(t)
	live := fs.Subvolume("live")
	names := []string{"a", "b", "c"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(live, "of "+name), []byte(strings.Repeat(name, 300<<10)), 0o644); err != nil {
			t.Fatal(err)
		}
		fs.Snapshot("live", fs.Path(name), true)
	}
	src, err := local.Open(fs.Path("."), local.Options{Protocol: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	run := func(command string) (*plan.Plan, *transfer.Report) {
		t.Helper()
		dst := opened(t, Options{Command: command, Env: append(os.Environ(), "TO="+to.Path(".")), Notes: l})
		holds, err := src.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		has, err := dst.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wish plan.Wish
		for _, x := range holds.Inside() {
			wish.Want = append(wish.Want, x.ID)
		}
		p := plan.Sync(holds, has, wish, func(snapshot.Edge) snapshot.Size { return snapshot.Size{} })
		return p, transfer.Run(t.Context(), p.Steps, transfer.Options{Source: src, Destination: dst, Ledger: l, Parallel: 2})
	}

	const receive = `btrfs receive "$TO"`
	p, report := run(receive)
	if len(p.Steps) != len(names) || report.Err() != nil {
		t.Fatalf("%d steps: %v", len(p.Steps), report.Err())
	}
	for _, name := range names {
		if diff := btrfstest.Diff(t, fs.Path(name), to.Path(name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if p, _ := run(receive); len(p.Steps) != 0 {
		t.Errorf("the second run has %d steps", len(p.Steps))
	}

	// What is new goes, as an increment; to a command that fails first.
	fs.Snapshot("live", fs.Path("d"), true)
	again := `test -e "$TO/ready" && ` + receive
	if _, report := run(again); report.Err() == nil {
		t.Error("a command that has failed counts as a success")
	}
	if p, report = run(receive); len(p.Steps) != 1 || p.Steps[0].Edge.IsFull() || report.Err() != nil {
		t.Errorf("steps %+v: %v", p.Steps, report.Err())
	}
	if diff := btrfstest.Diff(t, fs.Path("d"), to.Path("d")); diff != "" {
		t.Error(diff)
	}

	// btrfs receive says itself what it has against a stream.
	if _, report := run(`btrfs receive "$TO/nowhere"`); report.Err() == nil || !strings.Contains(report.Err().Error(), "nowhere") {
		t.Errorf("receiving to nowhere: %v", report.Err())
	}
}

// TestReceiveAbandoned: a stream that breaks off leaves no snapshot that looks
// whole.
func TestReceiveAbandoned(t *testing.T) {
	fs, to := btrfstest.New(t), btrfstest.New(t)
	live := fs.Subvolume("live")
	if err := os.WriteFile(filepath.Join(live, "data"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	fs.Snapshot("live", fs.Path("a"), true)
	raw := fs.Send("a", "--proto", "1")
	src, err := local.Open(fs.Path("."), local.Options{Protocol: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	inv, err := src.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := inv.Inside()[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := opened(t, Options{Command: `btrfs receive "$TO"`, Env: append(os.Environ(), "TO="+to.Path("."))})
	w, err := s.Create(ctx, want(x, snapshot.Snapshot{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw[:firstCommand(raw)]); err != nil {
		t.Fatal(err)
	}
	await(t, "the subvolume", func() bool { _, err := os.Stat(to.Path("a")); return err == nil })
	cancel()
	if _, err := w.Write(raw[firstCommand(raw):]); !errors.Is(err, context.Canceled) {
		t.Errorf("Write after its context was cancelled: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	there, err := local.Open(to.Path("."), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if inv, err := there.List(t.Context()); err != nil || len(inv.Snapshots) != 0 {
		t.Errorf("%+v, %v: want no snapshot", inv, err)
	}
	var _ store.Sink = s
}
