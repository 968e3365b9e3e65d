package endurance

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

// chains returns, for each snapshot, how many streams and how many bytes a
// restore of it takes at least.
func chains(all []object) (streams map[string]int, size map[string]int64) {
	streams, size = map[string]int{}, map[string]int64{}
	streams["None"] = 0
	for range all { // a chain is no longer than that
		for _, o := range all {
			n, ok := streams[o.from]
			if !ok {
				continue
			}
			if old, ok := streams[o.to]; !ok || n+1 < old {
				streams[o.to] = n + 1
			}
			if old, ok := size[o.to]; !ok || size[o.from]+o.size < old {
				size[o.to] = size[o.from] + o.size
			}
		}
	}
	return streams, size
}

// night changes a little, makes the snapshot of a night, and stores it.
func (s *scene) night(d *depot, number int, flags ...string) {
	s.t.Helper()
	live := s.src.Path("live-a")
	if err := os.WriteFile(filepath.Join(live, "diary"), []byte(fmt.Sprint(number)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(live, fmt.Sprintf("photo%d", number)), noise(byte(number), 200_000), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.snapshot(live, fmt.Sprintf("a%02d", number))
	s.store(d, flags...).fine()
}

// TestArchiveMaxChain stores 15 nights with --max-chain. No snapshot ever needs
// more streams than that, and there are increments all the same.
func TestArchiveMaxChain(t *testing.T) {
	t.Parallel()
	d, s := tempDepot(t), empty(t)
	s.src.Subvolume("live-a")
	for night := range 15 {
		s.night(d, night, "--max-chain=4")
		for id, n := range first(chains(d.objects())) {
			if n > 4 {
				t.Fatalf("after night %d, %s needs %d streams", night, id, n)
			}
		}
	}
	full := 0
	for _, o := range d.sound(s) {
		if o.from == "None" {
			full++
		}
	}
	if full > 5 {
		t.Errorf("%d of 15 nights are stored in full", full)
	}
	s.restore(d).fine()
	s.complete()
}

func first[A, B any](a A, _ B) A { return a }

// TestArchiveMaxRestore stores 15 nights with --max-restore. No snapshot ever
// needs more bytes than that.
func TestArchiveMaxRestore(t *testing.T) {
	t.Parallel()
	const limit = 5 << 20 // the last night in full is 3 MiB
	d, s := tempDepot(t), empty(t)
	s.src.Subvolume("live-a")
	for night := range 15 {
		s.night(d, night, fmt.Sprintf("--max-restore=%d", limit))
		_, size := chains(d.objects())
		for id, n := range size {
			if n > limit {
				t.Fatalf("after night %d, %s needs %d bytes", night, id, n)
			}
		}
	}
	d.sound(s)
	s.restore(d).fine()
	s.complete()
}

// TestArchiveDelete removes nights at the source, and with -d at the archive.
// Every night that is kept can be restored; what is removed can be had back from
// the trash; and after the trash has been emptied nothing but what is kept is
// there.
func TestArchiveDelete(t *testing.T) {
	t.Parallel()
	d, s := s3Depot(t, s3test.Start(t)), empty(t)
	s.src.Subvolume("live-a")
	for night := range 8 {
		s.night(d, night)
	}
	all := maps.Clone(s.wanted)
	for _, removed := range [][]string{{"a07"}, {"a03"}, {"a00", "a01"}} {
		for _, name := range removed {
			s.src.Delete("snaps/" + name)
			delete(s.wanted, name)
		}
		s.store(d, "-d").fine()
		s.empty()
		for name := range s.wanted {
			s.restoreTo(d, name, s.to()).fine()
			arrived(t, s.dst, "snaps/"+name, s.wanted[name])
		}
	}
	if edges := d.objects(); slices.ContainsFunc(edges, func(o object) bool { return o.path == "a07" }) {
		t.Errorf("a07 is still there: %v", edges)
	}

	list := d.run("trash", "list", d.url).fine()
	if !strings.Contains(list.out.String(), "a07") {
		t.Errorf("the trash does not have a07:\n%s", list.story())
	}
	if !slices.ContainsFunc(trashOf(d), func(key string) bool {
		return strings.HasPrefix(key, "trash/"+d.prefix+"a07/"+all["a07"].uuid+"_")
	}) {
		t.Error("the trash is not where the old program has it")
	}
	d.run("trash", "restore", d.url+"a07").fine()
	s.wanted["a07"] = all["a07"]
	s.restoreTo(d, "a07", s.to()).fine()
	arrived(t, s.dst, "snaps/a07", s.wanted["a07"])

	d.run("trash", "empty", "--older-than", "30d", d.url).fine()
	delete(s.wanted, "a07")
	s.store(d, "-d").fine()
	if n := len(trashOf(d)); n == 0 {
		t.Error("the trash was emptied of what was younger than 30 days")
	}
	d.run("trash", "empty", "--all", d.url).fine()
	if left := trashOf(d); len(left) > 0 {
		t.Errorf("the trash still has %q", left)
	}
	d.run("verify", "--data", d.url).fine()
	s.empty()
	for name := range s.wanted {
		s.restoreTo(d, name, s.to()).fine()
		arrived(t, s.dst, "snaps/"+name, s.wanted[name])
	}
}

func trashOf(d *depot) []string {
	var all []string
	for _, key := range d.bucket.keys() {
		if strings.HasPrefix(key, "trash/") {
			all = append(all, key)
		}
	}
	return all
}
