package bare

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/stream"
)

// streamOfFiles makes a stream of some empty files.
func streamOfFiles(t *testing.T, id snapshot.ID) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, 1)
	for _, c := range []*stream.Command{
		{Kind: stream.Subvol, Path: []byte("as it is called there"), UUID: stream.UUID(id), Transid: 7},
		{Kind: stream.MkFile, Path: []byte("o257-7-0"), Ino: 257},
		{Kind: stream.Rename, Path: []byte("o257-7-0"), PathTo: []byte("file")},
		{Kind: stream.MkDir, Path: []byte("dir"), Ino: 258},
		{Kind: stream.End},
	} {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestHeldBack looks at what has gone to btrfs receive whenever a Write returns: a
// connection that is cut there never leaves it with whole commands only.
func TestHeldBack(t *testing.T) {
	want := store.Want{Edge: snapshot.Edge{To: snapshot.ID{1, 2, 3}}, Path: "a"}
	raw := streamOfFiles(t, want.Edge.To)
	whole, err := renamed(raw, "a_01234567.part")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := &writer{ctx: t.Context(), store: openHere(t, "/x", nil), want: want, part: "a_01234567.part", protocol: 1, out: &out}
	from := 0
	for _, to := range commands(raw) {
		if _, err := w.Write(raw[from:to]); err != nil {
			t.Fatal(err)
		}
		if from = to; slices.Contains(commands(whole), out.Len()) || out.Len() == 0 {
			t.Errorf("after %d bytes, %d have gone, which end with a command", to, out.Len())
		}
	}
	if got := append(out.Bytes(), w.held...); !bytes.Equal(got, whole) {
		t.Errorf("wrote %q, want %q", got, whole)
	}
	id, err := stream.NewReader(bytes.NewReader(whole)).Identity()
	if err != nil || id.Path != "a_01234567.part" || id.Transid != 7 {
		t.Errorf("the stream says %+v, %v", id, err)
	}
}

// TestProtocolTooHigh writes a stream that the btrfs-progs there cannot receive.
func TestProtocolTooHigh(t *testing.T) {
	want := store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "a"}
	var raw, out bytes.Buffer
	in := stream.NewWriter(&raw, 2)
	if err := errors.Join(in.Write(&stream.Command{Kind: stream.Subvol, Path: []byte("x"), UUID: stream.UUID{1}, Transid: 7}), in.Close()); err != nil {
		t.Fatal(err)
	}
	w := &writer{ctx: t.Context(), store: openHere(t, "/x", nil), want: want, part: "a.part", protocol: 1, out: &out}
	if _, err := w.Write(raw.Bytes()); err == nil || !strings.Contains(err.Error(), "protocol 2") || out.Len() > 0 {
		t.Errorf("%v, and %d bytes have gone", err, out.Len())
	}
}

// lostProcess does its work, of which nothing is heard.
type lostProcess struct{ process }

func (p lostProcess) Output() io.Reader {
	_, _ = io.Copy(io.Discard, p.process.Output())
	return strings.NewReader("")
}
func (p lostProcess) Wait() error { return errors.Join(p.process.Wait(), dial.ErrUnreachable) }

// TestLostCommit loses the connection while a snapshot gets its name: before it has
// it, and afterwards.
func TestLostCommit(t *testing.T) {
	x := newScene(t, "two")
	link := &hereLink{shellWords: shells["dash"]}
	src, dst := openHere(t, x.from, nil), openHere(t, x.to, link)
	one := at(t, src, "one")
	edge := snapshot.Edge{To: one.ID}
	raw := streamOf(t, src, edge)
	receive := func(path string) store.Writer {
		w, err := dst.Create(t.Context(), store.Want{Edge: edge, Path: path})
		if err == nil {
			_, err = w.Write(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		return w
	}
	w := receive("afterwards")
	link.cut = func(p process) process {
		link.cut = nil
		return lostProcess{p}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Errorf("the snapshot has its name, but %v", err)
	}
	at(t, dst, "afterwards")
	if _, err := dst.Create(t.Context(), store.Want{Edge: edge, Path: "afterwards"}); err == nil || !strings.Contains(err.Error(), "the snapshot itself") {
		t.Errorf("it is there, and the error is %v", err)
	}

	w = receive("before")
	link.broken = func() error {
		link.broken = nil
		return dial.ErrUnreachable
	}
	if err := w.Commit(t.Context()); !store.Temporary(err) {
		t.Errorf("the connection was lost before: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	inv, err := dst.List(t.Context())
	if err != nil || len(inv.Partials) > 0 || len(inv.Snapshots) != 1 || len(inv.Snapshots[0].Copies) > 0 {
		t.Errorf("%v, %+v", err, inv)
	}
}

// TestPartialParent has an unfinished receive with the identity of a parent, from
// which btrfs receive might start.
func TestPartialParent(t *testing.T) {
	x := newScene(t, "two")
	src, dst := openHere(t, x.from, nil), openHere(t, x.to, nil)
	one, two := at(t, src, "one"), at(t, src, "two")
	if err := push(t, src, dst, one, snapshot.Snapshot{}, "one"); err != nil {
		t.Fatal(err)
	}
	x.fs.Snapshot(x.to+"/one", x.to+"/elsewhere_01234567.part", true)
	err := push(t, src, dst, two, one, "two")
	if bad, ok := errors.AsType[*store.ParentError](err); !ok || !strings.Contains(bad.Path, "elsewhere_01234567.part") {
		t.Errorf("a push from a parent of which there is an unfinished copy: %v", err)
	}
}
