package job

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// vault is an archive of which only the listing counts: streams without content.
type vault struct {
	*storetest.Memory // for its notes
	edges             []snapshot.Edge
	paths             map[snapshot.ID]string
}

func newVault() *vault {
	return &vault{Memory: storetest.NewMemory("vault"), paths: map[snapshot.ID]string{}}
}

func (v *vault) List(context.Context) (*snapshot.Inventory, error) {
	inv := &snapshot.Inventory{Archive: true}
	for id, p := range v.paths {
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: id, Path: p})
	}
	slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return compareIDs(a.ID, b.ID) })
	for _, e := range v.edges {
		inv.Edges = append(inv.Edges, snapshot.Stored{Edge: e, Size: snapshot.ExactSize(1000)})
	}
	return inv, nil
}

// Remove is as blind as a bucket.
func (v *vault) Remove(_ context.Context, s snapshot.Snapshot) error {
	if v.paths[s.ID] != s.Path {
		return fmt.Errorf("removing %s: %w", s.Path, store.ErrNotFound)
	}
	delete(v.paths, s.ID)
	v.edges = slices.DeleteFunc(v.edges, func(e snapshot.Edge) bool { return e.To == s.ID })
	return nil
}

// take stores what a plan says.
func (v *vault) take(t *rapid.T, src *snapshot.Inventory, want []snapshot.ID, maxChain int) {
	has, _ := v.List(context.Background())
	p := plan.Sync(src, has, plan.Wish{Want: want, Linear: true, MaxChain: maxChain}, nil)
	if len(p.Problems) > 0 {
		t.Fatalf("the next increment is not possible: %+v", p.Problems)
	}
	for _, s := range p.Steps {
		v.edges = append(v.edges, s.Edge)
		v.paths[s.Snapshot.ID] = s.Path
	}
}

// someRules draws rules as people have them.
func someRules(t *rapid.T, name string) schedule.Rules {
	n := func(what string, most int) int {
		return rapid.OneOf(rapid.Just(0), rapid.IntRange(1, most)).Draw(t, name+" "+what)
	}
	r := schedule.Rules{
		Last: n("last", 6), Hourly: n("hourly", 10), Daily: n("daily", 7), Weekly: n("weekly", 4), Monthly: n("monthly", 4), Yearly: n("yearly", 2),
	}
	if r.None() {
		r.Last = 2
	}
	if rapid.Bool().Draw(t, name+" young") {
		r.MinAge = time.Duration(rapid.IntRange(1, 10).Draw(t, name+" min-age")) * 24 * time.Hour
	}
	return r
}

// TestRetentionForYears runs a source, a live destination and an archive for long
// times, with destinations that are away and holds that come and go, and looks
// after each run whether anything that stays is worth having.
func TestRetentionForYears(t *testing.T) {
	runs := 20
	if n, err := strconv.Atoi(os.Getenv("BUTTERSINK_RETENTION_RUNS")); err == nil {
		runs = n
	}
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t)
		for range runs {
			s.run(t)
		}
	})
}

type simulation struct {
	now              time.Time
	engine           *Engine
	src, live        *storetest.Memory
	vault            *vault
	here, there, far schedule.Rules
	maxChain         int
	origin           snapshot.ID
	every            time.Duration
	held             map[snapshot.ID]string // held at the source
	common           map[string]snapshot.ID // by destination: the last that it got
}

func newSimulation(t *rapid.T) *simulation {
	s := &simulation{
		now: time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC),
		src: storetest.NewMemory("home"), live: storetest.NewMemory("bk"), vault: newVault(),
		here: someRules(t, "source"), there: someRules(t, "live"), far: someRules(t, "archive"),
		maxChain: rapid.IntRange(1, 9).Draw(t, "max-chain"),
		every:    rapid.SampledFrom([]time.Duration{time.Hour, 7 * time.Hour, 24 * time.Hour, 9 * 24 * time.Hour, 40 * 24 * time.Hour}).Draw(t, "every"),
		held:     map[snapshot.ID]string{}, common: map[string]snapshot.ID{},
	}
	s.src.SetOrigin("home")
	s.origin, _ = s.src.Origin(context.Background())
	s.engine = &Engine{Now: func() time.Time { return s.now }}
	return s
}

func (s *simulation) run(t *rapid.T) {
	ctx := context.Background()
	s.now = s.now.Add(s.every)
	taken, err := s.src.Snapshot(ctx, schedule.Format("", s.now))
	if err != nil {
		t.Fatal(err)
	}
	s.meddle(t)

	// A destination is away today, or there but takes nothing, or gets the newest.
	fates := rapid.SampledFrom([]string{"away", "full", "fine", "fine"})
	liveFate, vaultFate := fates.Draw(t, "live"), fates.Draw(t, "vault")
	if liveFate == "fine" {
		if _, err := s.engine.Sync(ctx, s.src, s.live, SyncOptions{Wanted: func(x snapshot.Snapshot) bool { return x.ID == taken.ID }, Estimate: true}); err != nil {
			t.Fatalf("sending %s: %v", taken.Path, err)
		}
		s.common["live"] = taken.ID
	}
	if vaultFate == "fine" {
		s.vault.take(t, s.list(t, s.src), []snapshot.ID{taken.ID}, s.maxChain)
		s.common["vault"] = taken.ID
	}
	holds := s.list(t, s.src)
	live, vault := Counterpart{ID: "live"}, Counterpart{ID: "vault"}
	if liveFate != "away" {
		live.Has = s.list(t, s.live)
	}
	if vaultFate != "away" {
		vault.Has = s.list(t, s.vault)
	}
	if _, err := updateRegister(ctx, s.src, func(r *register) {
		for _, c := range []Counterpart{live, vault} {
			if id, ok := s.common[c.ID]; ok && c.Has != nil {
				r.setClaim(claim{destination: c.ID, id: id, seen: s.now})
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	prefix := ""
	s.prune(t, s.src, PruneOptions{Rules: s.here, Prefix: &prefix, Origin: s.origin, For: []Counterpart{live, vault}, StaleAfter: 1000 * 24 * time.Hour})
	if liveFate == "fine" {
		s.prune(t, s.live, PruneOptions{Rules: s.there, For: []Counterpart{{ID: "home", Has: holds}}})
	}
	if vaultFate == "fine" {
		s.prune(t, s.vault, PruneOptions{Rules: s.far, Prefix: &prefix, For: []Counterpart{{ID: "home", Has: holds}}})
	}
	s.check(t)
}

// meddle is what people do meanwhile.
func (s *simulation) meddle(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "meddling") {
	case 0:
		all := held(t, s.src)
		h, err := s.engine.Hold(context.Background(), s.src, rapid.SampledFrom(all).Draw(t, "hold"), "")
		if err != nil {
			t.Fatal(err)
		}
		s.held[h.ID] = h.Path
	case 1:
		for id, path := range s.held {
			if _, err := s.engine.Release(context.Background(), s.src, path); err != nil {
				t.Fatal(err)
			}
			delete(s.held, id)
			break
		}
	}
}

func (s *simulation) list(t *rapid.T, st store.Store) *snapshot.Inventory {
	inv, err := st.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// prune prunes and looks at what that has left.
func (s *simulation) prune(t *rapid.T, st store.Store, o PruneOptions) {
	o.Force = true
	before := s.list(t, st)
	r, err := s.engine.Prune(context.Background(), st, o)
	if err != nil {
		t.Fatalf("%s: %v", st, err)
	}
	after := s.list(t, st)
	if len(before.Inside())-len(after.Inside()) != len(r.Removed) {
		t.Fatalf("%s: %d have become %d, and %d were removed", st, len(before.Inside()), len(after.Inside()), len(r.Removed))
	}
	whole := wholeChains(after)
	for _, v := range r.Verdicts {
		_, there := after.Find(v.Snapshot.ID)
		switch {
		case v.Keep != there:
			t.Fatalf("%s: %s: %s", st, v.Snapshot.Path, v.Reason)
		case !v.Keep && !v.Due:
			t.Fatalf("%s: %s went although the rules keep it: %s", st, v.Snapshot.Path, v.Reason)
		case v.Aside:
			t.Fatalf("%s: %s is taken for a stranger: %s", st, v.Snapshot.Path, v.Reason)
		case v.Keep && after.Archive && !whole[v.Snapshot.ID]:
			t.Fatalf("%s: %s stays, and cannot be had back", st, v.Snapshot.Path)
		}
	}
	if again, err := s.engine.Prune(context.Background(), st, o); err != nil || len(again.Removed) > 0 {
		t.Fatalf("%s: a second time: %+v, %v", st, again, err)
	}
}

// check looks at what all of them have now.
func (s *simulation) check(t *rapid.T) {
	src := s.list(t, s.src)
	for id, path := range s.held {
		if _, ok := src.Find(id); !ok {
			t.Fatalf("%s was held and is gone", path)
		}
	}
	for where, id := range s.common {
		if _, ok := src.Find(id); !ok {
			t.Fatalf("what the next increment to %s starts from is gone at the source", where)
		}
	}
	if id, ok := s.common["live"]; ok {
		if _, ok := s.list(t, s.live).Find(id); !ok {
			t.Fatal("what the next increment to the live one starts from is gone there")
		}
	}
	inv := s.list(t, s.vault)
	if id, ok := s.common["vault"]; ok && !wholeChains(inv)[id] {
		t.Fatal("what the next increment to the archive starts from is gone there")
	}
	chain := map[snapshot.ID]int{}
	for grown := true; grown; {
		grown = false
		for _, e := range inv.Edges {
			if n := chain[e.From] + 1; chain[e.To] == 0 && (e.IsFull() || n > 1) {
				chain[e.To], grown = n, true
				if n > s.maxChain {
					t.Fatalf("a chain has %d streams", n)
				}
			}
		}
	}
}

// TestChainsLeaveTogether: in an archive what is due waits for the rest of its
// chain, and going all at once then is no surprise.
func TestChainsLeaveTogether(t *testing.T) {
	const maxChain = 7
	src, dst := storetest.NewMemory("home"), newVault()
	src.SetOrigin("home")
	e := pruner()
	now := e.Now()
	e.Now = func() time.Time { return now }
	most, gone := 0, []int{}
	for range 40 {
		now = now.Add(24 * time.Hour)
		taken, err := src.Snapshot(t.Context(), schedule.Format("", now))
		if err != nil {
			t.Fatal(err)
		}
		holds, has := inventory(t, src), inventory(t, dst)
		for _, s := range plan.Sync(holds, has, plan.Wish{Want: []snapshot.ID{taken.ID}, Linear: true, MaxChain: maxChain}, nil).Steps {
			dst.edges = append(dst.edges, s.Edge)
			dst.paths[s.Snapshot.ID] = s.Path
		}
		r, err := e.Prune(t.Context(), dst, PruneOptions{Rules: last(2), For: []Counterpart{{ID: "home", Has: holds}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Removed) > 0 {
			gone = append(gone, len(r.Removed))
		}
		most = max(most, len(dst.paths))
	}
	if want := slices.Repeat([]int{maxChain}, 5); !slices.Equal(gone, want) || most > 2*maxChain {
		t.Errorf("%v left together, want %v; there were up to %d", gone, want, most)
	}
}
