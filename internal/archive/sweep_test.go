package archive

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

var sweeps = flag.Int("sweeps", 1000, "how many random runs of machines that store and sweep at the same time")

// sweep removes snapshots by their paths and returns what became of them.
func sweep(t testing.TB, s *Store, paths ...string) map[string]error {
	t.Helper()
	inv := mustList(t, s)
	var all []snapshot.Snapshot
	for _, p := range paths {
		all = append(all, at(t, inv, p))
	}
	fates := map[string]error{}
	if err := s.Sweep(t.Context(), all, func(snap snapshot.Snapshot, err error) {
		if _, twice := fates[snap.Path]; twice {
			t.Errorf("%s is told twice", snap.Path)
		}
		fates[snap.Path] = err
	}); err != nil {
		t.Fatal(err)
	}
	if len(fates) != len(paths) {
		t.Errorf("%d of %d are told", len(fates), len(paths))
	}
	return fates
}

func TestSweep(t *testing.T) {
	const none = "None"
	ids := map[string]string{"A": uuidA, "B": uuidB, "C": uuidC, "D": "01000000-0000-0000-0000-000000000000", none: none}
	for _, tt := range []struct {
		name    string
		edges   []string // to and from
		remove  []string
		removed []string
	}{
		{"a chain from its end", []string{"A None", "B A", "C B"}, []string{"B", "C"}, []string{"B", "C"}},
		{"the whole", []string{"A None", "B A", "C B"}, []string{"A", "B", "C"}, []string{"A", "B", "C"}},
		{"the beginning of a chain", []string{"A None", "B A", "C B"}, []string{"A"}, nil},
		{"the middle of a chain", []string{"A None", "B A", "C B", "D A"}, []string{"B", "D"}, []string{"D"}},
		{"a way around", []string{"A None", "B A", "C B", "C None"}, []string{"A", "B"}, []string{"A", "B"}},
		{"one of two ways", []string{"A None", "B None", "C A", "C B"}, []string{"A"}, []string{"A"}},
		{"one of two ways is enough", []string{"A None", "B None", "D A", "C B", "C D"}, []string{"A", "B", "D"}, []string{"A", "D"}},
		{"what is broken already", []string{"A None", "C D"}, []string{"A"}, []string{"A"}},
		{"no snapshots", []string{"A None"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bucket := newMemoryBucket()
			for _, e := range tt.edges {
				to, from, _ := strings.Cut(e, " ")
				bucket.put("p/"+to+"/"+ids[to]+"_"+ids[from], 10)
			}
			before := bucket.has("p/")
			var removed, stay []string
			for p, err := range sweep(t, open(t, bucket, "p"), tt.remove...) {
				if err == nil {
					removed = append(removed, p)
				}
			}
			slices.Sort(removed)
			if diff := gocmp.Diff(tt.removed, removed); diff != "" {
				t.Error(diff)
			}
			for _, key := range before {
				if !slices.Contains(removed, strings.Split(key, "/")[1]) {
					stay = append(stay, key)
				}
			}
			if diff := gocmp.Diff(stay, bucket.has("p/")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSweepPutsBack: an increment that comes meanwhile gets back what it needs,
// with all that belongs to it.
// TestSweepElsewhere: what is below another prefix of the bucket can need what is
// to go, as where ButterSink has stored both.
func TestSweepElsewhere(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p1/A/"+uuidA+"_None", 5)
	bucket.put("p1/C/"+uuidC+"_None", 5)
	bucket.put("p2/B/"+uuidB+"_"+uuidA, 5)
	fates := sweep(t, open(t, bucket, "p1"), "A", "C")
	if needed, ok := errors.AsType[*neededError](fates["A"]); !ok || !strings.Contains(needed.Error(), "/p2/B") || fates["C"] != nil {
		t.Errorf("%v", fates)
	}
	if inv := mustList(t, open(t, bucket, "p2")); len(inv.Warnings) > 0 || len(inv.Edges) != 2 {
		t.Errorf("%+v", inv)
	}
}

func TestSweepPutsBack(t *testing.T) {
	bucket := newMemoryBucket()
	for _, key := range []string{
		"p/A/" + uuidA + "_None", "p/A/" + uuidA + "_None.json", "p/A.bs", "p/B/" + uuidB + "_" + uuidA, "p/C/" + uuidC + "_None",
	} {
		bucket.put(key, 10)
	}
	bucket.hook = func(op, key string) error {
		if op == "Delete" && key == "p/A/"+uuidA+"_None" {
			bucket.put("p/new/01000000-0000-0000-0000-000000000000_"+uuidB, 10)
		}
		return nil
	}
	before := bucket.has("p/")
	fates := sweep(t, open(t, bucket, "p"), "A", "B", "C")
	if fates["C"] != nil {
		t.Error(fates["C"])
	}
	for _, p := range []string{"A", "B"} {
		if _, ok := errors.AsType[*neededError](fates[p]); !ok || !strings.Contains(fates[p].Error(), "new needs it") {
			t.Errorf("%s: %v", p, fates[p])
		}
	}
	bucket.put("p/C/"+uuidC+"_None", 10)
	if diff := gocmp.Diff(append(before, "p/new/01000000-0000-0000-0000-000000000000_"+uuidB), bucket.has("p/")); diff != "" {
		t.Error(diff)
	}
}

// TestSweepFails: what cannot be put back is told, as an error of the sweep too,
// and the next sweep tries again.
func TestSweepFails(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_None", 10)
	full := errors.New("the disk is full")
	bucket.hook = func(op, key string) error {
		switch {
		case op == "Delete" && key == "p/A/"+uuidA+"_None":
			bucket.put("p/new/"+uuidB+"_"+uuidA, 10)
		case op == "Copy" && key == "trash/p/A/"+uuidA+"_None":
			return full
		}
		return nil
	}
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	var fate error
	if err := s.Sweep(t.Context(), inv.Snapshots, func(_ snapshot.Snapshot, err error) { fate = err }); !errors.Is(err, full) || !errors.Is(fate, full) {
		t.Errorf("%v, %v", err, fate)
	}
	bucket.hook = nil
	if err := s.Sweep(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	if inv := mustList(t, s); len(inv.Snapshots) != 2 || len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
}

// TestSweepStopped: one that is told to end puts back what is needed first.
func TestSweepStopped(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("p/A/"+uuidA+"_None", 10)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	bucket.hook = func(op, key string) error {
		if op == "Delete" && key == "p/A/"+uuidA+"_None" {
			bucket.put("p/new/"+uuidB+"_"+uuidA, 10)
			cancel(stop)
		}
		return nil
	}
	s := open(t, bucket, "p")
	inv := mustList(t, s)
	if err := s.Sweep(ctx, inv.Snapshots, nil); !errors.Is(err, stop) {
		t.Error(err)
	}
	if inv := mustList(t, s); len(inv.Snapshots) != 2 || len(inv.Warnings) > 0 {
		t.Errorf("%+v", inv)
	}
}

// TestRefusedProperty: what is refused is what would leave something without a
// chain, and no more than one chain of each.
func TestRefusedProperty(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		bucket := newMemoryBucket()
		n := 1 + r.IntN(9)
		randomGraph(r, bucket, n, 0.3)
		s := open(t, bucket, "p")
		_, c, err := s.scan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g := newGraph(c)
		going := map[spot]bool{}
		for i := range c.entries {
			if r.IntN(2) == 0 {
				going[spot{c.entries[i].to, c.paths[c.entries[i].path]}] = true
			}
		}
		fates := g.refused(going)
		skip := func(e *entry) bool {
			at := spot{e.to, c.paths[e.path]}
			return going[at] && fates[at] == nil
		}
		before, after := g.rooted(nil), g.rooted(skip)
		for i := range g.start {
			if before[i] && !after[i] && g.inside(i, skip) {
				t.Fatalf("seed %d: %s has lost its chain", seed, g.name(i))
			}
		}
		if len(fates) == 0 {
			continue
		}
		all := g.rooted(func(e *entry) bool { return going[spot{e.to, c.paths[e.path]}] })
		hurt := false
		for i := range g.start {
			hurt = hurt || before[i] && !all[i] && g.inside(i, func(e *entry) bool { return going[spot{e.to, c.paths[e.path]}] })
		}
		if !hurt {
			t.Fatalf("seed %d: %v for nothing", seed, fates)
		}
	}
}

// randomGraph stores snapshots 1 to n, of which each has a chain, some at two
// paths.
func randomGraph(r *rand.Rand, b *memoryBucket, n int, full float64) {
	for i := 1; i <= n; i++ {
		for range 1 + r.IntN(2) {
			e := snapshot.Edge{To: snapshot.ID{byte(i)}}
			if i > 1 && r.Float64() > full {
				e.From = snapshot.ID{byte(1 + r.IntN(i-1))}
			}
			p := fmt.Sprintf("s%d", i)
			if r.IntN(6) == 0 {
				p = "copy/" + p
			}
			b.put(streamKey("p", p, e, forms[r.IntN(2)]), 1+r.IntN(100))
		}
	}
}

// turns lets one call to a bucket go on at a time, in an order that depends on
// nothing but chance.
type turns struct {
	mu      sync.Mutex
	waiting []*turn
	dead    map[string]bool
}

type turn struct {
	agent, what string
	granted     chan struct{}
}

type agentKey struct{}

var errDead = errors.New("this machine is dead")

func (q *turns) step(ctx context.Context, op, key string) error {
	agent, ok := ctx.Value(agentKey{}).(string)
	if !ok {
		return nil
	}
	x := &turn{agent, op + " " + key, make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, x)
	q.mu.Unlock()
	<-x.granted
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead[agent] {
		return errDead
	}
	return nil
}

// run lets the calls go on until there are no more. It returns what happened.
func (q *turns) run(r *rand.Rand, dies map[string]int) (history []string) {
	last := ""
	for {
		synctest.Wait()
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.mu.Unlock()
			return history
		}
		slices.SortFunc(q.waiting, func(a, b *turn) int { return cmp.Or(cmp.Compare(a.agent, b.agent), cmp.Compare(a.what, b.what)) })
		i := r.IntN(len(q.waiting))
		if r.IntN(3) > 0 {
			// Runs of calls by one machine reach states that fair turns do not.
			if j := slices.IndexFunc(q.waiting, func(x *turn) bool { return x.agent == last }); j >= 0 {
				i = j
			}
		}
		x := q.waiting[i]
		last = x.agent
		if n, mortal := dies[x.agent]; mortal {
			dies[x.agent] = n - 1
			q.dead[x.agent] = n <= 0
		}
		if !q.dead[x.agent] {
			history = append(history, x.agent+": "+x.what)
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.mu.Unlock()
		close(x.granted)
	}
}

// TestSweepProperty: machines store increments of random snapshots and sweep
// random ones, and their calls to the bucket are mixed at random. At the end
// everything that is there has a chain, and everything is there that nobody has
// removed. When some of them die in the middle, the next sweep sees to that.
func TestSweepProperty(t *testing.T) {
	var stored, backed, removed, needed int
	for seed := range uint64(*sweeps) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			bucket := newMemoryBucket()
			bucket.page = 1 + r.IntN(8)
			n := 2 + r.IntN(5)
			randomGraph(r, bucket, n, 0.2)
			q := &turns{dead: map[string]bool{}}
			bucket.step = q.step

			var mu sync.Mutex
			kept, swept := map[snapshot.ID]bool{}, map[snapshot.ID]bool{}
			for i := range n {
				kept[snapshot.ID{byte(i + 1)}] = true
			}
			var agents sync.WaitGroup
			dies := map[string]int{}
			for i := range 4 {
				name := fmt.Sprintf("machine %d", i)
				ctx := context.WithValue(t.Context(), agentKey{}, name)
				if r.IntN(6) == 0 {
					dies[name] = r.IntN(60)
				}
				chance := rand.New(rand.NewPCG(seed, uint64(10+i)))
				agents.Go(func() {
					s, err := Open(ctx, bucket, Options{Prefix: "p"})
					if err != nil {
						t.Error(err)
						return
					}
					for round := range 2 {
						if i < 2 {
							x := snapshot.ID{100, byte(i), byte(round)}
							err := storeIncrement(ctx, s, chance, x)
							mu.Lock()
							if err == nil {
								stored++
								kept[x] = true
							} else if _, ok := errors.AsType[*store.ParentError](err); ok {
								backed++
							} else if !errors.Is(err, errDead) {
								t.Errorf("seed %d: %v", seed, err)
							}
							mu.Unlock()
							continue
						}
						err := sweepSome(ctx, s, chance, func(snap snapshot.Snapshot, err error) {
							mu.Lock()
							defer mu.Unlock()
							swept[snap.ID] = true
							switch _, ok := errors.AsType[*neededError](err); {
							case err == nil:
								removed++
							case ok:
								needed++
							case !errors.Is(err, errDead) && !errors.Is(err, store.ErrNotFound):
								t.Errorf("seed %d: %v", seed, err)
							}
						})
						if err != nil && !errors.Is(err, errDead) {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			history := q.run(r, maps.Clone(dies))
			agents.Wait()
			s := open(t, bucket, "p")
			if len(dies) > 0 {
				if err := s.Sweep(t.Context(), nil, nil); err != nil {
					t.Fatal(err)
				}
			}
			inv := mustList(t, s)
			bad := slices.Clone(inv.Warnings)
			for id := range kept {
				if _, ok := inv.Find(id); !ok && !swept[id] {
					bad = append(bad, "lost, and nobody has removed it: "+id.String())
				}
			}
			if len(bad) > 0 {
				t.Errorf("seed %d: %s\n%s", seed, strings.Join(bad, "\n"), strings.Join(history, "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d increments stored, %d taken back; %d snapshots removed, %d needed", stored, backed, removed, needed)
	if *sweeps >= 1000 && min(stored, backed, removed, needed) < 20 {
		t.Error("chance has not met enough of each case")
	}
}

// storeIncrement stores an increment from a random snapshot as a writer does.
func storeIncrement(ctx context.Context, s *Store, r *rand.Rand, x snapshot.ID) error {
	inv, err := s.List(ctx)
	if err != nil || len(inv.Snapshots) == 0 {
		return cmp.Or(err, errDead)
	}
	from := inv.Snapshots[r.IntN(len(inv.Snapshots))]
	o := &stored{Object: Object{Size: 10}, Edge: snapshot.Edge{To: x, From: from.ID}, Path: "x" + x.String()}
	o.Key = s.canonical(o.Path, o.Edge, o.Form)
	if err := s.bucket.Put(ctx, o.Key, []byte("0123456789"), true); err != nil {
		return err
	}
	return s.stays(ctx, o)
}

func sweepSome(ctx context.Context, s *Store, r *rand.Rand, removed func(snapshot.Snapshot, error)) error {
	inv, err := s.List(ctx)
	if err != nil {
		return err
	}
	var all []snapshot.Snapshot
	for _, snap := range inv.Snapshots {
		for _, c := range append([]snapshot.Snapshot{snap}, snap.Copies...) {
			if r.IntN(2) == 0 {
				all = append(all, c)
			}
		}
	}
	return s.Sweep(ctx, all, removed)
}
