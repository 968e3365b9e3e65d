package storetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Places are where a stream.Reader says that they are: those of a receiver that
// was interrupted come from one.
var continueCases = []Case{
	{"continue/the rest", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		for _, e := range []snapshot.Edge{full(x[0]), full(x[1]), increment(x[1], x[0])} {
			raw := read(t, s, e)
			for _, at := range places(raw) {
				rest, state := after(t, s, store.Request{Edge: e}, mark(t, raw, at))
				if !bytes.Equal(rest, raw[at:]) {
					t.Errorf("what follows byte %d of %d has %d bytes, and is not the end of the stream", at, len(raw), len(rest))
					continue
				}
				continued(t, rest, state, raw)
			}
		}
	}},
	{"continue/clone sources", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b", "c")
		r := store.Request{Edge: increment(x[2], x[0]), Clones: []snapshot.ID{x[1].ID}}
		raw := request(t, s, r)
		for _, at := range places(raw) {
			rest, state := after(t, s, r, mark(t, raw, at))
			if !bytes.Equal(rest, raw[at:]) {
				t.Errorf("what follows byte %d of %d is not the end of the stream with clone sources", at, len(raw))
				continue
			}
			continued(t, rest, state, raw)
		}
		r.Clones = []snapshot.ID{{1, 2, 3}}
		refuses(t, s, r, mark(t, raw, places(raw)[0]), store.ErrNotFound)
	}},
	{"continue/another stream", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		raw, other := read(t, s, full(x[0])), read(t, s, full(x[1]))
		r := store.Request{Edge: full(x[0])}
		for _, at := range places(raw) {
			m := mark(t, raw, at)
			m.Digest[5] ^= 1
			refuses(t, s, r, m, store.ErrAnother)
			m = mark(t, raw, at)
			m.Commands++
			refuses(t, s, r, m, store.ErrAnother)
			m = mark(t, raw, at)
			m.Offset-- // inside of a command
			refuses(t, s, r, m, store.ErrAnother)
			m.Offset += 2
			refuses(t, s, r, m, store.ErrAnother)
		}
		m := mark(t, raw, len(raw))
		m.Offset, m.Commands = m.Offset+1<<20, m.Commands+7 // beyond the end
		refuses(t, s, r, m, store.ErrAnother)
		for _, at := range places(other) {
			refuses(t, s, r, mark(t, other, at), store.ErrAnother)
		}
		after(t, s, r, mark(t, raw, places(raw)[1])) // and yet it goes on
	}},
	{"continue/close early", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		raw := read(t, s, full(x[0]))
		for _, at := range places(raw) {
			in, _, err := able[store.Continuer](t, s).OpenAfter(t.Context(), store.Request{Edge: full(x[0])}, mark(t, raw, at))
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Errorf("closing what was not read: %v", err)
			}
		}
		if got := read(t, s, full(x[0])); !bytes.Equal(got, raw) {
			t.Error("the stream is another one afterwards")
		}
	}},
	{"continue/not there", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a", "b")
		raw := read(t, s, full(x[0]))
		m := mark(t, raw, places(raw)[0])
		refuses(t, s, store.Request{Edge: snapshot.Edge{To: snapshot.ID{9}}}, m, store.ErrNotFound)
		refuses(t, s, store.Request{Edge: snapshot.Edge{To: x[0].ID, From: snapshot.ID{9}}}, m, store.ErrNotFound)
	}},
	{"continue/cancelled", func(t testing.TB, h Harness) {
		s, x := populated(t, h, "a")
		raw := read(t, s, full(x[0]))
		in, _, err := able[store.Continuer](t, s).OpenAfter(gone(t), store.Request{Edge: full(x[0])}, mark(t, raw, places(raw)[1]))
		if err == nil {
			in.Close()
		}
		canceled(t, "OpenAfter", err)
	}},
}

// places are some at which a stream can be carried on: after its first command,
// in the middle, before its END and behind it.
func places(raw []byte) []int {
	ends := commandEnds(raw)
	n := len(ends)
	all := []int{ends[0], ends[n/3], ends[n/2], ends[max(n-2, 0)], ends[n-1]}
	slices.Sort(all)
	return slices.Compact(all)
}

// mark is the place at a byte of a stream where a command ends.
func mark(t testing.TB, raw []byte, at int) store.Mark {
	t.Helper()
	r := stream.NewReader(bytes.NewReader(raw))
	for r.Stats().Bytes < int64(at) {
		if _, err := r.NextRunTo(int64(at)); err != nil {
			t.Fatalf("reading up to byte %d: %v", at, err)
		}
	}
	return store.Mark(r.Mark())
}

// after returns what a store gives behind a place, and the state there.
func after(t testing.TB, s store.Store, r store.Request, m store.Mark) (rest, state []byte) {
	t.Helper()
	in, state, err := able[store.Continuer](t, s).OpenAfter(t.Context(), r, m)
	if err != nil {
		t.Fatalf("opening %v behind byte %d: %v", r, m.Offset, err)
	}
	defer in.Close()
	if rest, err = io.ReadAll(in); err != nil {
		t.Fatalf("reading %v behind byte %d: %v", r, m.Offset, err)
	}
	if err := in.Close(); err != nil {
		t.Errorf("closing %v: %v", r, err)
	}
	return rest, state
}

// continued reads the rest of a stream on from a state, and expects to come to
// where a reader of the whole stream comes to.
func continued(t testing.TB, rest, state, raw []byte) {
	t.Helper()
	r, err := stream.Continue(bytes.NewReader(rest), state)
	if err != nil {
		t.Errorf("carrying on behind byte %d: %v", len(raw)-len(rest), err)
		return
	}
	whole := stream.NewReader(bytes.NewReader(raw))
	for _, r := range []*stream.Reader{r, whole} {
		for err = nil; err == nil; {
			_, err = r.NextRun()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("carrying on behind byte %d: %v", len(raw)-len(rest), err)
			return
		}
	}
	id, _ := r.Identity()
	right, _ := whole.Identity()
	if r.Mark() != whole.Mark() || r.Stats() != whole.Stats() || r.Version() != whole.Version() || id != right {
		t.Errorf("carried on behind byte %d, a reader comes to %+v, %+v; the whole stream ends at %+v, %+v", len(raw)-len(rest), r.Stats(), id, whole.Stats(), right)
	}
}

// refuses expects that there is no rest of a stream, for a reason.
func refuses(t testing.TB, s store.Store, r store.Request, m store.Mark, why error) {
	t.Helper()
	in, _, err := able[store.Continuer](t, s).OpenAfter(t.Context(), r, m)
	if err == nil {
		in.Close()
	}
	if !errors.Is(err, why) {
		t.Errorf("opening %v behind byte %d, command %d: %v, want %v", r, m.Offset, m.Commands, err, why)
	}
}
