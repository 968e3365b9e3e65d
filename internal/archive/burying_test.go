package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestBuryingProperty: machines store increments and sweep, in a bucket of which
// nothing is to be copied, while others put back and remove for good. At the end
// everything that is there has a chain, and what nobody has removed is there.
func TestBuryingProperty(t *testing.T) {
	var stored, backed, removed, discarded, needed, back int
	for seed := range uint64(*sweeps) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			b := newMemoryBucket()
			b.page = 1 + r.IntN(8)
			n := 2 + r.IntN(4)
			randomGraph(r, b, n, 0.2)
			b.move("GLACIER", b.has("")...)
			q := &turns{dead: map[string]bool{}}
			b.step = q.step

			var mu sync.Mutex
			kept, swept := map[snapshot.ID]bool{}, map[snapshot.ID]bool{}
			for i := range n {
				kept[snapshot.ID{byte(i + 1)}] = true
			}
			expected := func(err error) bool {
				_, wanted := errors.AsType[*neededError](err)
				_, busy := errors.AsType[*beingDeletedError](err)
				return wanted || busy || errors.Is(err, errDead) || errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrNoObject)
			}
			agent := func(ctx context.Context, s *Store, i, round int, chance *rand.Rand) {
				switch {
				case i < 2:
					x := snapshot.ID{100, byte(i), byte(round)}
					err := storeFrozen(ctx, s, b, chance, x)
					mu.Lock()
					defer mu.Unlock()
					q.mu.Lock()
					dead := q.dead[ctx.Value(agentKey{}).(string)] // and could not look any more
					q.mu.Unlock()
					if dead {
						return
					}
					if err == nil {
						stored++
						kept[x] = true
					} else if _, ok := errors.AsType[*store.ParentError](err); ok {
						backed++
					} else if !expected(err) {
						t.Errorf("seed %d: storing: %v", seed, err)
					}
				case i < 4:
					err := sweepSome(ctx, s, chance, func(snap snapshot.Snapshot, err error) {
						mu.Lock()
						defer mu.Unlock()
						swept[snap.ID] = true
						if err == nil {
							removed++
						} else if !expected(err) {
							t.Errorf("seed %d: sweeping: %v", seed, err)
						}
					})
					if err != nil && !expected(err) {
						t.Errorf("seed %d: sweeping: %v", seed, err)
					}
				default:
					all, err := s.Trashed(ctx)
					if err != nil && !errors.Is(err, errDead) {
						t.Errorf("seed %d: %v", seed, err)
					}
					for _, x := range all {
						var err error
						what := &discarded
						if x.Edge.IsFull() && chance.IntN(3) == 0 {
							what = &back
							err = s.Untrash(ctx, x)
						} else {
							err = s.Discard(ctx, x)
						}
						mu.Lock()
						if err == nil {
							*what++
						} else if _, ok := errors.AsType[*neededError](err); ok {
							needed++
						} else if !expected(err) {
							t.Errorf("seed %d: %v", seed, err)
						}
						mu.Unlock()
					}
				}
			}
			var agents sync.WaitGroup
			dies := map[string]int{}
			for i := range 6 {
				name := fmt.Sprintf("machine %d", i)
				ctx := context.WithValue(t.Context(), agentKey{}, name)
				if r.IntN(6) == 0 {
					dies[name] = r.IntN(60)
				}
				chance := rand.New(rand.NewPCG(seed, uint64(10+i)))
				agents.Go(func() {
					s, err := Open(ctx, b, Options{Prefix: "p", Now: b.now})
					if err != nil {
						t.Error(err)
						return
					}
					for round := range 2 {
						agent(ctx, s, i, round, chance)
					}
				})
			}
			history := q.run(r, maps.Clone(dies))
			agents.Wait()
			s := openAt(t, b)
			if len(dies) > 0 {
				if err := s.Sweep(t.Context(), nil, nil); err != nil {
					t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(history, "\n"))
				}
			}
			inv := mustList(t, s)
			var bad []string
			g := newGraph(s.known)
			for n, whole := range g.rooted(nil) {
				// Whoever died before it could look has stored nothing.
				if id := s.known.entries[g.start[n]].to; !whole && kept[id] {
					bad = append(bad, "without a chain: "+g.name(n))
				}
			}
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
	t.Logf("%d increments stored, %d taken back; %d snapshots removed; of what was in the trash %d deleted, %d needed, %d put back", stored, backed, removed, discarded, needed, back)
	if *sweeps >= 1000 && min(stored, backed, removed, discarded, back) < 20 {
		t.Error("chance has not met enough of each case")
	}
}

// storeFrozen stores an increment from a random snapshot, which is in cold storage
// at once.
func storeFrozen(ctx context.Context, s *Store, b *memoryBucket, r *rand.Rand, x snapshot.ID) error {
	inv, err := s.List(ctx)
	if err != nil {
		return err
	}
	if len(inv.Snapshots) == 0 {
		return errDead
	}
	from := inv.Snapshots[r.IntN(len(inv.Snapshots))]
	o := &stored{Object: Object{Size: 10}, Edge: snapshot.Edge{To: x, From: from.ID}, Path: "x" + x.String()}
	o.Key = s.canonical(o.Path, o.Edge, o.Form)
	if err := s.bucket.Put(ctx, o.Key, []byte("0123456789"), true); err != nil {
		return err
	}
	b.move("GLACIER", o.Key)
	if err := s.unburied(ctx, o.Key); err != nil {
		return err
	}
	return s.stays(ctx, o)
}
