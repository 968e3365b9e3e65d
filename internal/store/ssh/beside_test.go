package ssh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// testOrigin is what clients in these tests say that snapshots are made of.
const testOrigin = "/srv/home"

// originated is a client that names an origin, of a machine whose store has one if
// family is set.
func originated(t *testing.T, family string) (*Store, *machine, *storetest.Memory) {
	t.Helper()
	inner := storetest.NewMemory("far")
	inner.SetOrigin(family)
	m := newMachine(t, Write, func() store.Store { return inner })
	return wanting(t, m, testOrigin), m, inner
}

// wanting is a client that names an origin.
func wanting(t testing.TB, m *machine, of string) *Store {
	t.Helper()
	o := m.options(Write)
	o.Of = of
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSnapshotThere makes snapshots, and sends one before anything is listed.
func TestSnapshotThere(t *testing.T) {
	s, m, inner := originated(t, "home")
	want, err := inner.Origin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := s.Origin(t.Context()); err != nil || id != want {
		t.Errorf("the origin is %s, %v; want %s", id, err, want)
	}
	made, err := s.Snapshot(t.Context(), "one day")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inner.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if there, _ := inv.Find(made.ID); !cmp.Equal(made, there) {
		t.Errorf("told (-), there (+):\n%s", cmp.Diff(made, there))
	}
	if raw := streamOf(t, s, snapshot.Edge{To: made.ID}); len(raw) == 0 {
		t.Error("it cannot be sent")
	}
	_, err = s.Snapshot(t.Context(), "one day")
	if _, ok := errors.AsType[*store.ExistsError](err); !ok {
		t.Errorf("made twice: %v", err)
	}
	for _, bad := range []string{"", "../x", "/x", "x.part"} {
		if _, err := s.Snapshot(t.Context(), bad); err == nil {
			t.Errorf("made at %q", bad)
		}
	}
	m.cut()
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if raw := streamOf(t, s, snapshot.Edge{To: made.ID}); len(raw) == 0 {
		t.Error("it cannot be sent on another connection")
	}
}

// TestNoOrigin asks for snapshots where none are to be made: the client has not said
// of what, or the server's command line has not.
func TestNoOrigin(t *testing.T) {
	named, m, _ := originated(t, "")
	unnamed := m.client(Write)
	m.opt.Open = func(context.Context, Wishes) (store.Store, error) {
		inner := storetest.NewMemory("far")
		inner.SetOrigin("home")
		return inner, nil
	}
	careless := m.client(Write)
	for who, c := range map[string]struct {
		s    *Store
		says string
	}{
		"the server has none": {named, "--of"},
		"neither has":         {unnamed, ""},
		"only the server has": {careless, ""},
	} {
		_, err := c.s.Origin(t.Context())
		_, failed := c.s.Snapshot(t.Context(), "x")
		for _, err := range []error{err, failed} {
			if !errors.Is(err, store.ErrNoOrigin) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", who, err)
			}
		}
	}
}

// TestAnotherOrigin has a client mean another subvolume than the server's command
// line.
func TestAnotherOrigin(t *testing.T) {
	_, m, _ := originated(t, "home")
	dir, other := t.TempDir(), t.TempDir()
	m.opt.Of = dir
	for of, ok := range map[string]bool{
		"": true, dir: true, dir + "/": true, dir + "/.": true,
		other: false, dir + "/..": false, "home": false,
	} {
		o := m.options(Write)
		o.Of = of
		s, err := Open(t.Context(), o)
		if err == nil {
			_ = s.Close()
		}
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), dir) {
			t.Errorf("meaning %q, and served is %s: %v", of, dir, err)
		}
	}
}

// TestNoNoteIsAskedFor: a client that asked for no more than adding tries no note, of
// which the operator would be told each night.
func TestNoNoteIsAskedFor(t *testing.T) {
	var log bytes.Buffer
	inner := storetest.NewMemory("far")
	m := newMachine(t, Write, func() store.Store { return inner })
	m.opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(t.Context(), m.options(Append))
	if err != nil {
		t.Fatal(err)
	}
	err = s.WriteNote(t.Context(), store.RetentionNote, []byte("x"), nil)
	if e, ok := errors.AsType[*ModeError](err); !ok || e.Mode != Append {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	m.cut()
	m.work.Wait()
	if strings.Contains(log.String(), "refused") || len(inner.Note(store.RetentionNote)) > 0 {
		t.Errorf("the log has %q", log.String())
	}
}

// TestNotes reads, writes and removes notes, small ones and the largest.
func TestNotes(t *testing.T) {
	s, _, inner := originated(t, "")
	var was []byte
	for _, n := range []int{0, 1, 100_000, store.MaxNote, 7, 0} {
		note := bytes.Repeat([]byte("note "), n/5+1)[:n]
		if err := s.WriteNote(t.Context(), store.RetentionNote, note, was); err != nil {
			t.Fatalf("writing %d bytes: %v", n, err)
		}
		got, err := s.ReadNote(t.Context(), store.RetentionNote)
		if err != nil || !bytes.Equal(got, note) || n == 0 && got != nil {
			t.Errorf("%d bytes are read, %d were written: %v", len(got), n, err)
		}
		was = note
	}
	if err := s.WriteNote(t.Context(), store.RetentionNote, make([]byte, store.MaxNote+1), nil); err == nil {
		t.Error("one was written that is too long")
	}
	inner.SetNote(store.LocksNote, []byte("theirs"))
	for _, was := range []string{"", "ours"} {
		if err := s.WriteNote(t.Context(), store.LocksNote, []byte("ours"), []byte(was)); !errors.Is(err, store.ErrNoteChanged) {
			t.Errorf("written over another than %q: %v", was, err)
		}
	}
	if got := inner.Note(store.LocksNote); string(got) != "theirs" {
		t.Errorf("the note is %q", got)
	}
	for _, name := range []string{"", "a", "../" + store.LocksNote, ".bashrc", "./" + store.LocksNote, "/etc/passwd"} {
		_, err := s.ReadNote(t.Context(), name)
		if failed := s.WriteNote(t.Context(), name, []byte("x"), nil); err == nil || failed == nil {
			t.Errorf("%q is taken for a note", name)
		}
	}
}

// TestHalfANote has a client end the note that it sends without saying that it is
// whole, and send one that is too long.
func TestHalfANote(t *testing.T) {
	inner := storetest.NewMemory("far")
	p := dialled(t, inner, Write)
	q := request{Call: callWriteNote, Name: store.LocksNote}
	for _, end := range []bool{false, true} {
		call := p.begin(q)
		if _, err := call.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		if !end {
			call.Cancel()
			continue
		}
		if err := call.End(nil); err != nil {
			t.Fatal(err)
		}
		if a := p.hears(call); a.Error == nil {
			t.Error("half a note was taken")
		}
	}
	if a := p.notes(q, make([]byte, store.MaxNote+1)); a.Error == nil {
		t.Error("one was taken that is too long")
	}
	if a := p.ask(request{Call: callSettle}); a.Error != nil {
		t.Error(a.Error.Text)
	}
	if note := inner.Note(store.LocksNote); note != nil {
		t.Errorf("the note is %q", note)
	}
}

// noting cuts the connection once, when a note has been written, or before it is.
type noting struct {
	*storetest.Memory
	cut    *func()
	before bool
	after  func() // the cut
}

func (n *noting) WriteNote(ctx context.Context, name string, data, was []byte) error {
	cut := *n.cut
	*n.cut = nil
	if cut != nil && n.before {
		cut()
		return errors.New("it is cut")
	}
	err := n.Memory.WriteNote(ctx, name, data, was)
	if cut != nil {
		cut()
		if n.after != nil {
			n.after()
		}
	}
	return err
}

// TestLostAnswerOfNote breaks the connection around the change of a note.
func TestLostAnswerOfNote(t *testing.T) {
	for name, c := range map[string]struct {
		before bool
		then   string // what somebody else writes meanwhile
	}{
		"before it":                    {before: true},
		"behind it":                    {},
		"behind it, and changed again": {then: "theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			s, m, inner := originated(t, "")
			inner.SetNote(store.LocksNote, []byte("old"))
			cut := m.cut
			n := &noting{Memory: inner, cut: &cut, before: c.before}
			if c.then != "" {
				n.after = func() { inner.SetNote(store.LocksNote, []byte(c.then)) }
			}
			m.opt.Open = func(context.Context, Wishes) (store.Store, error) { return n, nil }
			hold := cut
			hold()
			cut = nil
			if _, err := s.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			cut = hold
			err := s.WriteNote(t.Context(), store.LocksNote, []byte("new"), []byte("old"))
			note := string(inner.Note(store.LocksNote))
			if c.then == "" && (err != nil || note != "new") || c.then != "" && (!errors.Is(err, store.ErrNoteChanged) || note != c.then) {
				t.Errorf("the note is %q: %v", note, err)
			}
		})
	}
}

// TestRemovesLeftovers removes what is left over, and nothing else.
func TestRemovesLeftovers(t *testing.T) {
	s, _, inner := originated(t, "")
	inner.Add("home", 1, "a")
	inner.AddPartial("b.part", true)
	inner.AddLeftover("sub/c")
	for _, p := range []string{"a", "b.part", "", "..", "../sub/c", "free"} {
		if err := s.RemoveLeftover(t.Context(), p); err == nil {
			t.Errorf("%q was removed", p)
		}
	}
	if err := s.RemoveLeftover(t.Context(), "sub/c"); err != nil {
		t.Error(err)
	}
	if held := heldBy(t, inner); !slices.Equal(held, []string{"a", "b.part"}) {
		t.Errorf("there is %q", held)
	}
	if inner.Unreclaimed() == 0 {
		t.Fatal("nothing is to be reclaimed")
	}
	if err := s.Reclaim(t.Context()); err != nil || inner.Unreclaimed() != 0 {
		t.Errorf("%d are not reclaimed: %v", inner.Unreclaimed(), err)
	}
}

// TestOlderServer asks for calls that the server does not know, as one from before
// they were there answers.
func TestOlderServer(t *testing.T) {
	s, _, _ := originated(t, "home")
	_, err := s.learn(t.Context(), request{Call: "of tomorrow"})
	if err = s.newer(err); err == nil || !strings.Contains(err.Error(), "install this one there") {
		t.Errorf("it says %v", err)
	}
}

// TestWords holds the command lines of servers to what stands in sudoers files.
func TestWords(t *testing.T) {
	for want, o := range map[string]Options{
		"buttersink --server --mode r /mnt/b/":                                    {Mode: Read},
		"buttersink --server --mode w --of /mnt/b/home /mnt/b/":                   {Mode: Write, Of: "/mnt/b/home"},
		"buttersink --server --mode a --make-dir /mnt/b/":                         {Mode: Append, MakeDir: true, MakeWritable: true},
		"buttersink --server --mode r --of /home /mnt/b/":                         {Mode: Read, Of: "/home", MakeDir: true, MakeWritable: true},
		"buttersink --server --mode w --of /home --make-dir --convert-rw /mnt/b/": {Mode: Write, Of: "/home", MakeDir: true, MakeWritable: true},
	} {
		o.RemoteProgram, o.Dir = "buttersink", "/mnt/b/"
		if got := strings.Join(o.words(), " "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
