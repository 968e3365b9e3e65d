package endurance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// stamp is how the names of snapshots tell the time.
const stamp = "20060102-150405"

// A series is a subvolume of which a snapshot is taken every day, as it would be
// by the program if days went by.
type series struct {
	*scene
	live   string
	random *rand.Rand
	days   []time.Time // of the snapshots that were ever taken
	all    map[string]original
}

// newSeries makes a subvolume with some files, of which snapshots have been due
// for so many days until yesterday.
func newSeries(t *testing.T) *series {
	t.Helper()
	s := &series{scene: empty(t), random: rand.New(rand.NewPCG(7, 11)), all: map[string]original{}}
	s.live = s.src.Subvolume("live")
	for i := range 20 {
		s.write(fmt.Sprint("file", i), 20_000)
	}
	return s
}

func (s *series) write(name string, size int) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.live, name), noise(byte(s.random.Uint32()), size), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// day changes some files and takes the snapshot of a day.
func (s *series) day(at time.Time) string {
	s.t.Helper()
	for range 3 {
		s.write(fmt.Sprint("file", s.random.IntN(25)), 1+s.random.IntN(40_000))
	}
	_ = os.Remove(filepath.Join(s.live, fmt.Sprint("file", s.random.IntN(25))))
	name := at.Format(stamp)
	s.snapshot(s.live, name)
	s.all[name] = s.wanted[name]
	s.days = append(s.days, at)
	return name
}

// keeping returns the names that rules keep of the days up to now: the newest
// few, and the newest one of each of the newest days, weeks and months.
func (s *series) keeping(last, daily, weekly, monthly int) map[string]bool {
	kept := map[string]bool{}
	newest := func(count int, period func(time.Time) string) {
		seen := map[string]bool{}
		for _, at := range slices.Backward(s.days) {
			if p := period(at); !seen[p] && len(seen) < count {
				seen[p] = true
				kept[at.Format(stamp)] = true
			}
		}
	}
	newest(last, func(at time.Time) string { return at.Format(stamp) })
	newest(daily, func(at time.Time) string { return at.Format("2006-01-02") })
	newest(weekly, func(at time.Time) string { year, week := at.ISOWeek(); return fmt.Sprint(year, week) })
	newest(monthly, func(at time.Time) string { return at.Format("2006-01") })
	return kept
}

// needs adds to some snapshots all from which streams of an archive lead to them.
func (s *series) needs(all []object, kept map[string]bool) map[string]bool {
	names := map[string]string{}
	for name, o := range s.all {
		names[o.uuid] = name
	}
	needed := maps.Clone(kept)
	for range all {
		for _, o := range all {
			if needed[o.path] && o.from != "None" {
				needed[names[o.from]] = true
			}
		}
	}
	return needed
}

// TestBackupToArchive backs up a subvolume to an archive on 60 days. On each of
// them the archive has what its rules keep and what those snapshots are made
// from, and nothing else; no chain is longer than it may be; and what is there
// can be restored.
func TestBackupToArchive(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		const days, longest = 60, 6
		d.env = append(d.env, "TZ=UTC")
		if d.prefix == "" {
			d.sealed(newAgeKey(t))
		}
		s := newSeries(t)
		first := time.Now().UTC().AddDate(0, 0, -days-1).Truncate(24 * time.Hour).Add(12 * time.Hour)
		backup := func(more ...string) *run {
			args := slices.Concat([]string{"backup", "--json", "-S", "-f", s.from(), "-N", "2", "--max-chain", fmt.Sprint(longest)}, d.write, more, []string{s.live, d.url})
			return startWith(t, s.state, d.env, args...)
		}
		held := ""
		fulls, removed := 0, map[string]bool{}
		for i := range days {
			name := s.day(first.AddDate(0, 0, i))
			r := backup("--dest-keep", "last:3,daily:4,weekly:3,monthly:2").fine()
			kept := s.keeping(3, 4, 3, 2)
			if held != "" {
				kept[held] = true
			}
			all := d.objects()
			there := map[string]bool{}
			for _, o := range all {
				there[o.path] = true
				if removed[o.path] {
					t.Fatalf("day %d: %s is there again", i, o)
				}
				if o.path == name && o.from == "None" {
					fulls++
				}
			}
			if want := s.needs(all, kept); !maps.Equal(there, want) {
				t.Fatalf("day %d: there are %q, and the rules keep %q with what they need, %q:\n%s", i, sorted(there), sorted(kept), sorted(want), r.story())
			}
			for gone := range s.all {
				if !there[gone] {
					removed[gone] = true
				}
			}
			streams, _ := chains(all)
			for path := range there {
				if n := streams[s.all[path].uuid]; n < 1 || n > longest {
					t.Fatalf("day %d: %s needs %d streams:\n%s", i, path, n, r.story())
				}
			}
			if left := len(s.src.Subvolumes()) - 1; left > 2 {
				t.Fatalf("day %d: %d snapshots are at the source:\n%s", i, left, r.story())
			}
			switch i {
			case 20:
				held = name
				d.run("hold", "--why", "before the move", d.url+name).fine()
			case 50:
				d.run("release", d.url+held).fine()
				held = ""
			}
			if i%20 == 9 || i == days-1 {
				s.wanted = map[string]original{}
				for path := range there {
					s.wanted[path] = s.all[path]
				}
				d.sound(s.scene)
				s.restore(d).fine()
				s.complete()
				s.empty()
			}
		}
		if least := days / longest; fulls < least || fulls > least+1 {
			t.Errorf("%d of %d days are stored in full", fulls, days)
		}
		if len(removed) < days/2 {
			t.Errorf("no more than %d of %d days were ever removed", len(removed), days)
		}
		d.run(slices.Concat([]string{"verify"}, d.read, []string{"--data", d.url})...).fine()
		// What has gone can be had back for a time.
		var trash []string
		for _, key := range d.bucket.keys() {
			if rest, ok := strings.CutPrefix(key, "trash/"+d.prefix); ok {
				trash = append(trash, strings.Split(rest, "/")[0])
			}
		}
		for gone := range removed {
			if !slices.Contains(trash, gone) {
				t.Errorf("%s is not in the trash", gone)
			}
		}
	})
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// TestBackupToCommand gives snapshots to a command, each once, in chains that are
// no longer than they may be; what the command has failed to take is given to it
// by the next run. What it has taken gives the snapshots back, by nothing but btrfs
// receive.
func TestBackupToCommand(t *testing.T) {
	t.Parallel()
	s := newSeries(t)
	store := t.TempDir()
	command := fmt.Sprintf(`test ! -e %[1]s/full && f=%[1]s/$(ls %[1]s | wc -l).$BUTTERSINK_NAME.${BUTTERSINK_PARENT:-None} && cat > "$f.new" && mv "$f.new" "$f"`, store)
	locks := s.from() + ".outstanding_transfers"
	backup := func(more ...string) *run {
		args := slices.Concat([]string{"backup", "--json", "-S", "-f", s.from(), "--max-chain=3"}, more, []string{s.live, "shell://" + command})
		return startWith(t, s.state, []string{"TZ=UTC"}, args...)
	}
	first := time.Now().UTC().AddDate(0, 0, -10).Truncate(24 * time.Hour)
	for i := range 7 {
		name := s.day(first.AddDate(0, 0, i))
		if i == 4 {
			if err := os.WriteFile(filepath.Join(store, "full"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			r := backup()
			if code := r.wait(); code == done {
				t.Errorf("the command fails, and it ends with %d:\n%s", code, r.story())
			}
			if text, err := os.ReadFile(locks); err != nil || !strings.Contains(string(text), name) || !strings.Contains(string(text), "shell://") {
				t.Errorf("what is unfinished is not noted: %q, %v", text, err)
			}
			if err := os.Remove(filepath.Join(store, "full")); err != nil {
				t.Fatal(err)
			}
			continue // the next run gives two
		}
		backup().fine()
		backup().fine() // which gives nothing
	}
	if text, err := os.ReadFile(locks); err != nil || strings.TrimSpace(string(text)) != "{}" {
		t.Errorf("when all is given, this is noted: %q, %v", text, err)
	}
	files, err := os.ReadDir(store)
	if err != nil || len(files) != len(s.all) {
		t.Fatalf("%d snapshots, and the command has %v, %v", len(s.all), files, err)
	}
	for i, f := range files { // in the order in which they came
		name, parent := strings.Split(f.Name(), ".")[1], strings.Split(f.Name(), ".")[2]
		want := "None"
		if i%3 != 0 {
			want = s.all[s.days[i-1].Format(stamp)].uuid
		}
		if name != s.days[i].Format(stamp) || parent != want {
			t.Errorf("number %d is %s, and not from %s", i, f.Name(), want)
		}
		if err := tool("btrfs", "receive", "-f", filepath.Join(store, f.Name()), s.to()); err != nil {
			t.Fatal(err)
		}
	}
	s.complete()
}

// TestBackupNewestToCommand gives a command no more than the newest few, as -n has
// it. What it has taken is its own business, and does not go.
func TestBackupNewestToCommand(t *testing.T) {
	t.Parallel()
	s := newSeries(t)
	store := t.TempDir()
	first := time.Now().UTC().AddDate(0, 0, -10).Truncate(24 * time.Hour)
	for i := range 8 {
		s.day(first.AddDate(0, 0, i))
		if i < 3 {
			continue
		}
		r := startWith(t, s.state, []string{"TZ=UTC"}, "backup", "--json", "-S", "-f", s.from(), "-n", "2", s.live, "shell://cat > "+store+"/$BUTTERSINK_NAME").fine()
		var want []string
		for _, at := range s.days[2 : i+1] {
			want = append(want, at.Format(stamp))
		}
		files, err := filepath.Glob(store + "/*")
		for n := range files {
			files[n] = filepath.Base(files[n])
		}
		if err != nil || !slices.Equal(files, want) {
			t.Fatalf("the command has %q, %v, and not %q:\n%s", files, err, want, r.story())
		}
	}
}
