package job

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// watched is a store that can tell whether its origin has changed.
type watched struct {
	*storetest.Memory
	changed bool
	since   []snapshot.ID // asked for
	fails   error
}

func (w *watched) Changed(_ context.Context, since snapshot.ID) (bool, error) {
	w.since = append(w.since, since)
	return w.changed, w.fails
}

// taken is what Take has made, or why it has not.
func taken(t testing.TB, r *TakeReport, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Taken == nil {
		return r.Why
	}
	if r.Name != r.Taken.Path || r.Why != "" {
		t.Errorf("%+v", r)
	}
	return r.Taken.Path
}

func TestTake(t *testing.T) {
	src := newNightly(t)
	src.add(1, 3)
	before := src.add(2, 1)
	src.Add("other", 9, "20261120-200000")
	src.Add("home", 1, "x20261120-200000")
	o := TakeOptions{Zone: time.UTC, Who: "a test"}

	o.DryRun = true
	r, err := src.Take(t.Context(), src.Memory, o)
	if err != nil || r.Taken != nil || r.Name != "20261120-231455" || r.Last == nil || r.Last.ID != before.ID {
		t.Fatalf("%+v, %v", r, err)
	}
	o.DryRun = false
	r, err = src.Take(t.Context(), src.Memory, o)
	if got := taken(t, r, err); got != "20261120-231455" || r.Last.ID != before.ID {
		t.Errorf("%s, after %s", got, r.Last.Path)
	}
	again, err := src.Take(t.Context(), src.Memory, o)
	if got := taken(t, again, err); got != "20261120-231456" || again.Last.ID != r.Taken.ID {
		t.Errorf("%s, after %s", got, again.Last.Path)
	}
}

// TestTakeShared has two subvolumes that are snapshotted under one time, which is
// not that of the clock any more.
func TestTakeShared(t *testing.T) {
	a, b := newNightly(t), newNightly(t)
	o := TakeOptions{Zone: time.UTC, At: night, Layout: "YYYY-MM-DD_HH:MM", Prefix: "p-"}
	var names []string
	for _, src := range []*nightly{a, b} {
		src.now = night.Add(90 * time.Second)
		r, err := src.Take(t.Context(), src.Memory, o)
		names = append(names, taken(t, r, err))
	}
	if diff := cmp.Diff([]string{"p-2026-11-20_23:14", "p-2026-11-20_23:14"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestTakeLayouts(t *testing.T) {
	for _, tt := range []struct {
		layout schedule.Layout
		want   string // of three runs in one minute
	}{
		{"", "20261120-231455 20261120-231456 20261120-231457"},
		{"YYYYMMDDTHHMMSS+ZZZZ", "20261120T231455+0000 20261120T231456+0000 20261120T231457+0000"},
		{"YYYYMMDDTHHMM", "20261120T2314 20261120T2315 20261120T2316"},
		{"YYYY-MM-DD", "2026-11-20|there is one of that day, 2026-11-20|there is one of that day, 2026-11-20"},
	} {
		src := newNightly(t)
		var got []string
		for range 3 {
			r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: tt.layout})
			got = append(got, taken(t, r, err))
		}
		separator := " "
		if strings.Contains(tt.want, "|") {
			separator = "|"
		}
		if diff := cmp.Diff(strings.Split(tt.want, separator), got); diff != "" {
			t.Errorf("%q: %s", tt.layout, diff)
		}
		src.now = src.now.AddDate(0, 0, 1)
		r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: tt.layout})
		if got := taken(t, r, err); got != schedule.FormatAs(tt.layout, "", src.now) {
			t.Errorf("%q: the next day %q", tt.layout, got)
		}
	}
}

// TestTakeNameTaken asserts that no name is given that is far ahead of the clock, and
// that what is something else is in the way.
func TestTakeNameTaken(t *testing.T) {
	for _, layout := range []schedule.Layout{"YYYYMMDDTHHMM", "YYYY-MM-DD"} {
		src := newNightly(t)
		for i := range 10 {
			src.Occupy(schedule.FormatAs(layout, "", night.Add(time.Duration(i)*layout.Step())), "a file")
		}
		_, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: layout})
		if x, ok := errors.AsType[*store.ExistsError](err); !ok {
			t.Errorf("%s: %v", layout, err)
		} else if layout == "YYYY-MM-DD" && !strings.HasSuffix(x.Path, "2026-11-20") {
			t.Errorf("%s: the name of another day was tried: %s", layout, x.Path)
		}
	}
	// A snapshot of something else is no snapshot of today.
	src := newNightly(t)
	src.Add("other", 1, "2026-11-20")
	_, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: "YYYY-MM-DD"})
	if _, ok := errors.AsType[*store.ExistsError](err); !ok {
		t.Error(err)
	}
}

// TestTakeClock asserts that a clock that was put back by some minutes gives no name
// that sorts before one that was given, and one that was an hour ahead does not count.
func TestTakeClock(t *testing.T) {
	src := newNightly(t)
	src.add(1, 0)
	src.Add("home", 2, schedule.FormatAs("YYYYMMDDTHHMM", "", night.Add(time.Hour)))
	var names []string
	for _, step := range []time.Duration{0, time.Minute, -3 * time.Minute, 4 * time.Minute} {
		src.now = src.now.Add(step)
		r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: "YYYYMMDDTHHMM"})
		names = append(names, taken(t, r, err))
	}
	if diff := cmp.Diff([]string{"20261120T2314", "20261120T2315", "20261120T2316", "20261120T2317"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestTakeWhenClocksChange has snapshots made every few minutes of the nights in which
// clocks are put forward and back. What names say of the time is never before what the
// ones before say; where there is no such name left, none is given.
func TestTakeWhenClocksChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, begin := range []time.Time{time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)} {
		for _, layout := range []schedule.Layout{"", "YYYYMMDDTHHMM", "YYYYMMDDTHHMM+ZZZZ"} {
			for _, every := range []time.Duration{7 * time.Minute, 15 * time.Minute, time.Hour} {
				src := newNightly(t)
				last, none := time.Time{}, 0
				for src.now = begin; src.now.Before(begin.Add(3 * time.Hour)); src.now = src.now.Add(every) {
					r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: berlin, Layout: layout})
					if x, ok := errors.AsType[*NoNameError](err); ok {
						if none++; x.Until.Sub(src.now) > time.Hour {
							t.Errorf("%q: %v", layout, x)
						}
						continue
					}
					name := taken(t, r, err)
					at, ok := schedule.ParseAs(layout, "", name, berlin)
					if !ok || !at.After(last) || at.After(src.now.Add(schedule.Slack)) {
						t.Errorf("%q: %s, at %v", layout, name, src.now)
					}
					last = at
				}
				short := layout == "YYYYMMDDTHHMM" && begin.Month() == time.October && every < 15*time.Minute
				if (none > 0) != short {
					t.Errorf("%q, every %v: there is no name %d times", layout, every, none)
				}
			}
		}
	}
}

func TestTakeOnlyIfChanged(t *testing.T) {
	src := newNightly(t)
	w := &watched{Memory: src.Memory}
	o := TakeOptions{Zone: time.UTC, OnlyIfChanged: true}
	take := func() (*TakeReport, error) { return src.Take(t.Context(), w, o) }
	// Nothing is there to compare with; snapshots of others and of other series are not.
	src.Add("other", 9, "20261120-200000")
	src.Add("home", 8, "x20261120-200000")
	r, err := take()
	if got := taken(t, r, err); got != "20261120-231455" || len(w.since) > 0 {
		t.Errorf("%s, and asked for %v", got, w.since)
	}
	first := r.Taken
	src.now = src.now.AddDate(0, 0, 1)
	for _, dry := range []bool{true, false} {
		o.DryRun = dry
		r, err = take()
		if got := taken(t, r, err); got != "nothing has changed since 20261120-231455" || r.Name != "" || r.Last.ID != first.ID {
			t.Errorf("%s: %+v", got, r)
		}
	}
	w.changed = true
	r, err = take()
	if got := taken(t, r, err); got != "20261121-231455" {
		t.Error(got)
	}
	// The newest is that which was made last, and not the one with the latest name.
	second := r.Taken
	src.now = src.now.AddDate(0, 0, -10)
	r, err = take()
	third := taken(t, r, err)
	w.changed, w.since = false, nil
	r, err = take()
	if got := taken(t, r, err); got != "nothing has changed since "+third || len(w.since) != 1 || w.since[0] == second.ID {
		t.Error(got)
	}
	w.fails = errors.New("no such luck")
	if r, err := take(); !errors.Is(err, w.fails) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := src.Take(t.Context(), src.Memory, o); err == nil || !strings.Contains(err.Error(), "of this machine") {
		t.Errorf("a store that cannot tell: %v", err)
	} else if _, ok := errors.AsType[*UnableError](err); !ok {
		t.Errorf("a store that cannot tell: %T", err)
	}
}

func TestTakeUnable(t *testing.T) {
	src := newNightly(t)
	src.SetOrigin("")
	if _, err := src.Take(t.Context(), src.Memory, TakeOptions{}); !errors.Is(err, store.ErrNoOrigin) {
		t.Error(err)
	}
	src.SetOrigin("home")
	release, err := src.LockTaking(t.Context(), "another run")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Take(t.Context(), src.Memory, TakeOptions{}); err == nil {
		t.Error("the lock was no obstacle")
	} else if _, ok := errors.AsType[*store.LockedError](err); !ok {
		t.Error(err)
	}
	if r, err := src.Take(t.Context(), src.Memory, TakeOptions{DryRun: true}); err != nil || r.Name == "" {
		t.Errorf("a dry run: %+v, %v", r, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if all := held(t, src.Memory); len(all) > 0 {
		t.Errorf("there are %v", all)
	}
}

// TestBackupOfTaken asserts that what Take has made counts as made in the run: it
// is sent and stays, whatever the rules and the clock say.
func TestBackupOfTaken(t *testing.T) {
	src, dst := newNightly(t), storetest.NewMemory("dst")
	for i := range 4 {
		src.add(uint64(i)+1, 10-i)
	}
	r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Layout: "YYYY-MM-DD", Prefix: ""})
	made := taken(t, r, err)
	o := utc(to("dst", dst))
	o.Layout, o.NoSnapshot, o.Made, o.Rules = "YYYY-MM-DD", true, r.Taken, last(1)
	report, err := src.Backup(t.Context(), src.Memory, o)
	if err != nil || report.Taken == nil || report.Taken.Path != made {
		t.Fatalf("%+v, %v", report, err)
	}
	if diff := cmp.Diff([]string{made}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	// Names of another layout are another series, and stay.
	if all := held(t, src.Memory); len(all) != 5 {
		t.Errorf("there are %v", all)
	}
	for _, v := range report.Source.Verdicts {
		switch {
		case v.Snapshot.Path == made && v.Reason != "it was made in this run" && !strings.Contains(v.Reason, "newest"):
			t.Errorf("%s: %s", made, v.Reason)
		case v.Snapshot.Path != made && v.Reason != "its name is not YYYY-MM-DD":
			t.Errorf("%s: %s", v.Snapshot.Path, v.Reason)
		}
	}
}

// TestBackupLayout names, sends and prunes by a layout.
func TestBackupLayout(t *testing.T) {
	for _, layout := range []schedule.Layout{"YYYYMMDDTHHMMSS+ZZZZ", "YYYY-MM-DD_HH-MM", "YYYYMMDD"} {
		src, dst := newNightly(t), storetest.NewMemory("dst")
		first := night
		for range 7 {
			d := to("dst", dst)
			d.Rules = last(3)
			o := utc(d)
			o.Layout, o.Prefix, o.Rules = layout, "p", last(2)
			if _, err := src.Backup(t.Context(), src.Memory, o); err != nil {
				t.Fatal(err)
			}
			src.now = src.now.AddDate(0, 0, 1)
		}
		var want []string
		for i := 4; i < 7; i++ {
			want = append(want, schedule.FormatAs(layout, "p", first.AddDate(0, 0, i)))
		}
		if diff := cmp.Diff(want, held(t, dst)); diff != "" {
			t.Errorf("%s: %s", layout, diff)
		}
		if diff := cmp.Diff(want[1:], held(t, src.Memory)); diff != "" {
			t.Errorf("%s: %s", layout, diff)
		}
	}
}
