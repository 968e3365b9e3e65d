package job

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

const (
	// searching is how long estimates of the candidates for a plan may take. What
	// is not known by then, the plan guesses from the listing.
	searching = 5 * time.Second
	// settling is how long estimates may take altogether, with those of the steps
	// of the plan: a step of unknown length is not sent beside others, and has no
	// end that can be foretold.
	settling = 20 * time.Second
	// replans bounds how often measuring makes the plan anew.
	replans = 5
)

// sizes gathers how long streams of the source are: what the ledger and the
// files beside the snapshots say, what a search of the metadata estimates, and
// what has been measured.
type sizes struct {
	engine   *Engine
	measurer store.Measurer // nil if the source is none
	o        SyncOptions
	begun    time.Time // when estimating did

	mu    sync.Mutex
	edges map[snapshot.Edge]snapshot.Size // without clone sources
	// cloned has the sizes of streams with clone sources.
	cloned map[formed]snapshot.Size
	tried  map[snapshot.Edge]bool // estimated, with success or not
	// decided tells the sizes with which the last plan was made: what is learned of
	// its steps afterwards belongs to the next one.
	decided plan.Sizes
	// kept is what the source has noted beside its snapshots.
	kept map[snapshot.Edge]int64
}

func (e *Engine) newSizes(ctx context.Context, src store.Store, w *world, o SyncOptions) *sizes {
	z := &sizes{
		engine: e, o: o, begun: time.Now(),
		edges: map[snapshot.Edge]snapshot.Size{}, cloned: map[formed]snapshot.Size{}, tried: map[snapshot.Edge]bool{},
	}
	z.measurer, _ = src.(store.Measurer)
	// An archive knows its streams anyway; of the others only those of what goes
	// are passed on, and each note there is costs a request.
	var paths []string
	if w.holds.Archive {
		for _, id := range w.wish.Want {
			if snap, ok := w.holds.Find(id); ok {
				if there, ok := w.has.Find(id); !ok || there.Outside {
					paths = append(paths, snap.Path)
				}
			}
		}
	}
	if keeper, ok := src.(store.SizeKeeper); ok && (!w.holds.Archive || len(paths) > 0) {
		kept, err := keeper.KnownSizes(ctx, paths...)
		if err != nil && ctx.Err() == nil {
			e.log().Warn("the sizes beside the snapshots cannot be read", "store", src.String(), "error", err)
		}
		z.kept = kept
		// Somebody's streams of these edges were so long; ours may differ a little.
		for edge, n := range kept {
			z.edges[edge] = snapshot.AboutSize(n)
		}
	}
	for _, stored := range w.holds.Edges {
		z.edges[stored.Edge] = stored.Size
	}
	return z
}

// decide makes what is known now what a plan is made with.
func (z *sizes) decide() {
	known := maps.Clone(z.edges)
	z.decided = func(e snapshot.Edge) snapshot.Size { return known[e] }
}

// of tells what is known now.
func (z *sizes) of(e snapshot.Edge) snapshot.Size {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.edges[e]
}

// look finds the sizes of edges, the first ones first, as long as time allows:
// until so long after estimating began.
func (z *sizes) look(ctx context.Context, edges []snapshot.Edge, allowed time.Duration) error {
	if z.measurer == nil {
		return nil
	}
	todo := slices.DeleteFunc(slices.Clone(edges), func(e snapshot.Edge) bool { return z.tried[e] || z.edges[e].Exact })
	z.recall(todo)
	todo = slices.DeleteFunc(todo, func(e snapshot.Edge) bool { return z.edges[e].Known })
	limited, stop := context.WithDeadline(ctx, z.begun.Add(allowed))
	defer stop()
	next := make(chan snapshot.Edge)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(todo)) {
		workers.Go(func() {
			for e := range next {
				z.estimate(limited, e)
			}
		})
	}
	for _, e := range todo {
		if limited.Err() != nil {
			break
		}
		next <- e // they end with limited
	}
	close(next)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

const (
	// glance is how long estimates of second guesses may take in any case.
	glance = 300 * time.Millisecond
	// pace is how fast streams go between two directories of one machine, in
	// bytes a second, when things are well.
	pace = 200 << 20
)

// consider finds the sizes of the candidates for a plan: of the best guess for
// each snapshot, and of the others as long as it is likely to pay. What is kept
// at an archive costs for years; elsewhere the search may take a tenth of the
// time that the sending is expected to take.
func (z *sizes) consider(ctx context.Context, candidates []snapshot.Edge, archive bool) error {
	var first, others []snapshot.Edge
	guessed := map[snapshot.ID]bool{}
	for _, e := range candidates {
		if guessed[e.To] {
			others = append(others, e)
			continue
		}
		guessed[e.To] = true
		first = append(first, e)
	}
	if err := z.look(ctx, first, searching); err != nil {
		return err
	}
	allowed := searching
	if !archive {
		var expected int64
		for _, e := range first {
			expected += z.of(e).Bytes
		}
		worth := time.Duration(expected/pace) * time.Second / 10
		allowed = min(searching, time.Since(z.begun)+max(glance, worth))
	}
	return z.look(ctx, others, allowed)
}

// recall asks the ledger for edges without clone sources.
func (z *sizes) recall(edges []snapshot.Edge) {
	if z.engine.Ledger == nil || len(edges) == 0 {
		return
	}
	forms := map[string][]snapshot.Edge{}
	for _, e := range edges {
		form := z.measurer.Form(store.Request{Edge: e})
		forms[form] = append(forms[form], e)
	}
	for form, edges := range forms {
		known, err := z.engine.Ledger.Sizes(form, edges)
		if err != nil {
			z.engine.log().Warn("looking up sizes", "error", err)
			return
		}
		maps.Copy(z.edges, known)
	}
}

func (z *sizes) estimate(ctx context.Context, e snapshot.Edge) {
	size, err := z.measurer.Estimate(ctx, store.Request{Edge: e})
	if err != nil && ctx.Err() != nil {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.tried[e] = true
	if err != nil {
		z.engine.log().Debug("the size of a stream cannot be estimated", "to", e.To, "from", e.From, "error", err)
		return
	}
	z.edges[e] = size
}

// remembered tells of a request with clone sources what was learned before, in
// this run or according to the ledger.
func (z *sizes) remembered(r store.Request) snapshot.Size {
	if size := z.cloned[formed{r.Edge, z.measurer.Form(r)}]; size.Known {
		return size
	}
	if z.engine.Ledger == nil {
		return snapshot.Size{}
	}
	size, err := z.engine.Ledger.Size(r.Edge, z.measurer.Form(r))
	if err != nil {
		z.engine.log().Warn("looking up a size", "error", err)
	}
	return size
}

// settle gives the steps of a plan their sizes, exactly if measuring, and
// reports whether so much has turned out to be otherwise that another plan may
// be better.
func (z *sizes) settle(ctx context.Context, p *plan.Plan, measuring bool) (surprised bool, err error) {
	var planned []snapshot.Edge
	for _, step := range p.Steps {
		if step.Action == plan.Send {
			planned = append(planned, step.Edge)
		}
	}
	if err := z.look(ctx, planned, settling); err != nil {
		return false, err
	}
	if z.o.MaxFull > 0 {
		// Whether these go at all depends on their sizes, so they are worth any
		// time.
		for _, e := range planned {
			if e.IsFull() && z.measurer != nil && !z.of(e).Known {
				z.estimate(ctx, e)
			}
		}
	}
	var about, found int64
	for i := range p.Steps {
		step := &p.Steps[i]
		if step.Action != plan.Send {
			continue
		}
		about += z.of(step.Edge).Bytes
		step.Size = z.step(ctx, *step, measuring)
		found += step.Size.Bytes
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	if measuring && about > 0 {
		z.engine.log().Debug(fmt.Sprintf("measured size (%d), estimated size (%d)", found, about))
	}
	return measuring && found > about+about/5, nil
}

// about is how long the stream of an edge will be, as far as a search tells it soon.
func (e *Engine) about(ctx context.Context, src store.Store, edge snapshot.Edge) snapshot.Size {
	z := &sizes{engine: e, begun: time.Now(), edges: map[snapshot.Edge]snapshot.Size{}, tried: map[snapshot.Edge]bool{}}
	z.measurer, _ = src.(store.Measurer)
	if err := z.look(ctx, []snapshot.Edge{edge}, searching); err != nil {
		return snapshot.Size{} // the run is over, as whoever goes on with it finds
	}
	return z.of(edge)
}

// step finds the size of one step, which is unknown if it cannot be had.
func (z *sizes) step(ctx context.Context, step plan.Step, measuring bool) snapshot.Size {
	r := request(step)
	size := z.of(step.Edge)
	if z.measurer == nil {
		return size
	}
	if len(r.Clones) > 0 {
		if known := z.remembered(r); known.Known && (known.Exact || !measuring) {
			z.learn(r, known)
			return known
		}
		size.Exact = false // it is less, or the same
	}
	if !measuring || size.Exact {
		return size
	}
	if z.o.Measuring != nil {
		z.o.Measuring(step)
	}
	measured, err := z.measurer.Measure(ctx, r)
	if err != nil {
		if ctx.Err() == nil {
			z.engine.log().Warn("the size of a step cannot be told", "snapshot", step.Path, "error", err)
		}
		return size
	}
	z.learn(r, measured)
	if !z.o.DryRun {
		z.engine.remember(step.Edge, z.measurer.Form(r), measured)
	}
	return measured
}

// learn notes what is known now of the stream of a request. For the planner,
// which knows nothing of clone sources, that is about what it is without them.
func (z *sizes) learn(r store.Request, size snapshot.Size) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(r.Clones) == 0 {
		z.edges[r.Edge] = size
		return
	}
	z.cloned[formed{r.Edge, z.measurer.Form(r)}] = size
	if !z.edges[r.Edge].Exact {
		z.edges[r.Edge] = snapshot.AboutSize(size.Bytes)
	}
}

// formed is an edge whose stream is made in a certain way (store.Measurer.Form).
type formed struct {
	snapshot.Edge
	form string
}

// request is what a step asks of the source.
func request(step plan.Step) store.Request {
	r := store.Request{Edge: step.Edge}
	for _, c := range step.Clones {
		r.Clones = append(r.Clones, c.ID)
	}
	return r
}

// passOn notes at the destination what the source has noted about the streams
// that make a snapshot that has just come there.
func (z *sizes) passOn(ctx context.Context, dst store.Store, step plan.Step) {
	keeper, ok := dst.(store.SizeKeeper)
	if !ok {
		return
	}
	known := map[snapshot.Edge]int64{}
	for e, n := range z.kept {
		if e.To == step.Edge.To {
			known[e] = n
		}
	}
	if len(known) == 0 {
		return
	}
	if err := keeper.KeepSizes(ctx, step.Path, known); err != nil {
		z.engine.log().Warn("the sizes of a snapshot cannot be noted beside it", "error", err)
	}
}

// carried remembers the length of a stream that has been carried as a whole.
func (z *sizes) carried(r transfer.Result) {
	if z.measurer != nil {
		z.engine.remember(r.Step.Edge, z.measurer.Form(r.Request), snapshot.ExactSize(r.Bytes))
	}
}

// note adds what has been measured to what the source keeps. An archive measures
// nothing: what it says is how long its objects are, sealed or not.
func (z *sizes) note(ctx context.Context, src store.Store, holds *snapshot.Inventory) {
	keeper, ok := src.(store.SizeKeeper)
	if !ok || z.measurer == nil || z.o.DryRun {
		return
	}
	if z.o.noting != nil {
		z.o.noting.Lock()
		defer z.o.noting.Unlock()
	}
	measured := map[string]map[snapshot.Edge]int64{}
	for e, size := range z.edges {
		if !size.Exact || e.IsFull() || z.kept[e] == size.Bytes {
			continue
		}
		snap, ok := holds.Find(e.To)
		if !ok || snap.Outside {
			continue
		}
		if measured[snap.Path] == nil {
			measured[snap.Path] = map[snapshot.Edge]int64{}
		}
		measured[snap.Path][e] = size.Bytes
	}
	for path, sizes := range measured {
		if err := keeper.KeepSizes(ctx, path, sizes); err != nil {
			// A source that may only be read refuses all, in each run; the ledger has
			// them anyway.
			z.engine.log().Debug("measured sizes cannot be noted beside a snapshot", "error", err)
			continue
		}
		if z.kept == nil {
			z.kept = map[snapshot.Edge]int64{}
		}
		maps.Copy(z.kept, sizes)
	}
}
