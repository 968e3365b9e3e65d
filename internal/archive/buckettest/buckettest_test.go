package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wrapped has its buckets wrapped by wrap.
func wrapped(wrap func(archive.Bucket) archive.Bucket) Harness {
	var mu sync.Mutex
	paths := map[archive.Bucket]string{}
	open := func(t testing.TB, path string) archive.Bucket {
		b, err := dir.Open(path, dir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		w := wrap(b)
		mu.Lock()
		defer mu.Unlock()
		paths[w] = path
		return w
	}
	return Harness{
		New: func(t testing.TB) archive.Bucket { return open(t, t.TempDir()) },
		Again: func(t testing.TB, b archive.Bucket) archive.Bucket {
			mu.Lock()
			path := paths[b]
			mu.Unlock()
			return open(t, path)
		},
	}
}

func TestFaultWithoutRules(t *testing.T) {
	Run(t, wrapped(func(b archive.Bucket) archive.Bucket { return Faulty(b) }))
}

var errTest = errors.New("as ordered")

func faulty(t testing.TB) (*Fault, string) {
	t.Helper()
	path := t.TempDir()
	b, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return Faulty(b), path
}

// TestFaults has each call fail before and after it has been made.
func TestFaults(t *testing.T) {
	drain := func(seq func(func(archive.Object, error) bool)) error {
		for _, err := range seq {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for op, call := range map[Op]func(f *Fault, u archive.Upload) error{
		Stat:   func(f *Fault, _ archive.Upload) error { _, err := f.Stat(t.Context(), "o"); return err },
		List:   func(f *Fault, _ archive.Upload) error { return drain(f.List(t.Context(), "")) },
		Put:    func(f *Fault, _ archive.Upload) error { return f.Put(t.Context(), "p", nil, true) },
		Copy:   func(f *Fault, _ archive.Upload) error { return f.Copy(t.Context(), "o", "p") },
		Delete: func(f *Fault, _ archive.Upload) error { return f.Delete(t.Context(), "o") },
		Begin: func(f *Fault, _ archive.Upload) error {
			_, err := f.Begin(t.Context(), "p", archive.UploadOptions{PartSize: 10})
			return err
		},
		Uploads: func(f *Fault, _ archive.Upload) error {
			for _, err := range f.Uploads(t.Context(), "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		Continue: func(f *Fault, u archive.Upload) error { _, err := f.Continue(t.Context(), u.Unfinished()); return err },
		Parts:    func(_ *Fault, u archive.Upload) error { _, err := u.Parts(t.Context()); return err },
		PutPart:  func(_ *Fault, u archive.Upload) error { _, err := u.Put(t.Context(), 2, body(nil)); return err },
		Complete: func(_ *Fault, u archive.Upload) error {
			parts, err := u.Parts(t.Context())
			if err != nil {
				return err
			}
			_, err = u.Complete(t.Context(), parts)
			return err
		},
		Abort: func(_ *Fault, u archive.Upload) error { return u.Abort(t.Context()) },
		Thaw: func(f *Fault, _ archive.Upload) error {
			_, err := f.Thaw(t.Context(), []string{"o"}, store.ThawOptions{Ask: true})
			return err
		},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(op, late), func(t *testing.T) {
				f, path := faulty(t)
				put(t, f, "o", []byte("x"))
				u := begin(t, f, "u")
				putPart(t, u, 1, []byte("x"))
				before := tree(t, path)
				r := f.On(op)
				if late {
					r.Late()
				}
				calls := f.Calls(op)
				r.Return(errTest)
				if err := call(f, u); !errors.Is(err, errTest) {
					t.Errorf("%s: %v", op, err)
				}
				if f.Calls(op) != calls+1 {
					t.Errorf("%d calls of %s are counted", f.Calls(op)-calls, op)
				}
				changes := slices.Contains([]Op{Put, Copy, Delete, Begin, PutPart, Complete, Abort}, op)
				if changed := tree(t, path) != before; changed != (late && changes) {
					t.Errorf("%s changed something: %v", op, changed)
				}
			})
		}
	}
}

// tree is all that is in a directory.
func tree(t testing.TB, path string) string {
	var all strings.Builder
	err := filepath.WalkDir(path, func(at string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(at)
		fmt.Fprintf(&all, "%s %q\n", at, raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestFaultsCut(t *testing.T) {
	f, _ := faulty(t)
	for i := range 5 {
		put(t, f, fmt.Sprint("o", i), content(1, 1000))
	}
	f.On(Get).Key("o3").Cut(600, errTest)
	holds(t, f, "o2", content(1, 1000))
	in, err := f.Get(t.Context(), "o3", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if raw, err := io.ReadAll(in); !errors.Is(err, errTest) || len(raw) != 600 {
		t.Errorf("%d bytes, and then: %v", len(raw), err)
	}
	holds(t, f, "o3", content(1, 1000))

	f.On(Read).After(1).Return(errTest)
	in, err = f.Get(t.Context(), "o3", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if n, err := in.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("the first Read: %d, %v", n, err)
	}
	if n, err := in.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errTest) {
		t.Errorf("the second Read: %d, %v", n, err)
	}

	f.On(List).Cut(2, errTest)
	n := 0
	for _, err := range f.List(t.Context(), "") {
		if err != nil {
			if !errors.Is(err, errTest) {
				t.Error(err)
			}
			break
		}
		n++
	}
	if n != 2 {
		t.Errorf("a listing that breaks off after 2 gave %d", n)
	}
}

func TestFaultRules(t *testing.T) {
	f, _ := faulty(t)
	done := 0
	f.On(Put).Key("b").After(1).Times(2).Return(errTest)
	f.On(Put).Key("c").Always().Do(func() { done++ })
	got := ""
	for _, key := range []string{"a", "b", "b", "b", "b", "c", "c"} {
		if f.Put(t.Context(), key, nil, false) == nil {
			got += "+"
		} else {
			got += "-"
		}
	}
	if got != "++--+++" || done != 2 {
		t.Errorf("%s, %d", got, done)
	}
	f.On(Stat).Always().Return(errTest)
	f.Reset()
	if _, err := f.Stat(t.Context(), "a"); err != nil {
		t.Errorf("after Reset: %v", err)
	}
}

func TestCaseNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] {
			t.Errorf("two cases are called %q", c.Name)
		}
		seen[c.Name] = true
	}
	t.Logf("%d cases", len(seen))
}

// recorder is a testing.TB that fails in silence.
type recorder struct {
	testing.TB
	ctx      context.Context
	mu       sync.Mutex
	complain []string
	cleanup  []func()
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complain = append(r.complain, s)
}

func (r *recorder) Helper()                        {}
func (r *recorder) Context() context.Context       { return r.ctx }
func (r *recorder) Error(args ...any)              { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any)   { r.note(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)              { r.note(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any)   { r.note(fmt.Sprintf(f, args...)); runtime.Goexit() }
func (r *recorder) Logf(format string, arg ...any) {}
func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanup = append(r.cleanup, f)
}

// verdict runs a case on a harness and returns what it complains about.
func verdict(t *testing.T, c Case, h Harness) []string {
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, f := range slices.Backward(r.cleanup) {
				f()
			}
		}()
		defer cancel()
		c.Run(r, h)
	}()
	<-done
	return r.complain
}
