package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Eight writers at a time come to their end with room for two parts, whatever
// they were told about the lengths, and the room is kept.
func TestManyWriters(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ways, keys := sealings(t)
	for name, sealing := range ways {
		b := newMemoryBucket()
		f := openOn(t, b, newNotes(), func(o *Options) {
			o.Seal, o.Keys = sealing, keys
			o.PartSize, o.InFlight = 2<<20, 2
		})
		var all sync.WaitGroup
		for i := range byte(8) {
			e := snapshot.Edge{To: id(i + 1)}
			data := streamOf(t, e, int(5<<20)*int(i)/7+1000, uint64(i))
			n := int64(len(data))
			size := []snapshot.Size{
				snapshot.ExactSize(n), snapshot.AboutSize(n / 3), snapshot.ExactSize(10), snapshot.AboutSize(n * 3),
			}[i%4]
			all.Go(func() {
				_, err := f.store(t.Context(), store.Want{Edge: e, Path: fmt.Sprint(i), Size: size}, runs(t, data))
				if err == nil {
					var got []byte
					got, err = f.read(t.Context(), e)
					if err == nil && !bytes.Equal(got, data) {
						err = errors.New("the stream is another")
					}
				}
				if err != nil {
					t.Errorf("%s, %d: %v", name, i, err)
				}
			})
		}
		all.Wait()
		f.settled(t)
		if f.budget.peak > 6<<20 { // one may go beyond the bound
			t.Errorf("%s: %d bytes were reserved at a time", name, f.budget.peak)
		}
	}
}

// Small streams of which the length is known do not wait for each other.
func TestSmallSideBySide(t *testing.T) {
	f := openOn(t, newMemoryBucket(), nil, func(o *Options) { o.PartSize, o.InFlight = 4<<20, 2 })
	var open []store.Writer
	for i := range byte(8) {
		e := snapshot.Edge{To: id(i + 1)}
		data := streamOf(t, e, 500_000, 0)
		w, err := f.Create(t.Context(), store.Want{Edge: e, Path: fmt.Sprint(i), Size: snapshot.ExactSize(int64(len(data)))})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, w)
		for _, run := range runs(t, data) {
			if _, err := w.Write(run); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range open {
		if err := w.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	f.settled(t)
}

// A writer whose context ends at any time ends with it, leaves no goroutine and no
// memory behind, and what it leaves in the bucket can be carried on.
func TestCancelled(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	all := runs(t, data)
	why := errors.New("enough")
	for name, sealing := range ways {
		for range 15 {
			b, notes := newMemoryBucket(), newNotes()
			f := openOn(t, b, notes, func(o *Options) { o.Seal, o.Keys = sealing, keys })
			ctx, cancel := context.WithCancelCause(t.Context())
			at := time.AfterFunc(time.Duration(rand.IntN(8_000))*time.Microsecond, func() { cancel(why) })
			_, err := f.store(ctx, sized(edge, data), all)
			at.Stop()
			cancel(why)
			if err != nil && !errors.Is(err, why) {
				t.Errorf("%s: %v", name, err)
			}
			if f.budget.used != 0 {
				t.Errorf("%s: %d bytes are still reserved", name, f.budget.used)
			}
			if err != nil {
				if _, err = f.store(t.Context(), sized(edge, data), all); err != nil {
					t.Errorf("%s, again: %v", name, err)
				}
			}
			f.settled(t)
			if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
			}
		}
	}
}

// The end of the context of Commit ends it while parts are on their way.
func TestCommitCancelled(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 300_000, 1)
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	w, err := f.Create(t.Context(), sized(edge, data))
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs(t, data) {
		if _, err := w.Write(run); err != nil {
			t.Fatal(err)
		}
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := w.Commit(ctx); !errors.Is(err, why) {
		t.Errorf("Commit after its context has ended: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if len(b.objects) > 0 || f.budget.used != 0 {
		t.Errorf("%d objects, %d bytes reserved", len(b.objects), f.budget.used)
	}
}

// Of two machines that store the same edge at a time, both succeed if it is the
// same stream; else the one that comes late is told. Nothing is left of either.
func TestSameEdgeTwice(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 900_000, 1), streamOf(t, edge, 900_000, 2)
	for name, sealing := range ways {
		for _, same := range []bool{true, false} {
			b := newMemoryBucket()
			one := openOn(t, b, newNotes(), func(o *Options) { o.Seal, o.Keys = sealing, keys })
			two := openOn(t, b, newNotes(), func(o *Options) { o.Seal, o.Keys = sealing, keys })
			late := data
			if !same {
				late = other
			}
			first, err := one.Create(t.Context(), sized(edge, data))
			if err != nil {
				t.Fatal(err)
			}
			second, err := two.Create(t.Context(), sized(edge, late))
			if err != nil {
				t.Fatal(err)
			}
			for i, run := range runs(t, late) {
				if _, err := second.Write(run); err != nil {
					t.Fatal(err)
				}
				if i == 10 {
					for _, run := range runs(t, data) {
						if _, err := first.Write(run); err != nil {
							t.Fatal(err)
						}
					}
					if err := first.Commit(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			err = second.Commit(t.Context())
			if _, exists := errors.AsType[*store.ExistsError](err); same && err != nil || !same && !exists {
				t.Errorf("%s, same stream %v: %v", name, same, err)
			}
			if err := errors.Join(first.Close(), second.Close()); err != nil {
				t.Error(err)
			}
			one.settled(t)
			two.settled(t)
			if got, err := one.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
			}
		}
	}
}

// Where nobody has described what somebody else has stored, it is compared by its
// tag if that can be, and waited for otherwise.
func TestSameEdgeUndescribed(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data, other := streamOf(t, edge, 900_000, 1), streamOf(t, edge, 900_000, 2)
	for name, c := range map[string]struct {
		theirs []byte
		ok     bool
	}{"the same": {data, true}, "another": {other, false}} {
		b := newMemoryBucket()
		f := openOn(t, b, nil, nil)
		w, err := f.Create(t.Context(), sized(edge, data))
		if err != nil {
			t.Fatal(err)
		}
		w.(*writer).wait = time.Millisecond
		for _, run := range runs(t, data) {
			if _, err := w.Write(run); err != nil {
				t.Fatal(err)
			}
		}
		u, err := b.Begin(t.Context(), "pre/fix/a/"+edgeName(edge, seal.Form{}), UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var parts []Part
		for i, chunk := range chunks(c.theirs, 100_000) {
			p, err := u.Put(t.Context(), i+1, bodyOf(chunk))
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		if _, err := u.Complete(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		f.settled(t)
	}
}

// An upload that somebody removes begins again.
func TestUploadRemoved(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 900_000, 1)
	all := runs(t, data)
	for _, op := range []string{"Part", "Complete"} {
		b := newMemoryBucket()
		f := openOn(t, b, newNotes(), nil)
		b.hook = func(o, _ string) error {
			if o == op {
				b.mu.Lock()
				clear(b.uploads)
				b.mu.Unlock()
			}
			return nil
		}
		if _, err := f.store(t.Context(), sized(edge, data), all); !store.Temporary(err) || !errors.Is(err, errAgain) {
			t.Errorf("%s: %v", op, err)
		}
		b.hook = nil
		f.settled(t)
		if _, err := f.store(t.Context(), sized(edge, data), all); err != nil {
			t.Errorf("%s, again: %v", op, err)
		}
		f.settled(t)
	}
}

// An answer to Complete that is lost does not make a failure of a success.
func TestCompleteUnanswered(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 300_000, 1)
	b := newMemoryBucket()
	f := openOn(t, b, newNotes(), nil)
	f.bucket = deafBucket{b}
	if _, err := f.store(t.Context(), sized(edge, data), runs(t, data)); err != nil {
		t.Error(err)
	}
	f.settled(t)
	if o := f.of(edge); len(o) != 1 || !o[0].Described {
		t.Errorf("stored as %+v", o)
	}
}

// deafBucket does not hear the answers to Complete.
type deafBucket struct{ *memoryBucket }

type deafUpload struct{ Upload }

func (b deafBucket) Begin(ctx context.Context, key string, o UploadOptions) (Upload, error) {
	u, err := b.memoryBucket.Begin(ctx, key, o)
	return deafUpload{u}, err
}

func (u deafUpload) Complete(ctx context.Context, parts []Part) (Object, error) {
	if _, err := u.Upload.Complete(ctx, parts); err != nil {
		return Object{}, err
	}
	return Object{}, store.MarkTemporary(errors.New("the line is cut"))
}

// An increment whose parent somebody has removed meanwhile is taken away again.
func TestParentRemoved(t *testing.T) {
	full, next := snapshot.Edge{To: id(1)}, snapshot.Edge{To: id(2), From: id(1)}
	b := newMemoryBucket()
	f := openOn(t, b, newNotes(), nil)
	if _, err := f.store(t.Context(), store.Want{Edge: full, Path: "a"}, runs(t, streamOf(t, full, 10, 0))); err != nil {
		t.Fatal(err)
	}
	b.hook = func(op, key string) error {
		if op == "Complete" {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.objects, "pre/fix/a/"+edgeName(full, seal.Form{}))
			b.keys = nil
		}
		return nil
	}
	_, err := f.store(t.Context(), store.Want{Edge: next, Path: "b"}, runs(t, streamOf(t, next, 10, 0)))
	if e, ok := errors.AsType[*store.ParentError](err); !ok || e.ID != id(1) {
		t.Errorf("storing the increment: %v", err)
	}
	if _, there := b.objects["pre/fix/b/"+edgeName(next, seal.Form{})]; there {
		t.Error("the increment is still there")
	}
	f.settled(t)
}
