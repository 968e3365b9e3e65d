package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Harness does to a kind of store what its interfaces cannot. Every function
// fails the test where it does not succeed.
type Harness struct {
	// New makes a store that is empty, and of which nothing shows in any other
	// that New makes: for btrfs, on a file system of its own. It cleans up with
	// t.Cleanup.
	New func(t testing.TB) store.Store
	// Again opens the place of s once more, as a second process would. A store
	// that cannot be opened twice returns s.
	Again func(t testing.TB, s store.Store) store.Store
	// Populate makes read-only snapshots in s, one at each path, in this order:
	// states of one tree that changes between any two of them, of which most
	// stays as it was. The tree has some files, and 64 KiB of data or more that
	// does not compress. Directories on the way to a path are made. Every
	// call begins another tree.
	Populate func(t testing.TB, s store.Store, paths ...string)
	// Source makes a live store for the streams that others are to be given. It is
	// for stores that give back only the streams that they were given themselves
	// (snapshot.Inventory.Archive): their Populate keeps the streams of all edges
	// that a case may ask for, and both it and Digest take live stores of Source
	// too. It is nil for live stores, for which New does.
	Source func(t testing.TB) store.Store
	// Digest returns a text that is equal for two snapshots exactly when what
	// is in them is equal, whatever their stores.
	Digest func(t testing.TB, s store.Store, x snapshot.Snapshot) string

	// Outside makes a snapshot that s finds outside of its directory, and
	// returns its identity. It may be nil for stores that have no outside.
	Outside func(t testing.TB, s store.Store) snapshot.ID
	// Leave leaves behind what a process leaves that dies while it writes to s
	// at a path. It may be nil for stores where nothing stays behind.
	Leave func(t testing.TB, s store.Store, path string)
	// Origin opens the place of s once more, in such a way that snapshots of a
	// subvolume can be made there (store.Snapshotter), and returns what changes
	// something in that. It may be nil for stores that make none.
	Origin func(t testing.TB, s store.Store) (again store.Store, change func())
	// Leftover leaves behind at a path what an interrupted receive by another
	// program leaves (store.Leftovers). It may be nil for stores that receive from
	// nobody else.
	Leftover func(t testing.TB, s store.Store, path string)
	// Cold puts the streams of edges into cold storage, where nobody has asked for
	// them, and returns what lets time pass there. It may be nil for stores where
	// nothing can be cold.
	Cold func(t testing.TB, s store.Store, edges ...snapshot.Edge) (pass func(time.Duration))
}

// Run runs the contract's cases on a kind of store, each on stores of its own.
// Cases about an ability that the store does not have are skipped.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// Case is one clause of the contract.
type Case struct {
	Name string
	Run  func(t testing.TB, h Harness)
}

// Cases returns the contract, for a test that wants to run its cases by itself.
func Cases() []Case {
	return slices.Concat(listCases, sourceCases, sinkCases, refusalCases, resumeCases, removeCases, requestCases, sizeCases, otherCases, archiveCases, continueCases, besideCases, coldCases)
}

// patience bounds what ought to end at once. Machines are slow at times.
const patience = 30 * time.Second

// able returns s with an ability, or skips the case.
func able[T any](t testing.TB, s store.Store) T {
	t.Helper()
	a, ok := s.(T)
	if !ok {
		t.Skipf("%s is no %T", s, new(T))
	}
	return a
}

func list(t testing.TB, s store.Store) *snapshot.Inventory {
	t.Helper()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("listing %s: %v", s, err)
	}
	return inv
}

// inside returns the paths of what s holds in its directory.
func inside(t testing.TB, s store.Store) []string {
	t.Helper()
	paths := []string{}
	for _, x := range list(t, s).Inside() {
		paths = append(paths, x.Path)
		for _, c := range x.Copies {
			if !c.Outside {
				paths = append(paths, c.Path)
			}
		}
	}
	slices.Sort(paths)
	return paths
}

// populated makes a store with one tree's snapshots at the paths, and returns
// them as they are listed.
func populated(t testing.TB, h Harness, paths ...string) (store.Store, []snapshot.Snapshot) {
	t.Helper()
	s := h.New(t)
	h.Populate(t, s, paths...)
	return s, find(t, s, paths...)
}

// source makes a live store with one tree's snapshots at the paths, to store the
// streams of it elsewhere.
func source(t testing.TB, h Harness, paths ...string) (store.Store, []snapshot.Snapshot) {
	t.Helper()
	if h.Source == nil {
		return populated(t, h, paths...)
	}
	s := h.Source(t)
	h.Populate(t, s, paths...)
	return s, find(t, s, paths...)
}

// isArchive reports whether a store gives back only what it was given.
func isArchive(t testing.TB, s store.Store) bool {
	t.Helper()
	return list(t, s).Archive
}

// find returns the snapshots that s lists at the paths.
func find(t testing.TB, s store.Store, paths ...string) []snapshot.Snapshot {
	t.Helper()
	all := list(t, s).Inside()
	found := make([]snapshot.Snapshot, len(paths))
	for i, p := range paths {
		at := slices.IndexFunc(all, func(x snapshot.Snapshot) bool { return x.Path == p })
		if at < 0 {
			t.Fatalf("%s does not list %q, only %q", s, p, inside(t, s))
		}
		found[i] = all[at]
	}
	return found
}

// copyAt returns what is listed at a path, be it the copy of another one.
func copyAt(t testing.TB, s store.Store, path string) snapshot.Snapshot {
	t.Helper()
	for _, x := range list(t, s).Snapshots {
		for _, c := range append([]snapshot.Snapshot{x}, x.Copies...) {
			if c.Path == path && !c.Outside {
				return c
			}
		}
	}
	t.Fatalf("%s does not list %q", s, path)
	return none
}

func full(to snapshot.Snapshot) snapshot.Edge { return snapshot.Edge{To: to.ID} }

func increment(to, from snapshot.Snapshot) snapshot.Edge {
	return snapshot.Edge{To: to.ID, From: from.ID}
}

// read returns a whole stream.
func read(t testing.TB, s store.Store, e snapshot.Edge) []byte {
	t.Helper()
	return request(t, s, store.Request{Edge: e})
}

// request returns the whole stream of a request.
func request(t testing.TB, s store.Store, r store.Request) []byte {
	t.Helper()
	in, err := able[store.Source](t, s).Open(t.Context(), r)
	if err != nil {
		t.Fatalf("opening %v: %v", r, err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("reading %v: %v", r, err)
	}
	if err := in.Close(); err != nil {
		t.Fatalf("closing the stream of %v: %v", r, err)
	}
	return raw
}

// wanted is what a sink is told of an edge whose stream comes from its start.
func wanted(to, from snapshot.Snapshot, path string) store.Want {
	return store.Want{
		Edge: snapshot.Edge{To: to.ID, From: from.ID}, Path: path, Transid: to.Transid, FromTransid: from.Transid, Fresh: true,
	}
}

// create opens a writer, and closes it when the test ends.
func create(t testing.TB, s store.Store, want store.Want) store.Writer {
	t.Helper()
	w, err := able[store.Sink](t, s).Create(t.Context(), want)
	if err != nil {
		t.Fatalf("creating %q: %v", want.Path, err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// feed writes a stream in pieces of whole commands.
func feed(w io.Writer, raw []byte) error {
	for _, piece := range pieces(raw) {
		n, err := w.Write(piece)
		if err != nil {
			return err
		}
		if n != len(piece) {
			return fmt.Errorf("%d of %d bytes were written, without an error", n, len(piece))
		}
	}
	return nil
}

// pieces cuts a stream after every few commands. The header goes with the first
// one; the rest of a stream has none.
func pieces(raw []byte) [][]byte {
	var out [][]byte
	begin, end := 0, 0
	if bytes.HasPrefix(raw, []byte("btrfs-stream\x00")) {
		end = headerLen
	}
	for n := 1; end+headLen <= len(raw); n++ {
		end += headLen + commandLen(raw[end:])
		if n%3 == 0 && end < len(raw) {
			out = append(out, raw[begin:end])
			begin = end
		}
	}
	return append(out, raw[begin:])
}

// commandLen is what a command's head says of the length behind it.
func commandLen(head []byte) int { return int(binary.LittleEndian.Uint32(head)) }

// withoutEnd returns a stream without its last command, which is END and has no
// attributes.
func withoutEnd(raw []byte) []byte { return raw[:len(raw)-headLen] }

// renamed returns a stream under other identities; zero ones stay as they are.
func renamed(t testing.TB, raw []byte, id stream.Identity) []byte {
	t.Helper()
	r, err := stream.RewriteHead(bytes.NewReader(raw), id)
	if err != nil {
		t.Fatalf("rewriting a stream: %v", err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("rewriting a stream: %v", err)
	}
	return out
}

// transfer carries an edge from one store to another.
func transfer(t testing.TB, src, dst store.Store, to, from snapshot.Snapshot, path string) snapshot.Snapshot {
	t.Helper()
	w := create(t, dst, wanted(to, from, path))
	if err := feed(w, read(t, src, snapshot.Edge{To: to.ID, From: from.ID})); err != nil {
		t.Fatalf("writing %q: %v", path, err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatalf("committing %q: %v", path, err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("closing the writer of %q after Commit: %v", path, err)
	}
	return find(t, dst, path)[0]
}

// refuse expects a stream to be refused: by Write or by Commit, with nothing
// published and the path free.
func refuse(t testing.TB, dst store.Store, want store.Want, raw []byte) {
	t.Helper()
	before := inside(t, dst)
	w := create(t, dst, want)
	err := feed(w, raw)
	if err == nil {
		err = w.Commit(t.Context())
	}
	if err == nil {
		t.Error("the stream was committed")
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close after a refusal: %v", err)
	}
	same(t, dst, before)
	abandoned(t, dst, w)
}

// same expects s to hold what it held.
func same(t testing.TB, s store.Store, before []string) {
	t.Helper()
	if now := inside(t, s); !slices.Equal(before, now) {
		t.Errorf("%s held %q, and holds %q now", s, before, now)
	}
}

// nothingLeft expects no partials.
func nothingLeft(t testing.TB, s store.Store) {
	t.Helper()
	if p := list(t, s).Partials; len(p) > 0 {
		t.Errorf("%s has unfinished things: %+v", s, p)
	}
}

// abandoned expects that a writer that was closed without Commit has left
// nothing, or something to carry on with that says so and is the store's own.
func abandoned(t testing.TB, s store.Store, w store.Writer) {
	t.Helper()
	_, resumes := w.(store.Resumer)
	_, skips := w.(store.Skipper)
	for _, p := range list(t, s).Partials {
		if !resumes && !skips || !p.Ours || p.Why == "" {
			t.Errorf("%s has an unfinished thing: %+v", s, p)
		}
	}
}

// equal expects two snapshots to have the same content.
func equal(t testing.TB, h Harness, a store.Store, x snapshot.Snapshot, b store.Store, y snapshot.Snapshot) {
	t.Helper()
	if h.Digest(t, a, x) != h.Digest(t, b, y) {
		t.Errorf("%s in %s and %s in %s differ", x.Path, a, y.Path, b)
	}
}

// canceled expects an error that comes from a context that ended.
func canceled(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s after its context was cancelled: %v, want context.Canceled", what, err)
	}
}

// gone returns a context that is cancelled already.
func gone(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
