package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// wireBucket is a bucket at the end of a line that can be bad.
type wireBucket struct {
	*memoryBucket
	// cut says after how many bytes of a Get the line breaks, negative for never.
	cut       func() int
	now, most atomic.Int64 // readers at a time
}

var errLine = store.MarkTemporary(errors.New("the line is cut"))

func (b *wireBucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.memoryBucket.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	n := b.now.Add(1)
	for {
		if most := b.most.Load(); n <= most || b.most.CompareAndSwap(most, n) {
			break
		}
	}
	w := &wire{r: r, left: -1, end: func() { b.now.Add(-1) }}
	if b.cut != nil {
		w.left = b.cut()
	}
	return w, nil
}

type wire struct {
	r    io.ReadCloser
	left int
	end  func()
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, errLine
	}
	if w.left > 0 {
		p = p[:min(len(p), w.left)]
	}
	n, err := w.r.Read(p)
	if w.left > 0 {
		w.left -= n
	}
	return n, err
}

func (w *wire) Close() error {
	w.end()
	return w.r.Close()
}

// Objects of any length come back whole over a line that breaks often, with no
// more than the ranges that are allowed, and nothing is held afterwards.
func TestBadLine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, size := range []int{1, firstRange, firstRange + 1, 5 << 20, 5<<20 + 12345} {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{1}).Read(data)
		b := &wireBucket{memoryBucket: newMemoryBucket()}
		b.objects["k"] = memoryObject{data: data, tag: "t"}
		f := openOn(t, b.memoryBucket, nil, func(o *Options) { o.PartSize = 300_000 })
		f.bucket = b
		b.cut = func() int { return min(1, rand.IntN(10)) * rand.IntN(200_000) }
		if size < 1000 {
			b.cut = nil
		}
		in := f.raw(t.Context(), "k", int64(size))
		in.(*ahead).pause = time.Microsecond
		got, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: read %d: %v", size, len(got), err)
		}
		if most := b.most.Load(); most > rangesAhead {
			t.Errorf("%d bytes: %d ranges at a time", size, most)
		}
		if left := f.reading.left; left != (rangesAhead-1)*f.rangeSize() {
			t.Errorf("%d bytes: %d of the room are left", size, left)
		}
	}
}

// Several streams of a store share the room for reading ahead, and none waits for
// another, whoever is read first.
func TestReadersSideBySide(t *testing.T) {
	b := &wireBucket{memoryBucket: newMemoryBucket()}
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	b.objects["k"] = memoryObject{data: data, tag: "t"}
	f := openOn(t, b.memoryBucket, nil, func(o *Options) { o.PartSize = 200_000 })
	f.bucket = b
	var open []io.ReadCloser
	for range 5 {
		in := f.raw(t.Context(), "k", int64(len(data)))
		if _, err := io.ReadFull(in, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		open = append(open, in)
	}
	for i := range open {
		in := open[len(open)-1-i]
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, data[10:]) {
			t.Errorf("stream %d: %d bytes: %v", i, len(got), err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	if most := b.most.Load(); most > 5+rangesAhead-1 {
		t.Errorf("%d ranges were read at a time", most)
	}
}

func TestReadingEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b := newMemoryBucket()
	data := make([]byte, 3<<20)
	b.objects["k"] = memoryObject{data: data, tag: "t"}
	f := openOn(t, b, nil, func(o *Options) { o.PartSize = 200_000 })

	// Nothing is read before it is asked for.
	in := f.raw(t.Context(), "k", int64(len(data)))
	if b.calls["Get"] > 0 {
		t.Error("it has been read from without a Read")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("reading after Close: %v", err)
	}
	// The end of the context ends a Read that waits.
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var once sync.Once
	b.hook = func(op, _ string) error {
		if op == "Get" {
			once.Do(func() { cancel(why) })
			return errLine
		}
		return nil
	}
	in = f.raw(ctx, "k", int64(len(data)))
	if _, err := io.ReadAll(in); !errors.Is(err, why) {
		t.Errorf("reading to the end of the context: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	// An error that will not go away is not waited for.
	denied := &DeniedError{Bucket: "mem", Action: "reading", Err: errors.New("no")}
	b.calls["Get"] = 0
	b.hook = func(op, _ string) error {
		if op == "Get" {
			return denied
		}
		return nil
	}
	in = f.raw(t.Context(), "k", 100)
	if _, err := io.ReadAll(in); !errors.Is(err, denied) || b.calls["Get"] != 1 {
		t.Errorf("reading without permission: %v, after %d calls", err, b.calls["Get"])
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

// An object that is replaced while it is read is told from one that is damaged.
func TestChangedMeanwhile(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 2<<20, 1)
	key := "pre/fix/a/" + edgeName(edge, seal.Form{})
	for name, o := range map[string]memoryObject{
		"shorter":       {data: data[:1<<20], tag: "y"},
		"another":       {data: streamOf(t, edge, 2<<20, 2), tag: "y"},
		"not there":     {},
		"as it was":     {data: data, tag: "x"},
		"but for a tag": {data: data, tag: "z"},
	} {
		b := newMemoryBucket()
		b.objects[key] = memoryObject{data: data, tag: "x"}
		f := openOn(t, b, nil, func(o *Options) { o.PartSize = 100_000 })
		if _, err := f.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		in, err := f.Open(t.Context(), store.Request{Edge: edge})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(in, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		b.objects[key] = o
		if o.data == nil {
			delete(b.objects, key)
		}
		b.mu.Unlock()
		_, err = io.ReadAll(in)
		_, changed := errors.AsType[*changedError](err)
		switch {
		case name == "as it was" && err != nil,
			name == "not there" && !errors.Is(err, ErrNoObject),
			name != "as it was" && name != "not there" && !changed:
			t.Errorf("%s: %v", name, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Every bit counts: what is read of a damaged object never ends in io.EOF.
func TestFlippedBits(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 200_000, 1)
	for name, sealing := range ways {
		b := newMemoryBucket()
		f := openOn(t, b, nil, func(o *Options) { o.Seal, o.Keys = sealing, keys })
		if _, err := f.store(t.Context(), sized(edge, data), runs(t, data)); err != nil {
			t.Fatal(err)
		}
		o := f.of(edge)[0]
		object := b.objects[o.Key].data
		for range 100 {
			bit := rand.IntN(8 * len(object))
			object[bit/8] ^= 1 << (bit % 8)
			got, err := f.read(t.Context(), edge)
			if err == nil {
				t.Errorf("%s: bit %d of %d is not missed; read %d bytes", name, bit, 8*len(object), len(got))
			} else if !strings.Contains(err.Error(), "a/"+edge.To.String()) {
				t.Errorf("%s: the error does not name the object: %v", name, err)
			}
			object[bit/8] ^= 1 << (bit % 8)
		}
		if got, err := f.read(t.Context(), edge); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
		}
	}
}

// Of several objects the smallest is taken that can be opened.
func TestOpenTakesTheBest(t *testing.T) {
	ways, keys := sealings(t)
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 200_000, 1)
	b := newMemoryBucket()
	for i, name := range []string{"plain", "zstd", "age", "zstd and age"} {
		f := openOn(t, b, nil, func(o *Options) { o.Seal = ways[name] })
		want := sized(edge, data)
		want.Path = fmt.Sprint("at", i)
		if _, err := f.store(t.Context(), want, runs(t, data)); err != nil {
			t.Fatal(err)
		}
	}
	set := func(part, class string) {
		for key, o := range b.objects {
			if strings.HasSuffix(key, part) {
				o.cold, o.class = class != "", class
				b.objects[key] = o
			}
		}
	}
	open := func(k seal.Keys) (string, snapshot.Size, error) {
		t.Helper()
		f := openOn(t, b, nil, func(o *Options) { o.Keys = k })
		if _, err := f.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		in, err := f.Open(t.Context(), store.Request{Edge: edge})
		if err != nil {
			return "", snapshot.Size{}, err
		}
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("read back %d bytes of %d: %v", len(got), len(data), err)
		}
		p := in.(*plainStream)
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		return p.o.Key[len("pre/fix/"):len("pre/fix/at0")], in.(store.Lengthy).Length(), nil
	}
	length := snapshot.ExactSize(int64(len(data)))
	for _, c := range []struct {
		cold []string
		keys seal.Keys
		want string
	}{
		{nil, keys, "at1"},
		{[]string{".zst"}, keys, "at3"},
		{[]string{".zst", ".age"}, keys, "at0"},
		{[]string{".zst"}, seal.Keys{}, "at0"},
	} {
		for _, s := range c.cold {
			set(s, "GLACIER")
		}
		if got, size, err := open(c.keys); got != c.want || err != nil || size != length {
			t.Errorf("with %v in cold storage: %s of %v, want %s: %v", c.cold, got, size, c.want, err)
		}
		for _, s := range c.cold {
			set(s, "")
		}
	}
	for _, s := range []string{".zst", ".age", "None"} {
		set(s, "GLACIER")
	}
	if _, _, err := open(keys); err == nil {
		t.Error("opened what is in cold storage")
	} else if _, ok := errors.AsType[*ColdError](err); !ok {
		t.Errorf("all in cold storage: %v", err)
	}
	set(".age", "")
	if _, _, err := open(seal.Keys{}); err == nil {
		t.Error("opened what is encrypted without a key")
	} else {
		t.Log(err)
	}
	f := openOn(t, b, nil, nil)
	if _, err := f.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: id(9)}}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("opening what is not there: %v", err)
	}
}

// What has no manifest is read all the same, and so is what has a broken one.
func TestWithoutManifest(t *testing.T) {
	edge := snapshot.Edge{To: id(1)}
	data := streamOf(t, edge, 200_000, 1)
	for name, text := range map[string][]byte{"none": nil, "broken": []byte("{"), "another's": []byte("{}")} {
		b := newMemoryBucket()
		key := "pre/fix/a/" + edgeName(edge, seal.Form{})
		b.objects[key] = memoryObject{data: data, tag: "x"}
		if text != nil {
			b.objects[manifestKey(key)] = memoryObject{data: text, tag: "y"}
		}
		f := openOn(t, b, nil, nil)
		if _, err := f.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := f.read(t.Context(), edge)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back %d bytes of %d: %v", name, len(got), len(data), err)
		}
		if warned := strings.Contains(f.log.String(), "cannot be used"); warned != (text != nil) {
			t.Errorf("%s: log %s", name, f.log)
		}
	}
}
