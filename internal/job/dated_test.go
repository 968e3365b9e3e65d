package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/transfer"
)

// taker is a program that is offered snapshots, and what it has taken.
type taker struct {
	*storetest.Memory
	wish   func(name string) (wanted bool, parent string, err error)
	name   string // of what is offered now
	broken error
	opened int
	closed int
}

func (k *taker) Wish(context.Context) (bool, string, error) { return k.wish(k.name) }
func (k *taker) Done(context.Context) error                 { return k.broken }
func (k *taker) Close() error                               { k.closed++; return nil }

func (k *taker) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if k.broken != nil {
		return nil, k.broken
	}
	return k.Memory.Create(ctx, want)
}

// day is a run of Dated on a day of the calendar, counted from the first.
func (n *nightly) day(t *testing.T, number int, k *taker, change func(*DatedOptions)) (*DatedReport, error) {
	t.Helper()
	n.now = night.AddDate(0, 0, number)
	o := DatedOptions{Name: n.now.Format(time.DateOnly), MaxAge: 60 * 24 * time.Hour, Zone: time.UTC, Who: "a test"}
	if k != nil {
		k.name, o.Taker = o.Name, "btrsend:alice"
		o.Offer = func(context.Context) (Offered, error) { k.opened++; return k, nil }
	}
	if change != nil {
		change(&o)
	}
	return n.Dated(t.Context(), n.Memory, o)
}

func dateOf(number int) string { return night.AddDate(0, 0, number).Format(time.DateOnly) }

// linear is a program that takes a backup every so many days, each on top of the
// one before.
func linear(every int) *taker {
	k := &taker{Memory: storetest.NewMemory("taker")}
	last := ""
	number := 0
	k.wish = func(name string) (bool, string, error) {
		defer func() { number++ }()
		if number%every != 0 {
			return false, "", nil
		}
		parent := last
		last = name
		return true, parent, nil
	}
	return k
}

// TestDatedYear runs every night for a year: what is too old goes, but what the
// program starts from is always there.
func TestDatedYear(t *testing.T) {
	src := newNightly(t)
	k := linear(75) // longer than anything stays by itself
	year := 366
	if testing.Short() {
		year = 100
	}
	for number := range year {
		r, err := src.day(t, number, k, nil)
		if err != nil {
			t.Fatalf("night %d: %v", number, err)
		}
		if !r.Made || r.Snapshot.Path != dateOf(number) || (r.Given != nil) != (number%75 == 0) {
			t.Fatalf("night %d: %+v", number, r)
		}
		want := []string{}
		for d := max(0, number-60); d <= number; d++ {
			want = append(want, dateOf(d))
		}
		// The dates are midnights, and it is later: after 60 days they are older than that.
		if number >= 60 {
			want = want[1:]
		}
		if taken := dateOf(number / 75 * 75); !slices.Contains(want, taken) {
			want = append([]string{taken}, want...)
		}
		if got := held(t, src.Memory); !slices.Equal(got, want) {
			t.Fatalf("night %d: %s", number, cmp.Diff(want, got))
		}
	}
	if got := held(t, k.Memory); len(got) != (year+74)/75 {
		t.Errorf("it has taken %q", got)
	}
	if k.opened != year || k.closed != year {
		t.Errorf("%d programs were begun, and %d ended", k.opened, k.closed)
	}
}

// TestDatedOfAnother: what is called by the day and was made of another subvolume is
// not offered as what it is not.
func TestDatedOfAnother(t *testing.T) {
	src := newNightly(t)
	k := linear(1)
	src.Add("mail", 1, dateOf(0))
	_, err := src.day(t, 0, k, nil)
	if there, ok := errors.AsType[*store.ExistsError](err); !ok || there.Path != dateOf(0) || k.opened != 0 {
		t.Errorf("%v, and the program was begun %d times", err, k.opened)
	}
}

func TestDatedTwiceADay(t *testing.T) {
	src := newNightly(t)
	k := linear(1)
	first, err := src.day(t, 0, k, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.wish = func(string) (bool, string, error) { return false, "", nil }
	second, err := src.day(t, 0, k, nil)
	if err != nil || second.Made || second.Snapshot.ID != first.Snapshot.ID {
		t.Errorf("%+v, %v", second, err)
	}
	if got := held(t, src.Memory); len(got) != 1 {
		t.Errorf("there are %q", got)
	}
}

// TestDatedFailures: what fails keeps neither the snapshot from being made nor the
// old ones from going, and is never taken for what the program has.
func TestDatedFailures(t *testing.T) {
	oops := errors.New("oops")
	for name, c := range map[string]struct {
		change func(*DatedOptions)
		wish   func(string) (bool, string, error)
		broken error
		want   string
	}{
		"it cannot be run":            {change: func(o *DatedOptions) { o.Offer = func(context.Context) (Offered, error) { return nil, oops } }, want: "oops"},
		"its answer is none":          {wish: func(string) (bool, string, error) { return false, "", oops }, want: "oops"},
		"it wants nothing, and fails": {wish: func(string) (bool, string, error) { return false, "", nil }, broken: oops, want: "oops"},
		"it fails with a stream":      {wish: func(string) (bool, string, error) { return true, "", nil }, broken: oops, want: "oops"},
		"it wants what is not there":  {wish: func(string) (bool, string, error) { return true, "2001-01-01", nil }, want: "2001-01-01"},
		"it wants what it is offered": {wish: func(n string) (bool, string, error) { return true, n, nil }, want: "no such snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			src := newNightly(t)
			k := linear(1)
			for number := range 3 {
				if _, err := src.day(t, number, k, nil); err != nil {
					t.Fatal(err)
				}
			}
			for number := 3; number < 80; number++ {
				if _, err := src.day(t, number, nil, func(o *DatedOptions) { o.MaxAge = 0 }); err != nil {
					t.Fatal(err)
				}
			}
			if c.wish != nil {
				k.wish = c.wish
			}
			k.broken = c.broken
			r, err := src.day(t, 80, k, func(o *DatedOptions) {
				if c.change != nil {
					c.change(o)
				}
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v", err)
			}
			if !r.Made {
				t.Error("no snapshot was made")
			}
			got := held(t, src.Memory)
			if want := dateOf(2); !slices.Contains(got, want) || got[0] != want || len(got) != 61 {
				t.Errorf("what the program has taken last is %s, and there are %q", want, got)
			}
		})
	}
}

// TestDatedUnknown keeps everything as long as it is not known what the program
// has, which the scripts of old have run until now.
func TestDatedUnknown(t *testing.T) {
	src := newNightly(t)
	for number := range 100 {
		src.Add("home", uint64(number+1), dateOf(number))
	}
	k := linear(1)
	wish := k.wish
	k.wish = func(string) (bool, string, error) { return false, "", nil }
	if _, err := src.day(t, 100, k, nil); err != nil {
		t.Fatal(err)
	}
	if got := held(t, src.Memory); len(got) != 101 {
		t.Errorf("there are %d", len(got))
	}
	k.wish = func(name string) (bool, string, error) { return true, dateOf(5), nil }
	seed, _ := snapshotAt(list(t, src.Memory), dateOf(5))
	k.Memory.AddReceived("home", 6, dateOf(5))
	if has, _ := snapshotAt(list(t, k.Memory), dateOf(5)); has.ID != seed.ID {
		t.Fatal("the program does not have what it wants the increment from")
	}
	if _, err := src.day(t, 101, k, nil); err != nil {
		t.Fatal(err)
	}
	k.wish = wish
	// From here on it is known; what has waited needs nobody's word.
	if got := held(t, src.Memory); len(got) != 60 || got[len(got)-1] != dateOf(101) {
		t.Errorf("there are %d: %q", len(got), got)
	}
}

func list(t *testing.T, st store.Store) *snapshot.Inventory {
	t.Helper()
	inv, err := st.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// TestDatedLeavesOthers has names that are no dates, other series, other subvolumes
// and dates to come.
func TestDatedLeavesOthers(t *testing.T) {
	src := newNightly(t)
	src.Add("home", 1, "2001-01-01")
	src.Add("home", 2, "now")
	src.Add("home", 3, "upgrade-2001-01-01")
	src.Add("work", 1, "2001-02-03")
	src.Add("home", 4, dateOf(400))
	src.Add("home", 5, "deeper/2001-01-01")
	for number := range 2 {
		if _, err := src.day(t, number, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"2001-02-03", dateOf(0), dateOf(1), dateOf(400), "deeper/2001-01-01", "now", "upgrade-2001-01-01"}
	if diff := cmp.Diff(want, held(t, src.Memory)); diff != "" {
		t.Error(diff)
	}
}

// TestDatedClock has the clock jump, and then takes somebody's word.
func TestDatedClock(t *testing.T) {
	src := newNightly(t)
	for number := range 10 {
		if _, err := src.day(t, number, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := src.day(t, 4000, nil, nil)
	if _, ok := errors.AsType[*ForceError](err); !ok {
		t.Fatalf("the error is %v", err)
	}
	if got := held(t, src.Memory); len(got) != 11 {
		t.Errorf("there are %q", got)
	}
	if _, err := src.day(t, 4000, nil, func(o *DatedOptions) { o.Force = true }); err != nil {
		t.Fatal(err)
	}
	if got := held(t, src.Memory); len(got) != 1 {
		t.Errorf("there are %q", got)
	}
}

func TestDatedDry(t *testing.T) {
	src := newNightly(t)
	src.Add("home", 1, "2001-01-01")
	src.Add("home", 2, dateOf(0))
	k := linear(1)
	var gone []string
	r, err := src.day(t, 1, k, func(o *DatedOptions) {
		o.DryRun = true
		o.Judged = func(all []Verdict) {
			for _, v := range all {
				if !v.Keep {
					gone = append(gone, v.Snapshot.Path)
				}
			}
		}
	})
	if err != nil || r.Made || r.Snapshot != nil || k.opened != 0 {
		t.Errorf("%+v, %v, %d programs", r, err, k.opened)
	}
	if got := held(t, src.Memory); len(got) != 2 || src.Note(store.RetentionNote) != nil {
		t.Errorf("there are %q", got)
	}
	if k.opened == 0 && len(gone) != 0 { // nothing is known of the program
		t.Errorf("%q would go", gone)
	}
}

// TestDatedLocked finds another run at work.
func TestDatedLocked(t *testing.T) {
	src := newNightly(t)
	unlock, err := src.Lock(t.Context(), "somebody")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	_, err = src.day(t, 0, linear(1), nil)
	if _, ok := errors.AsType[*store.LockedError](err); !ok || len(held(t, src.Memory)) != 0 {
		t.Errorf("%v, and there are %q", err, held(t, src.Memory))
	}
}

// TestDatedUnlocked: while the program is at work, others may have the store.
func TestDatedUnlocked(t *testing.T) {
	src := newNightly(t)
	k := linear(1)
	wish := k.wish
	k.wish = func(name string) (bool, string, error) {
		unlock, err := src.Lock(t.Context(), "somebody")
		if err != nil {
			return false, "", fmt.Errorf("the lock is held: %w", err)
		}
		defer func() { _ = unlock() }()
		return wish(name)
	}
	if _, err := src.day(t, 0, k, func(o *DatedOptions) { o.MaxAge = 0 }); err != nil {
		t.Error(err)
	}
}

// TestDatedHangs has a program that never says anything: what is too old has gone by
// then, but not what it has taken last, nor anything as long as nothing is known.
func TestDatedHangs(t *testing.T) {
	for _, known := range []bool{true, false} {
		src := newNightly(t)
		k := linear(1)
		if !known {
			k.wish = func(string) (bool, string, error) { return false, "", errors.New("oops") }
		}
		for number := range 3 {
			if _, err := src.day(t, number, k, nil); (err == nil) != known {
				t.Fatal(err)
			}
		}
		for number := 3; number < 80; number++ {
			if _, err := src.day(t, number, nil, func(o *DatedOptions) { o.MaxAge = 0 }); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		src.now = night.AddDate(0, 0, 80)
		var there []string
		k.wish = func(string) (bool, string, error) {
			there = held(t, src.Memory)
			cancel() // somebody has had enough of it
			return false, "", ctx.Err()
		}
		_, err := src.Dated(ctx, src.Memory, DatedOptions{
			Name: dateOf(80), MaxAge: 60 * 24 * time.Hour, Zone: time.UTC, Who: "a test", Taker: "btrsend:alice",
			Offer: func(context.Context) (Offered, error) { return k, nil },
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		want := 61
		if !known {
			want = 81
		}
		if len(there) != want || known && there[0] != dateOf(2) || there[len(there)-1] != dateOf(80) {
			t.Errorf("known: %v: there are %d: %q", known, len(there), there)
		}
	}
}

// TestDatedOvertaken has a program still be at work when that of the next night is
// through already: the next increment starts from what the latter has taken.
func TestDatedOvertaken(t *testing.T) {
	src := newNightly(t)
	second := &taker{Memory: storetest.NewMemory("taker")}
	full := func(string) (bool, string, error) { return true, "", nil }
	second.wish = full
	first := &taker{Memory: second.Memory}
	first.wish = func(string) (bool, string, error) {
		if r, err := src.day(t, 1, second, nil); err != nil || r.Given == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		return true, "", nil
	}
	if r, err := src.day(t, 0, first, nil); err != nil || r.Given == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	for number := 2; number < 80; number++ {
		if _, err := src.day(t, number, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := held(t, src.Memory); got[0] != dateOf(1) {
		t.Errorf("it has taken %s last, and the oldest that is there is %s", dateOf(1), got[0])
	}
}

// TestDatedForeseen: who looks on is told how long the stream is going to be.
func TestDatedForeseen(t *testing.T) {
	src := newNightly(t)
	var begun []transfer.Event
	r, err := src.day(t, 0, linear(1), func(o *DatedOptions) {
		o.Event = func(e transfer.Event) {
			if e.Kind == transfer.StepBegun {
				begun = append(begun, e)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(begun) != 1 || begun[0].Expected <= 0 {
		t.Errorf("it is told %+v, and %d bytes are given", begun, r.Given.Bytes)
	}
}
