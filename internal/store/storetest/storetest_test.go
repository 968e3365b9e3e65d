package storetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryHarness has its stores wrapped by wrap.
func memoryHarness(wrap func(*Memory) store.Store) Harness {
	var mu sync.Mutex
	inner := map[store.Store]*Memory{}
	trees := 0
	memory := func(s store.Store) *Memory {
		mu.Lock()
		defer mu.Unlock()
		return inner[s]
	}
	tree := func() string {
		mu.Lock()
		defer mu.Unlock()
		trees++
		return fmt.Sprintf("tree %d", trees)
	}
	return Harness{
		New: func(testing.TB) store.Store {
			m := NewMemory("test")
			s := wrap(m)
			mu.Lock()
			defer mu.Unlock()
			inner[s] = m
			return s
		},
		Again: func(t testing.TB, s store.Store) store.Store { return s },
		Populate: func(t testing.TB, s store.Store, paths ...string) {
			family := tree()
			for i, p := range paths {
				memory(s).Add(family, uint64(100+i), p)
			}
		},
		Digest: func(t testing.TB, s store.Store, x snapshot.Snapshot) string {
			if h := memory(s).at(x.Path, x.Outside); h != nil {
				return h.tree.digest()
			}
			return "nothing"
		},
		Outside: func(t testing.TB, s store.Store) snapshot.ID {
			return memory(s).AddOutside(tree(), 7, "/elsewhere/x").ID
		},
		Leave: func(t testing.TB, s store.Store, path string) { memory(s).AddPartial(path+snapshot.PartSuffix, true) },
		Origin: func(t testing.TB, s store.Store) (store.Store, func()) {
			memory(s).SetOrigin(tree())
			return s, func() {} // it changes by itself
		},
		Leftover: func(t testing.TB, s store.Store, path string) { memory(s).AddLeftover(path) },
		Cold: func(t testing.TB, s store.Store, edges ...snapshot.Edge) func(time.Duration) {
			memory(s).Freeze("GLACIER", edges...)
			return memory(s).Advance
		},
	}
}

func TestMemory(t *testing.T) {
	Run(t, memoryHarness(func(m *Memory) store.Store { return m }))
}

// TestMemoryResumes has checkpoints after every few commands, or hardly any.
func TestMemoryResumes(t *testing.T) {
	for _, every := range []int64{1, 3000, 60_000} {
		t.Run(fmt.Sprint(every), func(t *testing.T) {
			Run(t, memoryHarness(func(m *Memory) store.Store { m.SetCheckpoints(every); return m }))
		})
	}
}

func TestFaultWithoutRules(t *testing.T) {
	Run(t, memoryHarness(func(m *Memory) store.Store { return NewFault(m) }))
}

func TestMemoryReleasesAll(t *testing.T) {
	var all []*Memory
	h := memoryHarness(func(m *Memory) store.Store { all = append(all, m); return m })
	for _, c := range Cases() {
		all = nil
		t.Run(c.Name, func(t *testing.T) {
			t.Run("case", func(t *testing.T) { c.Run(t, h) })
			for _, m := range all {
				if n := m.Busy(); n != 0 {
					t.Errorf("%d streams and writers are still open", n)
				}
			}
		})
	}
}

// recorder is a testing.TB that fails in silence.
type recorder struct {
	testing.TB
	ctx      context.Context
	mu       sync.Mutex
	failed   bool
	skipped  bool
	complain []string
	cleanup  []func()
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.complain = append(r.complain, s)
}

func (r *recorder) Helper()                      {}
func (r *recorder) Context() context.Context     { return r.ctx }
func (r *recorder) Error(args ...any)            { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.note(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)            { r.note(fmt.Sprint(args...)); runtime.Goexit() }

func (r *recorder) Fatalf(f string, args ...any)    { r.note(fmt.Sprintf(f, args...)); runtime.Goexit() }
func (r *recorder) Skip(...any)                     { r.skipped = true; runtime.Goexit() }
func (r *recorder) Skipf(format string, arg ...any) { r.Skip() }
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
