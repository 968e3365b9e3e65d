package endurance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/transfer"
)

// A diary is a subvolume that is backed up again and again, by a clock of its own.
type diary struct {
	t      *testing.T
	src    *btrfstest.FS
	live   string
	tree   *btrfstest.Tree
	now    time.Time
	rules  schedule.Rules
	places []*haven

	log     strings.Builder
	digests map[string]string // of every snapshot that was ever made
}

// A haven is a destination of a diary.
type haven struct {
	name  string
	fs    *btrfstest.FS
	rules schedule.Rules
	away  bool // cannot be opened

	fulls, increments int
}

func (p *haven) dir() string { return p.fs.Path("bk") }

func rulesOf(t *testing.T, text string) schedule.Rules {
	t.Helper()
	r, err := schedule.ParseRules(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newDiary makes a subvolume, and a place for each of the rules.
func newDiary(t *testing.T, start time.Time, source string, places ...string) *diary {
	t.Helper()
	d := &diary{t: t, src: btrfstest.New(t, btrfstest.Size(1<<30)), now: start, rules: rulesOf(t, source), digests: map[string]string{}}
	d.live = d.src.Subvolume("home")
	d.tree = btrfstest.NewTree(t, d.live, 7, btrfstest.Extra(3), btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks))
	d.tree.Fill()
	dirs := []string{d.folder()}
	for i, text := range places {
		p := &haven{name: fmt.Sprintf("place %d", i), fs: btrfstest.New(t, btrfstest.Size(1<<30)), rules: rulesOf(t, text)}
		d.places = append(d.places, p)
		dirs = append(dirs, p.dir())
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *diary) folder() string { return d.src.Path("snaps") }

// backup makes one run.
func (d *diary) backup(change func(*job.BackupOptions)) (*job.BackupReport, error) {
	d.t.Helper()
	d.tree.Mutate()
	src, err := local.Open(d.folder(), local.Options{Origin: d.live})
	if err != nil {
		d.t.Fatal(err)
	}
	defer src.Close()
	d.log.Reset()
	engine := &job.Engine{
		Now: func() time.Time { return d.now },
		Log: slog.New(slog.NewTextHandler(&d.log, nil)),
	}
	o := job.BackupOptions{
		Prefix: "home-", Zone: time.UTC, Rules: d.rules, Who: "the diary",
		Event: func(name string, e transfer.Event) {
			if e.Kind != transfer.Committed || e.Action != plan.Send {
				return
			}
			for _, p := range d.places {
				switch {
				case p.name != name:
				case e.From.IsZero():
					p.fulls++
				default:
					p.increments++
				}
			}
		},
	}
	for _, p := range d.places {
		o.Destinations = append(o.Destinations, job.Destination{
			Name: p.name, ID: p.dir(), Rules: p.rules,
			Open: func(context.Context) (store.Store, error) {
				if p.away {
					return nil, errors.New("it is away")
				}
				return local.Open(p.dir(), local.Options{})
			},
		})
	}
	if change != nil {
		change(&o)
	}
	report, err := engine.Backup(d.t.Context(), src, o)
	if report != nil && report.Taken != nil {
		path := filepath.Join(d.folder(), report.Taken.Path)
		d.digests[report.Taken.Path] = btrfstest.Digest(d.t, path)
	}
	return report, err
}

// fine makes one run, of which nothing may fail.
func (d *diary) fine() *job.BackupReport {
	d.t.Helper()
	report, err := d.backup(nil)
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", d.now.Format(time.DateTime), errors.Join(err, causes(err)), &d.log)
	}
	return report
}

// causes are the failures that an error is made of.
func causes(err error) error {
	if e, ok := errors.AsType[*job.BackupError](err); ok {
		return errors.Join(e.Failures...)
	}
	return nil
}

// names are what a directory has, apart from notes.
func (d *diary) names(dir string) []string {
	d.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			all = append(all, e.Name())
		}
	}
	slices.Sort(all)
	return all
}

// sound fails the test unless every snapshot, everywhere, is what was made, or
// only those that are new if not all.
func (d *diary) sound(all bool) {
	d.t.Helper()
	dirs := []string{d.folder()}
	for _, p := range d.places {
		dirs = append(dirs, p.dir())
	}
	for _, dir := range dirs {
		names := d.names(dir)
		if !all {
			names = names[max(0, len(names)-1):]
		}
		for _, name := range names {
			want, ok := d.digests[name]
			switch {
			case !ok:
				d.t.Fatalf("%s: what is %s in %s?", d.now.Format(time.DateTime), name, dir)
			case btrfstest.Digest(d.t, filepath.Join(dir, name)) != want:
				d.t.Fatalf("%s: %s in %s is another one", d.now.Format(time.DateTime), name, dir)
			}
		}
	}
}

// linked fails the test unless the source still has the newest snapshot of every
// place.
func (d *diary) linked() {
	d.t.Helper()
	here := d.names(d.folder())
	for _, p := range d.places {
		there := d.names(p.dir())
		if len(there) > 0 && !slices.Contains(here, there[len(there)-1]) {
			d.t.Fatalf("%s: the newest at %s is %s; the source has %q", d.now.Format(time.DateTime), p.name, there[len(there)-1], here)
		}
	}
}

// TestHundredDays backs up twice a day at most, for a hundred days or so, with the
// clock going over a change to summer time, and one of two places away for weeks.
func TestHundredDays(t *testing.T) {
	t.Parallel()
	days := times(t, 100)
	d := newDiary(t, time.Date(2026, 2, 1, 2, 30, 0, 0, time.UTC), "last:3", "last:2,daily:7,weekly:4,zone:Europe/Berlin", "last:5")
	second := d.places[1]
	for day := range days {
		second.away = day >= 30 && day < 45
		if second.away {
			report, err := d.backup(nil)
			if _, ok := errors.AsType[*job.BackupError](err); !ok || report.Destinations[0].Err != nil || report.Destinations[1].Err == nil {
				t.Fatalf("day %d: %v", day, err)
			}
		} else {
			d.fine()
		}
		d.sound(day%3 == 0) // everything stays that long
		d.linked()
		d.now = d.now.Add(24 * time.Hour)
	}
	d.sound(true)
	for _, p := range d.places {
		if p.fulls != 1 {
			t.Errorf("%s got %d full streams and %d increments", p.name, p.fulls, p.increments)
		}
	}
	if got := d.names(d.folder()); len(got) != 3 {
		t.Errorf("the source has %q", got)
	}
	if got := d.names(second.dir()); len(got) != 5 {
		t.Errorf("the second place has %q", got)
	}
	// Seven days, of which the newest two are the last two, and the newest of the
	// weeks before.
	if got := d.names(d.places[0].dir()); len(got) < 8 || len(got) > 11 {
		t.Errorf("the first place has %q", got)
	}
}

// TestClockJumps has the clock go wrong, and back.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	d := newDiary(t, time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), "daily:5", "daily:6")
	run := func(at time.Time) {
		t.Helper()
		d.now = at
		d.fine()
		d.linked()
	}
	at := d.now
	for range 8 {
		run(at)
		at = at.Add(24 * time.Hour)
	}
	before := d.names(d.folder())
	// The battery is empty: the machine comes up years ago. What it has is in the
	// future then, and nothing of it goes.
	run(time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC))
	run(time.Date(2000, 1, 1, 1, 0, 10, 0, time.UTC))
	for _, name := range before {
		if !slices.Contains(d.names(d.folder()), name) {
			t.Fatalf("%s is gone from %q", name, d.names(d.folder()))
		}
	}
	// Right again, and then far ahead for one night.
	run(at)
	run(at.AddDate(10, 0, 0))
	ahead := d.names(d.folder())[len(d.names(d.folder()))-1]
	at = at.Add(24 * time.Hour)
	for range 8 {
		run(at)
		at = at.Add(24 * time.Hour)
	}
	d.sound(true)
	for _, dir := range []string{d.folder(), d.places[0].dir()} {
		names := d.names(dir)
		if !slices.Contains(names, ahead) {
			t.Errorf("%s: %s of the future is gone: %q", dir, ahead, names)
		}
		// The five or six newest days, and the one of the future, which does not count.
		if len(names) < 6 || len(names) > 9 {
			t.Errorf("%s has %q", dir, names)
		}
	}
}
