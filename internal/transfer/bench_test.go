package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

var (
	errLasting   = errors.New("it is broken")
	errTemporary = store.MarkTemporary(errors.New("try again"))
)

// tester is what rapid and testing have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// bench is a source and a destination, both with faults.
type bench struct {
	src, dst             *storetest.Memory
	faultySrc, faultyDst *storetest.Fault
	book                 *book
	events               []Event
	parallel             int
	resuming             bool    // interrupted transfers may stay at the destination
	leaper               *leaper // if set, the source leaves beginnings out
}

func newBench() *bench {
	b := &bench{src: storetest.NewMemory("src"), dst: storetest.NewMemory("dst"), book: &book{open: map[int64]ledger.Receipt{}}}
	b.faultySrc, b.faultyDst = storetest.NewFault(b.src), storetest.NewFault(b.dst)
	return b
}

// list returns what the source has.
func (b *bench) list(t tester) *snapshot.Inventory {
	t.Helper()
	inv, err := b.src.List(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return inv
}

// plan plans a sync of all that the source has.
func (b *bench) plan(t tester) []plan.Step {
	t.Helper()
	src := b.list(t)
	dst, err := b.dst.List(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	var w plan.Wish
	for _, s := range src.Inside() {
		w.Want = append(w.Want, s.ID)
	}
	p := plan.Sync(src, dst, w, nil)
	if len(p.Problems) > 0 {
		t.Fatalf("problems: %+v", p.Problems)
	}
	return p.Steps
}

// run carries out steps, and checks what always has to be true.
func (b *bench) run(ctx context.Context, t tester, steps []plan.Step) *Report {
	t.Helper()
	b.events = nil
	var source store.Store = b.faultySrc
	if b.leaper != nil {
		b.leaper.Fault, source = b.faultySrc, b.leaper
	}
	report := Run(ctx, steps, Options{
		Source: source, Destination: b.faultyDst, Ledger: b.book, Parallel: b.parallel,
		Events: func(e Event) { b.events = append(b.events, e) },
	})
	b.check(t, steps, report)
	return report
}

func (b *bench) check(t tester, steps []plan.Step, report *Report) {
	t.Helper()
	inv, err := b.dst.List(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	// What the destination holds is whole.
	for _, s := range inv.Snapshots {
		if want := b.src.Digest(s.ID); want != "" && b.dst.Digest(s.ID) != want {
			t.Errorf("%s at the destination differs from the source's", s.Path)
		}
	}
	for _, left := range inv.Partials {
		if !b.resuming || !strings.Contains(left.Why, "can be carried on") {
			t.Errorf("left behind: %+v", left)
		}
	}
	if n, m := b.src.Busy(), b.dst.Busy(); n+m > 0 {
		t.Errorf("%d streams and %d writers are still open", n, m)
	}
	// Success is reported exactly where it is.
	if len(report.Results) != len(steps) {
		t.Fatalf("%d results for %d steps", len(report.Results), len(steps))
	}
	var bytes int64
	for i, r := range report.Results {
		s, ok := inv.Find(steps[i].Edge.To)
		ok = ok && !s.Outside && s.Path == steps[i].Path
		if ok != (r.Outcome == Committed) || ok != (r.Err == nil) {
			t.Errorf("%s is reported as %s (%v), and there: %v", steps[i].Path, r.Outcome, r.Err, ok)
		}
		if r.Outcome == Committed {
			bytes += r.Bytes
			if steps[i].Action == plan.Send && (r.Bytes == 0 || r.Bytes != r.Stats.Bytes || r.Stats.Commands == 0) {
				t.Errorf("%s: %d bytes, %+v", steps[i].Path, r.Bytes, r.Stats)
			}
		}
		if r.Resumed < 0 || r.Resumed > r.Bytes || r.Resumed > 0 && !b.resuming {
			t.Errorf("%s: resumed at %d of %d bytes", steps[i].Path, r.Resumed, r.Bytes)
		}
	}
	if (report.Err() == nil) != (report.Count(Committed) == len(steps)) {
		t.Errorf("Err is %v, of %s", report.Err(), outcomes(report))
	}
	if report.Bytes() != bytes {
		t.Errorf("%d bytes in all, want %d", report.Bytes(), bytes)
	}
	b.checkEvents(t, steps, report)
	b.checkReceipts(t, steps, report)
}

// checkEvents holds the events against the grammar in Event.
func (b *bench) checkEvents(t tester, steps []plan.Step, report *Report) {
	t.Helper()
	n := len(b.events)
	if n == 0 || b.events[n-1].Kind != Done || b.events[n-1].Bytes != report.Bytes() {
		t.Fatalf("the last event is not Done: %+v", b.events)
	}
	if e := b.events[n-1]; e.TotalBytes != e.Bytes || e.TotalExpected != e.Bytes || !e.TotalKnown || !e.TotalExact {
		t.Errorf("in the end the totals are %+v", e)
	}
	of := make([][]Event, len(steps))
	last, running := 0, map[int]bool{}
	for _, e := range b.events[:n-1] {
		if e.Step < max(last, 1) && b.parallel <= 1 || e.Step > len(steps) || e.Steps != len(steps) || e.Time.IsZero() || (e.Kind == Progress || e.Kind == Resumed) && e.TotalBytes < e.Bytes {
			t.Fatalf("odd event %+v after step %d", e, last)
		}
		last = e.Step
		switch e.Kind {
		case StepBegun:
			running[e.Step] = true
		case Committed, Failed, Interrupted:
			delete(running, e.Step)
		}
		if len(running) > max(b.parallel, 1) {
			t.Errorf("%d steps at a time", len(running))
		}
		if s := steps[e.Step-1]; e.To != s.Edge.To || e.From != s.Edge.From || e.Path != s.Path || e.Action != s.Action {
			t.Errorf("%+v is not about %+v", e, s)
		}
		if e.Kind != Warning {
			of[e.Step-1] = append(of[e.Step-1], e)
		}
	}
	for i, events := range of {
		b.checkStep(t, steps[i], &report.Results[i], events)
	}
}

// checkStep is checkEvents for the events of one step.
func (b *bench) checkStep(t tester, step plan.Step, r *Result, events []Event) {
	t.Helper()
	switch {
	case len(events) == 0:
		if r.Outcome != Skipped {
			t.Errorf("%s: %s, and no events", step.Path, r.Outcome)
		}
		return
	case len(events) == 1:
		if r.Outcome != Skipped || events[0].Kind != Skipped {
			t.Errorf("%s: %s, and %+v", step.Path, r.Outcome, events)
		}
		return
	}
	tries, bytes, resumed := 1, int64(0), int64(0)
	for j, e := range events {
		switch {
		case j == 0 && e.Kind == StepBegun && e.Reason == step.Reason:
		case j == len(events)-1 && e.Kind == r.Outcome && e.Try == r.Tries && e.Bytes == r.Bytes:
		case j > 0 && e.Kind == Progress && e.Bytes > bytes && e.Try == tries && !(e.Comparing && resumed > 0):
			bytes = e.Bytes
		case j > 0 && e.Kind == Resumed && e.Bytes >= bytes && e.Bytes > 0 && resumed == 0 && e.Try == tries:
			bytes, resumed = e.Bytes, e.Bytes
		case j > 0 && e.Kind == Stalled && e.Bytes >= bytes && e.Wait >= time.Minute:
		case j > 0 && e.Kind == Retry && e.Wait > 0 && e.Try == tries:
			tries, bytes, resumed = tries+1, 0, 0
		case j > 0 && e.Kind == Retry && b.resuming && resumed == 0 && e.Try == tries:
			bytes = 0
		default:
			t.Errorf("%s: event %d is %+v", step.Path, j, e)
		}
		if reason := e.Kind == Retry || e.Kind == Failed || e.Kind == Interrupted || e.Kind == Stalled; reason != (e.Error != "") {
			t.Errorf("%s: %s with error %q", step.Path, e.Kind, e.Error)
		}
	}
	if tries != r.Tries && !(r.Outcome == Interrupted && tries == r.Tries+1) || r.Tries > 3 {
		t.Errorf("%s: %d tries, %d are reported", step.Path, tries, r.Tries)
	}
	if r.Outcome == Committed && resumed != r.Resumed {
		t.Errorf("%s: resumed at %d, %d is reported", step.Path, resumed, r.Resumed)
	}
}

// checkReceipts expects a closed receipt for each step that was begun.
func (b *bench) checkReceipts(t tester, steps []plan.Step, report *Report) {
	t.Helper()
	if b.book.err != nil {
		return
	}
	if len(b.book.open) > 0 {
		t.Errorf("receipts left open: %+v", b.book.open)
	}
	want := map[Kind]ledger.Result{Committed: ledger.Done, Failed: ledger.Failed, Interrupted: ledger.Interrupted}
	var begun []Result
	for _, r := range report.Results {
		if r.Outcome != Skipped {
			begun = append(begun, r)
		}
	}
	if len(begun) != len(b.book.ended) {
		t.Fatalf("%d steps were begun, and there are %d receipts", len(begun), len(b.book.ended))
	}
	for _, r := range begun {
		at := slices.IndexFunc(b.book.ended, func(e ending) bool { return e.r.Edge == r.Step.Edge && e.r.Path == r.Step.Path })
		if at < 0 {
			t.Errorf("no receipt of %s", r.Step.Path)
			continue
		}
		e := b.book.ended[at]
		if e.r.Source != "memory src" || e.r.Destination != "memory dst" || e.r.Edge != r.Step.Edge || e.r.Path != r.Step.Path || !e.r.Begun.Equal(r.Begun) {
			t.Errorf("receipt %+v of %+v", e.r, r)
		}
		if e.o.Result != want[r.Outcome] || e.o.Bytes != r.Bytes || e.o.Commands != r.Stats.Commands || !e.o.Ended.Equal(r.Ended) || (e.o.Message == "") != (r.Err == nil) {
			t.Errorf("outcome %+v of %+v", e.o, r)
		}
	}
	b.book.ended = nil
}

// book is a ledger.
type book struct {
	err   error
	last  int64
	open  map[int64]ledger.Receipt
	ended []ending
}

type ending struct {
	r ledger.Receipt
	o ledger.Outcome
}

func (b *book) Begin(r ledger.Receipt) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.last++
	b.open[b.last] = r
	return b.last, nil
}

func (b *book) End(id int64, o ledger.Outcome) error {
	r, ok := b.open[id]
	if !ok {
		return fmt.Errorf("no receipt %d", id)
	}
	delete(b.open, id)
	b.ended = append(b.ended, ending{r, o})
	return b.err
}

// nothingLeft expects no unfinished things at the destination.
func (b *bench) nothingLeft(t tester) {
	t.Helper()
	if inv, err := b.dst.List(context.Background()); err != nil || len(inv.Partials) > 0 {
		t.Errorf("left behind: %+v, %v", inv.Partials, err)
	}
}

// family adds five snapshots of one family to the source.
func (b *bench) family(name string) {
	for i := range uint64(5) {
		b.src.Add(name, 10+i, fmt.Sprintf("%s/%d", name, i))
	}
}

func requestOf(s plan.Step) store.Request { return store.Request{Edge: s.Edge} }

func outcomes(r *Report) string {
	var s []string
	for _, x := range r.Results {
		s = append(s, string(x.Outcome))
	}
	return strings.Join(s, " ")
}
