package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
}

func newBench() *bench {
	b := &bench{src: storetest.NewMemory("src"), dst: storetest.NewMemory("dst"), book: &book{open: map[int64]ledger.Receipt{}}}
	b.faultySrc, b.faultyDst = storetest.NewFault(b.src), storetest.NewFault(b.dst)
	return b
}

// plan plans a sync of all that the source has.
func (b *bench) plan(t tester) []plan.Step {
	t.Helper()
	src, err := b.src.List(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	dst, err := b.dst.List(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	var w plan.Wish
	for _, s := range src.Inside() {
		w.Want = append(w.Want, s.ID)
	}
	p := plan.Sync(src, dst, w)
	if len(p.Problems) > 0 {
		t.Fatalf("problems: %+v", p.Problems)
	}
	return p.Steps
}

// run carries out steps, and checks what always has to be true.
func (b *bench) run(ctx context.Context, t tester, steps []plan.Step) *Report {
	t.Helper()
	b.events = nil
	report := Run(ctx, steps, Options{
		Source: b.faultySrc, Destination: b.faultyDst, Ledger: b.book,
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
	if len(inv.Partials) > 0 {
		t.Errorf("left behind: %+v", inv.Partials)
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
	if n := len(b.events); n == 0 || b.events[n-1].Kind != Done || b.events[n-1].Bytes != report.Bytes() {
		t.Fatalf("the last event is not Done: %+v", b.events)
	}
	of := make([][]Event, len(steps))
	last := 0
	for _, e := range b.events[:len(b.events)-1] {
		if e.Step < max(last, 1) || e.Step > len(steps) || e.Steps != len(steps) || e.Time.IsZero() {
			t.Fatalf("odd event %+v after step %d", e, last)
		}
		last = e.Step
		if s := steps[e.Step-1]; e.To != s.Edge.To || e.From != s.Edge.From || e.Path != s.Path || e.Action != s.Action {
			t.Errorf("%+v is not about %+v", e, s)
		}
		if e.Kind != Warning {
			of[e.Step-1] = append(of[e.Step-1], e)
		}
	}
	for i, events := range of {
		r := report.Results[i]
		switch {
		case len(events) == 0:
			if r.Outcome != Skipped {
				t.Errorf("step %d: %s, and no events", i+1, r.Outcome)
			}
			continue
		case len(events) == 1:
			if r.Outcome != Skipped || events[0].Kind != Skipped {
				t.Errorf("step %d: %s, and %+v", i+1, r.Outcome, events)
			}
			continue
		}
		tries, bytes := 1, int64(0)
		for j, e := range events {
			switch {
			case j == 0 && e.Kind == StepBegun && e.Reason == steps[i].Reason:
			case j == len(events)-1 && e.Kind == r.Outcome && e.Try == r.Tries && e.Bytes == r.Bytes:
			case j > 0 && e.Kind == Progress && e.Bytes > bytes && e.Try == tries:
				bytes = e.Bytes
			case j > 0 && e.Kind == Retry && e.Wait > 0 && e.Try == tries:
				tries, bytes = tries+1, 0
			default:
				t.Errorf("step %d: event %d is %+v", i+1, j, e)
			}
			if failed := e.Kind == Retry || e.Kind == Failed || e.Kind == Interrupted; failed != (e.Error != "") {
				t.Errorf("step %d: %s with error %q", i+1, e.Kind, e.Error)
			}
		}
		if tries != r.Tries && !(r.Outcome == Interrupted && tries == r.Tries+1) || r.Tries > 3 {
			t.Errorf("step %d: %d tries, %d are reported", i+1, tries, r.Tries)
		}
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
	for i, r := range begun {
		e := b.book.ended[i]
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
	ended []struct {
		r ledger.Receipt
		o ledger.Outcome
	}
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
	b.ended = append(b.ended, struct {
		r ledger.Receipt
		o ledger.Outcome
	}{r, o})
	return b.err
}

// family adds five snapshots of one family to the source.
func (b *bench) family(name string) {
	for i := range uint64(5) {
		b.src.Add(name, 10+i, fmt.Sprintf("%s/%d", name, i))
	}
}

func outcomes(r *Report) string {
	var s []string
	for _, x := range r.Results {
		s = append(s, string(x.Outcome))
	}
	return strings.Join(s, " ")
}

func TestAllGoesWell(t *testing.T) {
	b := newBench()
	b.family("a")
	b.family("b")
	b.dst.AddReceived("a", 10, "a/0")
	b.dst.AddOutside("b", 14, "/other/b")
	steps := b.plan(t)
	actions := map[plan.Action]int{}
	for _, s := range steps {
		actions[s.Action]++
	}
	if actions[plan.Send] != 8 || actions[plan.Copy] != 1 {
		t.Fatalf("planned %v", actions)
	}
	r := b.run(t.Context(), t, steps)
	if err := r.Err(); err != nil || r.Count(Committed) != 9 {
		t.Errorf("%s: %v", outcomes(r), err)
	}
	for _, x := range r.Results {
		if x.Tries != 1 || x.Ended.Before(x.Begun) || x.Begun.IsZero() {
			t.Errorf("%+v", x)
		}
	}
	if more := b.plan(t); len(more) > 0 {
		t.Errorf("there is more to do: %+v", more)
	}
}

func TestNothingToDo(t *testing.T) {
	b := newBench()
	if r := b.run(t.Context(), t, nil); r.Err() != nil || len(b.events) != 1 {
		t.Errorf("%v, %+v", r.Err(), b.events)
	}
	if r := Run(t.Context(), nil, Options{Source: b.src, Destination: b.dst}); r.Err() != nil {
		t.Error(r.Err())
	}
}

// TestFaults has one fault at each step in turn.
func TestFaults(t *testing.T) {
	const (
		heals = "committed after 2 tries"
		fails = "failed after 1 try"
		lasts = "failed after 3 tries"
		noop  = "committed after 1 try"
	)
	for _, c := range []struct {
		name  string
		fault func(b *bench, id snapshot.ID)
		want  string
		is    error
	}{
		{"open", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(errLasting) }, fails, errLasting},
		{"open once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(errTemporary) }, heals, nil},
		{"open twice", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(3).Return(errTemporary) }, lasts, errTemporary},
		{"open not found", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Return(store.ErrNotFound) }, fails, store.ErrNotFound},
		{"read", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Read).For(id).Return(errLasting) }, fails, errLasting},
		{"read once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Read).For(id).Return(errTemporary) }, heals, nil},
		{"break", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Break(500, errLasting) }, fails, errLasting},
		{"break once", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Break(500, errTemporary) }, heals, nil},
		{"empty", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(0) }, heals, nil},
		{"cut in the header", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(10) }, heals, nil},
		{"cut in the first command", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(30) }, heals, nil},
		{"cut in the middle", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Cut(130) }, heals, nil},
		{"always cut", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Always().Cut(130) }, lasts, stream.ErrTruncated},
		{"restart", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Restart(100) }, heals, nil},
		{"always restart", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(5).Restart(100) }, lasts, stream.ErrRestarted},
		{"corrupt data", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Times(2).Corrupt(60) }, "committed after 3 tries", nil},
		{"always corrupt", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Always().Corrupt(60) }, lasts, stream.ErrChecksum},
		{"corrupt header", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Corrupt(3) }, fails, stream.ErrNotStream},
		{"corrupt version", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.Open).For(id).Corrupt(14) }, fails, stream.ErrVersion},
		{"close stream", func(b *bench, id snapshot.ID) { b.faultySrc.On(storetest.CloseStream).For(id).Return(errLasting) }, noop, nil},
		{"create", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(errLasting) }, fails, errLasting},
		{"create once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(errTemporary) }, heals, nil},
		{"create exists", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Create).For(id).Return(&store.ExistsError{}) }, fails, nil},
		{"write", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(errLasting) }, fails, errLasting},
		{"write once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(errTemporary) }, heals, nil},
		{"write complains of the stream", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Write).For(id).Return(stream.ErrChecksum) }, fails, stream.ErrChecksum},
		{"commit", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(errLasting) }, fails, errLasting},
		{"commit once", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(errTemporary) }, heals, nil},
		{"commit complains of the stream", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.Commit).For(id).Return(stream.ErrTruncated) }, fails, stream.ErrTruncated},
		{"close writer", func(b *bench, id snapshot.ID) { b.faultyDst.On(storetest.CloseWriter).For(id).Return(errLasting) }, noop, nil},
		{"commit and close writer", func(b *bench, id snapshot.ID) {
			b.faultyDst.On(storetest.Commit).For(id).Return(io.ErrUnexpectedEOF)
			b.faultyDst.On(storetest.CloseWriter).For(id).Return(errLasting)
		}, fails, errLasting},
		{"three different ones", func(b *bench, id snapshot.ID) {
			b.faultySrc.On(storetest.Open).For(id).Return(errTemporary)
			b.faultySrc.On(storetest.Open).For(id).Restart(50)
			b.faultyDst.On(storetest.Commit).For(id).Return(errTemporary)
		}, lasts, errTemporary},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{0, 1, 4, 6} {
				synctest.Test(t, func(t *testing.T) {
					b := newBench()
					b.family("a")
					b.family("b")
					steps := b.plan(t)
					at := steps[step]
					c.fault(b, at.Edge.To)
					r := b.run(t.Context(), t, steps)
					x := r.Results[step]
					got := fmt.Sprintf("%s after %d tries", x.Outcome, x.Tries)
					if got = strings.Replace(got, "1 tries", "1 try", 1); got != c.want {
						t.Fatalf("step %d: %s, want %s: %v", step+1, got, c.want, x.Err)
					}
					if c.is != nil && !errors.Is(x.Err, c.is) {
						t.Errorf("step %d: %v, want %v", step+1, x.Err, c.is)
					}
					for i, y := range r.Results {
						want := Committed
						switch {
						case x.Outcome == Failed && i > step && path.Dir(y.Step.Path) == path.Dir(at.Path):
							want = Skipped // every step starts from the one before
							if d, ok := errors.AsType[*DependencyError](y.Err); !ok || d.Path != r.Results[i-1].Step.Path {
								t.Errorf("step %d was skipped for %v", i+1, y.Err)
							}
						case i == step:
							continue
						}
						if y.Outcome != want {
							t.Errorf("step %d: %s (%v), want %s", i+1, y.Outcome, y.Err, want)
						}
					}
					if x.Outcome == Failed && (r.Err() == nil || !strings.Contains(r.Err().Error(), at.Path)) {
						t.Errorf("the error of the whole is %v", r.Err())
					}
					// The next run does the rest.
					b.faultySrc.Reset()
					b.faultyDst.Reset()
					b.run(t.Context(), t, b.plan(t))
					if more := b.plan(t); len(more) > 0 {
						t.Errorf("there is more to do: %+v", more)
					}
				})
			}
		})
	}
}

func TestCopyFaults(t *testing.T) {
	for want, err := range map[string]error{"committed 2": errTemporary, "failed 1": errLasting} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.src.Add("a", 1, "a")
			b.dst.AddOutside("a", 1, "/x/a")
			b.faultyDst.On(storetest.Copy).Return(err)
			r := b.run(t.Context(), t, b.plan(t))
			if got := fmt.Sprint(r.Results[0].Outcome, " ", r.Results[0].Tries); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.faultySrc.On(storetest.Open).Times(3).Return(errTemporary)
		begun := time.Now()
		b.run(t.Context(), t, b.plan(t))
		var waits []time.Duration
		for _, e := range b.events {
			if e.Kind == Retry {
				waits = append(waits, e.Wait)
			}
		}
		if len(waits) != 2 || waits[0] < 500*time.Millisecond || waits[0] > 1500*time.Millisecond || waits[1] < 2*time.Second || waits[1] > 6*time.Second {
			t.Errorf("waited %v", waits)
		}
		if d := time.Since(begun); d != waits[0]+waits[1] {
			t.Errorf("it took %v", d)
		}
	})
}

// A stream of hours is tried again too.
func TestLongTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Commit).Times(2).Do(func(context.Context) error { time.Sleep(30 * time.Hour); return errTemporary })
		if r := b.run(t.Context(), t, b.plan(t)); r.Err() != nil {
			t.Error(r.Err())
		}
	})
}

// liar gives the streams of other edges than it is asked for.
type liar struct {
	*storetest.Memory
	lie func(snapshot.Edge) snapshot.Edge
}

func (l liar) Open(ctx context.Context, e snapshot.Edge) (io.ReadCloser, error) {
	return l.Memory.Open(ctx, l.lie(e))
}

func TestIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		lie   func(snapshot.Edge) snapshot.Edge
		alter func(*plan.Step)
	}{
		"another snapshot":          {lie: func(e snapshot.Edge) snapshot.Edge { e.To = storetest.IDOf("a", 13); return e }},
		"another parent":            {lie: func(e snapshot.Edge) snapshot.Edge { e.From = storetest.IDOf("a", 13); return e }},
		"full":                      {lie: func(e snapshot.Edge) snapshot.Edge { e.From = snapshot.ID{}; return e }},
		"increment":                 {alter: func(s *plan.Step) { s.Edge.From = snapshot.ID{} }, lie: func(e snapshot.Edge) snapshot.Edge { e.From = storetest.IDOf("a", 10); return e }},
		"another state":             {alter: func(s *plan.Step) { s.Snapshot.Transid++ }},
		"another state of a parent": {alter: func(s *plan.Step) { s.Parent.Transid++ }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.family("a")
			b.dst.AddReceived("a", 10, "a/0")
			step := b.plan(t)[0]
			if c.alter != nil {
				c.alter(&step)
			}
			if c.lie == nil {
				c.lie = func(e snapshot.Edge) snapshot.Edge { return e }
			}
			b.faultySrc = storetest.NewFault(liar{b.src, c.lie})
			r := b.run(t.Context(), t, []plan.Step{step})
			if bad, ok := errors.AsType[*IdentityError](r.Err()); !ok || bad.Want == bad.Found || r.Results[0].Tries != 1 {
				t.Errorf("%v, want *IdentityError", r.Err())
			}
			if b.faultyDst.Calls(storetest.Create) != 0 {
				t.Error("the destination was asked to create something")
			}
			t.Log(r.Err())
		})
	}
}

// bare is a store that can do nothing but list.
type bare struct{ store.Store }

func TestAbilities(t *testing.T) {
	b := newBench()
	b.src.Add("a", 1, "a")
	steps := b.plan(t)
	for _, o := range []Options{
		{Source: bare{b.src}, Destination: b.dst},
		{Source: b.src, Destination: bare{b.dst}},
	} {
		if r := Run(t.Context(), steps, o); r.Results[0].Outcome != Failed {
			t.Errorf("%+v", r.Results[0])
		}
	}
	steps[0].Action = plan.Copy
	if r := Run(t.Context(), steps, Options{Source: b.src, Destination: bare{b.dst}}); r.Results[0].Outcome != Failed {
		t.Errorf("%+v", r.Results[0])
	}
	steps[0].Action = "dance"
	if r := Run(t.Context(), steps, Options{Source: b.src, Destination: b.dst}); r.Results[0].Outcome != Failed {
		t.Errorf("%+v", r.Results[0])
	}
}

// lazy takes less than it is given, and says nothing.
type lazy struct{ *storetest.Memory }

func (l lazy) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := l.Memory.Create(ctx, want)
	return lazyWriter{w}, err
}

type lazyWriter struct{ store.Writer }

func (w lazyWriter) Write(p []byte) (int, error) { return w.Writer.Write(p[:len(p)/2]) }

func TestShortWrite(t *testing.T) {
	b := newBench()
	b.src.Add("a", 1, "a")
	b.faultyDst = storetest.NewFault(lazy{b.dst})
	if r := b.run(t.Context(), t, b.plan(t)); !errors.Is(r.Err(), io.ErrShortWrite) {
		t.Errorf("%v", r.Err())
	}
}

func TestLedgerThatFails(t *testing.T) {
	b := newBench()
	b.family("a")
	b.book.err = errLasting
	if r := b.run(t.Context(), t, b.plan(t)); r.Err() != nil {
		t.Error(r.Err())
	}
	n := 0
	for _, e := range b.events {
		if e.Kind == Warning && e.Error != "" {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d warnings, want 5", n)
	}
}

func TestRealLedger(t *testing.T) {
	l, err := ledger.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBench()
	b.family("a")
	b.faultyDst.On(storetest.Commit).After(2).Do(func(context.Context) error {
		if open, err := l.Unfinished("memory dst"); err != nil || len(open) != 1 || open[0].Path != "a/2" {
			t.Errorf("while it goes on: %+v, %v", open, err)
		}
		return errLasting
	})
	if r := Run(t.Context(), b.plan(t), Options{Source: b.src, Destination: b.faultyDst, Ledger: l}); r.Count(Committed) != 2 {
		t.Error(r.Err())
	}
	if open, err := l.Unfinished("memory dst"); err != nil || len(open) != 0 {
		t.Errorf("afterwards: %+v, %v", open, err)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.src.SetBulk(8 << 20)
		b.src.Add("a", 1, "a")
		b.faultyDst.On(storetest.Write).Always().Do(func(context.Context) error { time.Sleep(70 * time.Millisecond); return nil })
		steps := b.plan(t)
		steps[0].Size = snapshot.AboutSize(8 << 20)
		b.run(t.Context(), t, steps)
		var last time.Time
		n := 0
		for _, e := range b.events {
			if e.Kind != Progress {
				continue
			}
			n++
			if d := e.Time.Sub(last); d < 200*time.Millisecond {
				t.Errorf("progress after %v", d)
			}
			last = e.Time
			if e.File == "" || e.Expected != 8<<20 || e.Exact {
				t.Errorf("%+v", e)
			}
		}
		if n < 3 {
			t.Errorf("%d times progress", n)
		}
	})
}

func TestEventJSON(t *testing.T) {
	got, err := json.Marshal(Event{
		Kind: Retry, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Step: 2, Steps: 3, Action: plan.Send, To: storetest.IDOf("a", 1),
		Path: "a", Bytes: 5, Expected: 7, Exact: true, File: "dir/f", Try: 1, Wait: time.Second, Error: "no luck", Reason: "why not",
	})
	const want = `{"event":"retry","time":"2026-01-02T03:04:05Z","step":2,"steps":3,"action":"send","to":"%s","path":"a","bytes":5,"expected":7,"exact":true,"file":"dir/f","try":1,"wait_ns":1000000000,"error":"no luck","reason":"why not"}`
	if want := fmt.Sprintf(want, storetest.IDOf("a", 1)); err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}

// TestCancelledAtEveryCall ends the context in the middle of every call that a
// run makes.
func TestCancelledAtEveryCall(t *testing.T) {
	why := errors.New("the user had enough")
	for _, op := range []storetest.Op{storetest.Open, storetest.Read, storetest.Create, storetest.Write, storetest.Commit, storetest.CloseStream, storetest.CloseWriter} {
		for _, n := range []int{0, 1, 2, 5, 9} {
			for _, how := range []string{"and goes on", "and blocks"} {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					b := newBench()
					b.family("a")
					b.family("b")
					for _, f := range []*storetest.Fault{b.faultySrc, b.faultyDst} {
						f.On(op).After(n).Do(func(ctx context.Context) error {
							cancel(why)
							if how == "and blocks" && ctx.Done() != nil {
								<-ctx.Done()
								return ctx.Err()
							}
							return nil
						})
					}
					steps := b.plan(t)
					r := b.run(ctx, t, steps)
					if ctx.Err() == nil {
						return // there are not as many calls
					}
					if r.Count(Committed) == len(steps) {
						if r.Err() != nil {
							t.Error(r.Err())
						}
					} else if !errors.Is(r.Err(), why) {
						t.Errorf("%v, want the context's cause", r.Err())
					}
					if n := r.Count(Failed); n > 0 {
						t.Errorf("%d steps failed", n)
					}
					if n := r.Count(Interrupted); n > 1 {
						t.Errorf("%d steps were interrupted", n)
					}
					b.faultySrc.Reset()
					b.faultyDst.Reset()
					b.run(t.Context(), t, b.plan(t))
					if more := b.plan(t); len(more) > 0 {
						t.Errorf("there is more to do: %+v", more)
					}
				})
			}
		}
	}
}

func TestCancelledBefore(t *testing.T) {
	b := newBench()
	b.family("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := b.run(ctx, t, b.plan(t)); r.Count(Skipped) != 5 || !errors.Is(r.Err(), context.Canceled) || len(b.events) != 1 {
		t.Errorf("%s: %v, %+v", outcomes(r), r.Err(), b.events)
	}
}

func TestCancelledInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		b := newBench()
		b.family("a")
		b.faultySrc.On(storetest.Open).Always().Return(errTemporary)
		begun := time.Now()
		r := b.run(ctx, t, b.plan(t))
		if d := time.Since(begun); d != 100*time.Millisecond || r.Results[0].Outcome != Interrupted || !errors.Is(r.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %s, %v", d, outcomes(r), r.Err())
		}
	})
}

// TestCancelledAtAnyTime is for the race detector.
func TestCancelledAtAnyTime(t *testing.T) {
	b := newBench()
	b.src.SetBulk(300 << 10)
	b.family("a")
	for range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
		b.run(ctx, t, b.plan(t))
		cancel()
	}
	b.run(t.Context(), t, b.plan(t))
	if more := b.plan(t); len(more) > 0 {
		t.Errorf("there is more to do: %+v", more)
	}
}

// endless is a source of one stream that is made as it is read, and a
// destination that throws it away.
type endless struct {
	*storetest.Memory
	head, body, tail []byte
	times            int
}

func newEndless(tb testing.TB, times int) endless {
	m := storetest.NewMemory("endless")
	m.SetBulk(48 << 10)
	m.Add("a", 1, "a")
	in, err := m.Open(tb.Context(), snapshot.Edge{To: storetest.IDOf("a", 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		tb.Fatal(err)
	}
	// The bulk is the first file: subvol, mkfile, and one write.
	var at []int
	r := stream.NewReader(strings.NewReader(string(raw)))
	for {
		c, err := r.Next()
		if err != nil {
			break
		}
		at = append(at, int(c.Offset))
	}
	return endless{m, raw[:at[2]], raw[at[2]:at[3]], raw[at[3]:], times}
}

func (e endless) Open(context.Context, snapshot.Edge) (io.ReadCloser, error) {
	parts := []io.Reader{strings.NewReader(string(e.head))}
	return io.NopCloser(io.MultiReader(append(parts, &repeat{data: e.body, times: e.times}, strings.NewReader(string(e.tail)))...)), nil
}

type repeat struct {
	data  []byte
	at    int
	times int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for r.times > 0 && n < len(p) {
		k := copy(p[n:], r.data[r.at:])
		n, r.at = n+k, r.at+k
		if r.at == len(r.data) {
			r.at, r.times = 0, r.times-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (e endless) Create(context.Context, store.Want) (store.Writer, error) {
	return discard{io.Discard}, nil
}

type discard struct{ io.Writer }

func (discard) Commit(context.Context) error { return nil }
func (discard) Close() error                 { return nil }

func (e endless) steps() []plan.Step {
	return []plan.Step{{Action: plan.Send, Edge: snapshot.Edge{To: storetest.IDOf("a", 1)}, Path: "a"}}
}

func TestMemoryIsBounded(t *testing.T) {
	e := newEndless(t, 10_000) // 480 MB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := Run(t.Context(), e.steps(), Options{Source: e, Destination: e})
	runtime.ReadMemStats(&after)
	if r.Err() != nil || r.Bytes() < 480_000_000 {
		t.Fatal(r.Bytes(), r.Err())
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for a stream of %d", n, r.Bytes())
	}
}

func BenchmarkTransfer(b *testing.B) {
	e := newEndless(b, 10_000)
	var n int64
	for b.Loop() {
		r := Run(b.Context(), e.steps(), Options{Source: e, Destination: e})
		if r.Err() != nil {
			b.Fatal(r.Err())
		}
		n = r.Bytes()
	}
	b.SetBytes(n)
}
