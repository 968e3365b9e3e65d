package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// A store is free to carry on or to begin anew, but where it does carry on, it
// has to be right about the place. Cases that want something carried on would
// say nothing of stores that make their checkpoints at other places.
var resumeCases = []Case{
	{"resume/nothing to carry on", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		for i, p := range []string{"a", "b"} {
			want := resumed(x[0], none, p)
			want.Fresh = i == 1
			w := resumer(t, dst, want)
			begins(t, w)
			complete(t, w, raw)
			equal(t, h, src, x[0], dst, copyAt(t, dst, p))
			nothingLeft(t, dst)
		}
	}},
	{"resume/carries on", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		for _, e := range []struct {
			from snapshot.Snapshot
			path string
		}{{none, "b1"}, {x[0], "b2"}} {
			if !e.from.ID.IsZero() {
				transfer(t, src, dst, x[0], none, "a")
			}
			raw := read(t, src, increment(x[1], e.from))
			for _, part := range []int{1, 2, 3, 4} {
				want := resumed(x[1], e.from, e.path+"/"+string(rune('0'+part)))
				n := interrupt(t, dst, want, raw, part)
				w := resumer(t, dst, want)
				at := place(t, w, raw, n)
				complete(t, w, raw[at:])
				equal(t, h, src, x[1], dst, copyAt(t, dst, want.Path))
				nothingLeft(t, dst)
			}
		}
	}},
	{"resume/again and again", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		want := resumed(x[0], none, "a")
		for part := range 4 {
			w := resumer(t, dst, want)
			end := cut(raw, part+1)
			at := place(t, w, raw, end)
			if at < end {
				if err := feed(w, raw[at:end]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		w := resumer(t, dst, want)
		complete(t, w, raw[place(t, w, raw, len(raw)):])
		equal(t, h, src, x[0], dst, copyAt(t, dst, "a"))
		nothingLeft(t, dst)
	}},
	{"resume/nothing looks whole", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		want := resumed(x[0], none, "sub/a")
		resumer(t, dst, want).Close()
		interrupt(t, dst, want, read(t, src, full(x[0])), 4)
		same(t, dst, []string{})
		if _, ok := list(t, dst).Find(x[0].ID); ok {
			t.Error("what was interrupted is listed as a snapshot")
		}
		for _, p := range list(t, dst).Partials {
			if !p.Ours || p.Why == "" {
				t.Errorf("what was interrupted is listed as %+v", p)
			}
			if err := able[store.Remover](t, dst).RemovePartial(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		nothingLeft(t, dst)
		begins(t, resumer(t, dst, want)) // what was removed cannot be carried on
	}},
	{"resume/fresh", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		want := resumed(x[0], none, "a")
		resumer(t, dst, want).Close()
		interrupt(t, dst, want, raw, 2)
		want.Fresh = true
		w := resumer(t, dst, want)
		begins(t, w)
		complete(t, w, raw)
		equal(t, h, src, x[0], dst, copyAt(t, dst, "a"))
		nothingLeft(t, dst)
	}},
	{"resume/another edge", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a", "b")
		dst := h.New(t)
		transfer(t, src, dst, x[0], none, "a")
		for p, was := range map[string]snapshot.Snapshot{"b": x[1], "c": x[0]} {
			from, now := x[0], increment(x[1], x[0])
			if p == "c" {
				from, now = none, full(x[1])
			}
			resumer(t, dst, resumed(was, none, p)).Close()
			interrupt(t, dst, resumed(was, none, p), read(t, src, full(was)), 2)
			w := resumer(t, dst, resumed(x[1], from, p))
			begins(t, w)
			complete(t, w, read(t, src, now))
			equal(t, h, src, x[1], dst, copyAt(t, dst, p))
			nothingLeft(t, dst)
		}
	}},
	{"resume/no END", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		want := resumed(x[0], none, "a")
		resumer(t, dst, want).Close()
		n := interrupt(t, dst, want, raw, 2)
		w := resumer(t, dst, want)
		err := feed(w, withoutEnd(raw[place(t, w, raw, n):]))
		if err == nil {
			err = w.Commit(t.Context())
		}
		if err == nil {
			t.Error("a stream without its END was committed")
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close after a refusal: %v", err)
		}
		same(t, dst, []string{})
	}},
	{"resume/not after Commit", func(t testing.TB, h Harness) {
		src, x := source(t, h, "a")
		dst := h.New(t)
		raw := read(t, src, full(x[0]))
		want := resumed(x[0], none, "a")
		resumer(t, dst, want).Close()
		n := interrupt(t, dst, want, raw, 3)
		w := resumer(t, dst, want)
		complete(t, w, raw[place(t, w, raw, n):])
		if err := able[store.Remover](t, dst).Remove(t.Context(), copyAt(t, dst, "a")); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, dst)
		w = resumer(t, dst, want)
		begins(t, w)
		complete(t, w, raw)
		equal(t, h, src, x[0], dst, copyAt(t, dst, "a"))
	}},
}

// resumed is what a sink is told of an edge that it may carry on with.
func resumed(to, from snapshot.Snapshot, path string) store.Want {
	want := wanted(to, from, path)
	want.Fresh = false
	return want
}

// resumer opens a writer that can carry on, or skips the case.
func resumer(t testing.TB, s store.Store, want store.Want) store.Resumer {
	t.Helper()
	w, ok := create(t, s, want).(store.Resumer)
	if !ok {
		t.Skipf("%s carries on no transfers", s)
	}
	return w
}

// interrupt writes the first quarters of a stream, and abandons it. It returns
// how many bytes that were.
func interrupt(t testing.TB, s store.Store, want store.Want, raw []byte, quarters int) int {
	t.Helper()
	w := create(t, s, want)
	n := cut(raw, quarters)
	if err := feed(w, raw[:n]); err != nil {
		t.Fatalf("writing %q: %v", want.Path, err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("closing %q: %v", want.Path, err)
	}
	return n
}

// cut returns where a stream's command ends that is some quarters from its
// start.
func cut(raw []byte, quarters int) int {
	ends := commandEnds(raw)
	return ends[(len(ends)-1)*quarters/4]
}

// commandEnds returns where the commands of a stream end.
func commandEnds(raw []byte) []int {
	var ends []int
	for end := headerLen; end+headLen <= len(raw); {
		end += headLen + commandLen(raw[end:])
		ends = append(ends, end)
	}
	return ends
}

// begins expects a writer that begins at the start of the stream.
func begins(t testing.TB, w store.Resumer) {
	t.Helper()
	if m := w.Resumed(); m != (store.Mark{}) {
		t.Errorf("it carries on from %+v, and should begin at the start", m)
	}
}

// place expects a writer to carry on from a place in a stream that is right, or
// to begin at the start, and returns the place. No more than n bytes were
// written before.
func place(t testing.TB, w store.Resumer, raw []byte, n int) int {
	t.Helper()
	m := w.Resumed()
	if m == (store.Mark{}) {
		return 0
	}
	if m.Offset > int64(n) || !slices.Contains(commandEnds(raw), int(m.Offset)) {
		t.Fatalf("it carries on from byte %d; %d were written, and commands end at %d", m.Offset, n, commandEnds(raw))
	}
	if right := markOf(raw[:m.Offset]); m != right {
		t.Fatalf("it carries on from %+v, but that place is %+v", m, right)
	}
	return int(m.Offset)
}

// complete writes the rest of a stream, which begins with a command or with the
// header, and commits it.
func complete(t testing.TB, w store.Writer, rest []byte) {
	t.Helper()
	var err error
	if len(rest) > 0 {
		err = feed(w, rest)
	}
	if err == nil {
		err = w.Commit(t.Context())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatalf("carrying on: %v", err)
	}
}
