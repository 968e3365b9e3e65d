package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// glacier is whose prices hold for a store in these tests.
var glacier = store.Tariff{Provider: "aws", Service: "s3", Region: "us-east-1", Class: "GLACIER"}

// coldChain is an archive with the snapshots s1 to sn, each an increment from the
// one before, and their edges. Nothing is cold yet.
func coldChain(n int) (*storetest.Memory, []snapshot.Edge) {
	src := storetest.NewMemory("archive")
	var edges []snapshot.Edge
	for i := 1; i <= n; i++ {
		s := src.Add("f", uint64(10*i), fmt.Sprintf("s%d", i))
		e := snapshot.Edge{To: s.ID}
		if i > 1 {
			e.From = edges[i-2].To
		}
		edges = append(edges, e)
	}
	src.SetArchive(edges...)
	src.SetTariff(glacier)
	return src, edges
}

// TestSyncAsksAndGoesOn: what is cold is asked for at once, what is not is sent at
// once, and a run after it is there does the rest.
func TestSyncAsksAndGoesOn(t *testing.T) {
	src, edges := coldChain(4)
	src.Freeze("GLACIER", edges[1], edges[3])
	dst := storetest.NewMemory("dst")
	e := &Engine{Ledger: mustLedger(t), Now: func() time.Time { return someDay }}
	var told []string
	o := SyncOptions{Delete: true, Thaw: store.ThawOptions{Tier: store.Standard}, Waiting: func(all []Waiting) {
		for _, w := range all {
			told = append(told, fmt.Sprint(w.Path, " ", w.State))
		}
	}}
	r, err := e.Sync(t.Context(), src, dst, o)
	pending, ok := err.(*PendingError)
	if !ok || !errors.Is(err, store.ErrCold) {
		t.Fatalf("%+v, %v", r, err)
	}
	if diff := cmp.Diff([]string{"s2 pending", "s4 pending"}, told); diff != "" {
		t.Error(diff)
	}
	if pending.Wanted != 4 || pending.Done != 1 || r.Transferred != 1 || len(r.Transfer.Results) != 4 {
		t.Errorf("%+v, %+v", pending, r)
	}
	// Asked for at the store's time, with what AWS takes at most.
	if due := pending.Due(); !due.Equal(time.Date(2026, 1, 1, 5, 0, 0, 0, time.UTC)) {
		t.Errorf("due at %v", due)
	}
	if diff := cmp.Diff([]string{"s1"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}

	src.Advance(time.Hour)
	if _, err = e.Sync(t.Context(), src, dst, o); err == nil || src.Asks(edges[1]) != 1 || src.Asks(edges[3]) != 1 {
		t.Errorf("an hour later: %v; asked %d and %d times", err, src.Asks(edges[1]), src.Asks(edges[3]))
	}
	src.Advance(storetest.ThawTime(store.Standard))
	if r, err = (&Engine{}).Sync(t.Context(), src, dst, o); err != nil || r.Transferred != 3 || r.Kept != 1 {
		t.Errorf("when it is there: %+v, %v", r, err)
	}
	if diff := cmp.Diff([]string{"s1", "s2", "s3", "s4"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}

// TestSyncColdEvents: steps that wait have no events, and the others are numbered as
// in the plan.
func TestSyncColdEvents(t *testing.T) {
	src, edges := coldChain(2)
	src.Add("g", 100, "z")
	src.SetArchive(append(edges, snapshot.Edge{To: storetest.IDOf("g", 100)})...)
	src.Freeze("GLACIER", edges...)
	var outlook *Outlook
	_, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{
		Planned: func(o *Outlook) { outlook = o },
		Event: func(e transfer.Event) {
			if e.Kind != transfer.Done && (outlook.Steps[e.Step-1].Path != "z" || e.Path != "z" || e.Steps != 3) {
				t.Errorf("%+v", e)
			}
		},
	})
	if p, ok := err.(*PendingError); !ok || len(p.Waiting) != 2 || len(outlook.Thawings) != 3 {
		t.Errorf("%v", err)
	}
}

// TestSyncColdDry: a dry run asks for nothing, and is complete.
func TestSyncColdDry(t *testing.T) {
	src, edges := coldChain(3)
	src.Freeze("DEEP_ARCHIVE", edges...)
	var seen *Outlook
	_, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{DryRun: true, Planned: func(o *Outlook) { seen = o }})
	if err != nil || len(seen.Thawings) != 3 || seen.Thawings[0].State != store.Cold || src.Asks(edges[0]) != 0 {
		t.Fatalf("%+v, %v", seen, err)
	}
	if f := seen.Forecast; f == nil || f.Restoring == nil || f.Restoring.Cold != 3 {
		t.Errorf("%+v", f)
	}
}

// TestSyncTooDear: nothing is asked for where that costs more than is allowed, or
// nobody knows what it costs.
func TestSyncTooDear(t *testing.T) {
	for name, tt := range map[string]struct {
		tariff *store.Tariff
		limit  float64
		want   bool
	}{
		"too dear":     {&glacier, 1e-9, true},
		"cheap enough": {&glacier, 1, false},
		"no limit":     {&glacier, 0, false},
		"no prices":    {&store.Tariff{Provider: "s3.example.org", Service: "s3"}, 100, true},
		"no bill":      {nil, 1e-9, false},
	} {
		for _, dry := range []bool{true, false} {
			src, edges := coldChain(1)
			src.Freeze("GLACIER", edges...)
			unbilled := store.Store(src)
			if tt.tariff != nil {
				src.SetTariff(*tt.tariff)
			} else {
				unbilled = struct {
					store.Store
					store.Source
					store.Thawer
				}{src, src, src}
			}
			_, err := (&Engine{}).Sync(t.Context(), unbilled, storetest.NewMemory("dst"), SyncOptions{DryRun: dry, MaxCost: tt.limit})
			e, dear := err.(*CostError)
			if dear != tt.want || dear && (e.Limit != tt.limit || (e.Currency == "") != (name == "no prices")) {
				t.Errorf("%s, dry run %v: %v", name, dry, err)
			}
			if asked := src.Asks(edges[0]) > 0; asked != (!dry && !tt.want) {
				t.Errorf("%s, dry run %v: asked is %v", name, dry, asked)
			}
			_, err = (&Engine{}).Thaw(t.Context(), unbilled, ThawOptions{DryRun: dry, MaxCost: tt.limit})
			if _, dear := err.(*CostError); dear != tt.want && !(!dry && name == "cheap enough") {
				t.Errorf("%s, dry run %v, without a destination: %v", name, dry, err)
			}
		}
	}
}

// TestSyncAskingFails: what can be asked for is, and the run says what cannot.
func TestSyncAskingFails(t *testing.T) {
	src, edges := coldChain(2)
	src.Freeze("GLACIER", edges[0])
	src.Freeze("DEEP_ARCHIVE", edges[1])
	o := SyncOptions{Thaw: store.ThawOptions{Tier: store.Expedited}}
	_, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), o)
	e, ok := err.(*IncompleteError)
	if !ok || len(e.Failures) != 1 || len(e.Waiting) != 2 || src.Asks(edges[0]) != 1 || src.Asks(edges[1]) != 0 {
		t.Errorf("%v: %+v", err, e)
	}

	numb := storetest.NewFault(src)
	numb.On(storetest.Thaw).After(1).Return(errors.New("no luck"))
	_, err = (&Engine{}).Sync(t.Context(), numb, storetest.NewMemory("dst"), SyncOptions{})
	if e, ok := err.(*IncompleteError); !ok || len(e.Failures) != 1 || src.Asks(edges[1]) != 0 {
		t.Errorf("when asking fails altogether: %v", err)
	}
	numb.On(storetest.Thaw).Return(errors.New("no luck"))
	if _, err = (&Engine{}).Sync(t.Context(), numb, storetest.NewMemory("dst"), SyncOptions{}); err == nil || src.Asks(edges[1]) != 0 {
		t.Errorf("when looking fails: %v", err)
	}
}

// TestSyncExpiresInBetween: a copy that expires between the look and the reading is
// asked for again, once.
func TestSyncExpiresInBetween(t *testing.T) {
	src, edges := coldChain(2)
	src.Freeze("GLACIER", edges...)
	dst := storetest.NewMemory("dst")
	if _, err := (&Engine{}).Thaw(t.Context(), src, ThawOptions{}); err == nil {
		t.Fatal("everything can be read at once")
	}
	src.Advance(50 * time.Hour)
	late := storetest.NewFault(src)
	late.On(storetest.Open).For(edges[1].To).Do(func(context.Context) error {
		src.Advance(8 * 24 * time.Hour)
		return nil
	})
	r, err := (&Engine{}).Sync(t.Context(), late, dst, SyncOptions{})
	if p, ok := err.(*PendingError); !ok || p.Done != 1 || r.Transferred != 1 || src.Asks(edges[0]) != 1 || src.Asks(edges[1]) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestSyncWaits has time pass for a run that waits: it holds no lock meanwhile, and
// sends what is there as soon as it is.
func TestSyncWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, edges := coldChain(3)
		src.SetClock(time.Now)
		src.Freeze("GLACIER", edges[1:]...)
		dst := storetest.NewMemory("dst")
		begun, waits, done := time.Now(), 0, 0
		go func() {
			time.Sleep(40 * time.Hour)
			if diff := cmp.Diff([]string{"s1"}, held(t, dst)); diff != "" {
				t.Error(diff)
			}
			unlock, err := dst.Lock(t.Context(), "another run")
			if err != nil {
				t.Errorf("while it waits, the lock is held: %v", err)
				return
			}
			time.Sleep(20 * time.Hour) // longer than it takes
			unlock()
		}()
		r, err := (&Engine{}).Sync(t.Context(), src, dst, SyncOptions{
			Wait: true, Waiting: func([]Waiting) { waits++ },
			Event: func(e transfer.Event) {
				if done > 0 {
					t.Errorf("after the last event: %+v", e)
				}
				if e.Kind == transfer.Done {
					done = e.Steps
				}
			},
		})
		if err != nil || r.Transferred != 3 || r.Kept != 0 || waits == 0 || done != 3 {
			t.Errorf("%+v, told of %d waits, and of %d steps in the end: %v", r, waits, done, err)
		}
		if took := time.Since(begun); took < 60*time.Hour || took > 62*time.Hour {
			t.Errorf("it took %v", took)
		}
		if src.Asks(edges[1]) != 1 || src.Asks(edges[2]) != 1 {
			t.Error("something was asked for more than once")
		}
	})
}

// TestSyncWaitEnds: waiting ends with its context, and where nobody can tell any
// more how things stand.
func TestSyncWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, edges := coldChain(2)
		src.SetClock(time.Now)
		src.Freeze("GLACIER", edges...)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		_, err := (&Engine{}).Sync(ctx, src, storetest.NewMemory("dst"), SyncOptions{Wait: true})
		if e, ok := err.(*IncompleteError); !ok || !errors.Is(e.Interrupted, context.DeadlineExceeded) || e.Wanted != 2 {
			t.Errorf("interrupted: %v", err)
		}
		numb := storetest.NewFault(src)
		numb.On(storetest.Thaw).After(2).Always().Return(errors.New("no luck"))
		_, err = (&Engine{}).Sync(t.Context(), numb, storetest.NewMemory("dst"), SyncOptions{Wait: true})
		if e, ok := err.(*IncompleteError); !ok || e.Interrupted != nil || len(e.Failures) != 1 {
			t.Errorf("when looking fails for ever: %v", err)
		}
		some := storetest.NewFault(src)
		some.On(storetest.Thaw).After(2).Times(deaf).Return(errors.New("no luck"))
		if _, err = (&Engine{}).Sync(t.Context(), some, storetest.NewMemory("dst"), SyncOptions{Wait: true}); err != nil {
			t.Errorf("when looking fails for a while: %v", err)
		}
	})
}

// TestSyncWaitsForList: a store that cannot be listed yet is waited for, too.
func TestSyncWaitsForList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, _ := coldChain(2)
		later := storetest.NewFault(src)
		later.On(storetest.List).Times(3).Return(&store.PendingError{What: "the inventory"})
		r, err := (&Engine{}).Sync(t.Context(), later, storetest.NewMemory("dst"), SyncOptions{Wait: true})
		if err != nil || r.Transferred != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		later.On(storetest.List).Return(&store.PendingError{What: "the inventory"})
		if _, err := (&Engine{}).Sync(t.Context(), later, storetest.NewMemory("dst"), SyncOptions{}); !errors.Is(err, store.ErrCold) {
			t.Errorf("without waiting: %v", err)
		}
	})
}

// TestSyncPrefersWhatIsThere: of several streams of snapshots, those that can be read
// or have been asked for are taken, unless they are much longer.
func TestSyncPrefersWhatIsThere(t *testing.T) {
	for _, asked := range []bool{false, true} {
		for _, much := range []bool{false, true} {
			// The increment is a little shorter than the full stream; six increments are
			// much longer.
			src, chain := coldChain(6)
			shorter, longer, o := chain[1:2], []snapshot.Edge{{To: chain[1].To}}, SyncOptions{Selection: Selection{Exclude: expressions("s[3-6]")}}
			if much {
				shorter, longer, o = []snapshot.Edge{{To: chain[5].To}}, chain[1:], SyncOptions{Selection: Selection{Name: "s6"}}
			}
			src.SetArchive(slices.Concat(chain[:1], shorter, longer)...)
			src.Freeze("GLACIER", shorter...)
			if asked {
				src.Freeze("GLACIER", longer...)
				if _, err := src.Thaw(t.Context(), longer, store.ThawOptions{Ask: true}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), o)
			if want := map[bool]int{false: 0, true: 1}[much]; src.Asks(shorter[0]) != want {
				t.Errorf("much longer %v, asked %v: asked for the shorter one %d times, want %d (%v)", much, asked, src.Asks(shorter[0]), want, err)
			}
			if is[*PendingError](err) != (much || asked) {
				t.Errorf("much longer %v, asked %v: %v", much, asked, err)
			}
		}
	}
}

// TestThaw asks for chains, and fetches nothing.
func TestThaw(t *testing.T) {
	src, edges := coldChain(4)
	src.Freeze("GLACIER", edges...)
	var planned *ThawReport
	o := ThawOptions{Selection: Selection{Name: "s2"}, DryRun: true, Planned: func(r *ThawReport) { planned = r }}
	r, err := (&Engine{}).Thaw(t.Context(), src, o)
	if err != nil || planned != r || len(r.Steps) != 2 || r.Thawings[0].State != store.Cold || r.Restoring == nil || src.Asks(edges[0]) != 0 {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	o.DryRun = false
	r, err = (&Engine{}).Thaw(t.Context(), src, o)
	if p, ok := err.(*PendingError); !ok || len(p.Waiting) != 2 || r.Asked != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []int{1, 1, 0, 0} {
		if n := src.Asks(edges[i]); n != want {
			t.Errorf("s%d was asked for %d times", i+1, n)
		}
	}
	src.Advance(48 * time.Hour)
	if r, err = (&Engine{}).Thaw(t.Context(), src, o); err != nil || r.Asked != 0 || r.Thawings[1].State != store.Readable {
		t.Errorf("when it is there: %+v, %v", r, err)
	}
	if _, err = (&Engine{}).Thaw(t.Context(), src, ThawOptions{Selection: Selection{Name: "x"}}); !is[*NoSnapshotsError](err) {
		t.Errorf("of what there is not: %v", err)
	}
	if _, err = (&Engine{}).Thaw(t.Context(), struct{ store.Store }{src}, ThawOptions{}); !is[*UnableError](err) {
		t.Errorf("of what is never cold: %v", err)
	}
	src.SetArchive(edges[1:]...) // s1 is gone
	if r, err = (&Engine{}).Thaw(t.Context(), src, ThawOptions{}); !is[*IncompleteError](err) || len(r.Problems) != 3 {
		t.Errorf("of what cannot be restored: %+v, %v", r, err)
	}
}

// TestThawWaits: what has been readable once is not asked for again, even if it
// expires before the rest is there.
func TestThawWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, edges := coldChain(2)
		src.SetClock(time.Now)
		src.Freeze("GLACIER", edges...)
		if _, err := src.Thaw(t.Context(), edges[:1], store.ThawOptions{Ask: true, Tier: store.Expedited, Days: 1}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		r, err := (&Engine{}).Thaw(t.Context(), src, ThawOptions{Wait: true, Thaw: store.ThawOptions{Days: 1}})
		if err != nil || r.Asked != 1 || src.Asks(edges[0]) != 1 || src.Asks(edges[1]) != 1 {
			t.Errorf("%+v, asked %d and %d times: %v", r, src.Asks(edges[0]), src.Asks(edges[1]), err)
		}
		if took := time.Since(begun); took < 48*time.Hour || took > 49*time.Hour {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAnyColdArchive: whatever an archive has, whatever of it is cold, and whenever
// runs are cut or begun anew, nothing is asked for twice, every run carries on from
// the last, and in the end all is there.
func TestAnyColdArchive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := storetest.NewMemory("archive")
		n := rapid.IntRange(1, 7).Draw(t, "snapshots")
		var ids []snapshot.ID
		var edges []snapshot.Edge
		for i := range n {
			s := src.Add("f", uint64(10*i+10), fmt.Sprintf("s%d", i))
			ids = append(ids, s.ID)
			for range rapid.IntRange(1, 2).Draw(t, "streams") {
				e := snapshot.Edge{To: s.ID}
				if from := rapid.IntRange(-1, i-1).Draw(t, "from"); from >= 0 {
					e.From = ids[from]
				}
				edges = append(edges, e)
			}
		}
		src.SetArchive(edges...)
		src.SetTariff(glacier)
		for _, e := range edges {
			if rapid.IntRange(0, 3).Draw(t, "cold") > 0 {
				src.Freeze(rapid.SampledFrom([]string{"GLACIER", "DEEP_ARCHIVE"}).Draw(t, "class"), e)
			}
		}
		dst := storetest.NewMemory("dst")
		dst.SetCheckpoints(5000)
		tier := rapid.SampledFrom([]store.Tier{"", store.Bulk, store.Standard}).Draw(t, "tier")
		for run := 0; ; run++ {
			if run > 40 {
				t.Fatal("it never comes to an end")
			}
			before := len(held(t, dst))
			from, to := storetest.NewFault(src), storetest.NewFault(dst)
			ctx, cancel := context.WithCancel(context.Background())
			calm := run > 25
			if !calm {
				switch rapid.IntRange(0, 5).Draw(t, "what goes wrong") {
				case 0:
					from.On(storetest.Open).After(rapid.IntRange(0, 3).Draw(t, "streams before")).Return(errors.New("no luck"))
				case 1:
					to.On(storetest.Commit).After(rapid.IntRange(0, 3).Draw(t, "commits before")).Do(func(context.Context) error { cancel(); return context.Canceled })
				case 2:
					from.On(storetest.Thaw).After(rapid.IntRange(0, 1).Draw(t, "looks before")).Do(func(context.Context) error { cancel(); return context.Canceled })
				case 3:
					from.On(storetest.Thaw).After(1).Return(errors.New("no luck"))
				}
			}
			_, err := (&Engine{}).Sync(ctx, from, to, SyncOptions{Thaw: store.ThawOptions{Tier: tier, Days: 10_000}})
			cut := ctx.Err() != nil
			cancel()
			if len(held(t, dst)) < before {
				t.Fatal("something has gone from the destination")
			}
			for _, e := range edges {
				if n := src.Asks(e); n > 1 {
					t.Fatalf("run %d: %v was asked for %d times", run, e, n)
				}
			}
			if err == nil {
				break
			}
			if calm && !cut && !is[*PendingError](err) {
				t.Fatalf("run %d: %v", run, err)
			}
			src.Advance(time.Duration(rapid.IntRange(0, 30).Draw(t, "hours")) * time.Hour)
			if calm {
				src.Advance(24 * time.Hour)
			}
		}
		for i, id := range ids {
			if dst.Digest(id) != src.Digest(id) {
				t.Errorf("s%d differs", i)
			}
		}
		if src.Busy()+dst.Busy() != 0 {
			t.Error("something is still open")
		}
	})
}

// TestPendingErrorDue: what was not asked for is not due, however long it would take.
func TestPendingErrorDue(t *testing.T) {
	at := time.Date(2026, 1, 1, 5, 0, 0, 0, time.UTC)
	waiting := []Waiting{
		{Thawing: store.Thawing{State: store.Pending}, Due: at},
		{Thawing: store.Thawing{State: store.Cold}, Due: at.Add(time.Hour)},
	}
	if due := (&PendingError{Waiting: waiting}).Due(); !due.IsZero() {
		t.Errorf("with one that was not asked for, all are due at %v", due)
	}
	if due := (&PendingError{Waiting: waiting[:1]}).Due(); !due.Equal(at) {
		t.Errorf("what was asked for is due at %v, want %v", due, at)
	}
}
