package endurance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// pair makes a scene for archives: two small file systems and one family.
func pair(t *testing.T, snapshots int, ballast int64) *scene {
	t.Helper()
	s := empty(t)
	if snapshots > 0 {
		s.family("a", snapshots, ballast)
	}
	return s
}

// empty makes a scene without snapshots on two small file systems.
func empty(t *testing.T) *scene {
	t.Helper()
	return newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
}

// edges returns the edges of streams by the names of the snapshots: "a1<a0",
// and "a0" for one in full.
func (s *scene) edges(all []object) []string {
	names := map[string]string{}
	for name, want := range s.wanted {
		names[want.uuid] = name
	}
	var edges []string
	for _, o := range all {
		edge := names[o.to]
		if o.from != "None" {
			edge += "<" + names[o.from]
		}
		edges = append(edges, edge)
	}
	slices.Sort(edges)
	return edges
}

// increments fails the test unless all streams but one are increments.
func (s *scene) increments(all []object) {
	s.t.Helper()
	full := 0
	for _, o := range all {
		if o.from == "None" {
			full++
		}
	}
	if full != 1 {
		s.t.Errorf("%d streams are full: %q", full, s.edges(all))
	}
}

// TestArchiveCycle brings snapshots to an archive and from there to another
// file system, adds increments at both ends, and brings them to the other end
// through the archive: what was restored is a parent as good as what was sent.
func TestArchiveCycle(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		s := pair(t, 3, 200_000)
		live := s.src.Path("live-a")
		s.store(d).fine()
		d.sound(s)
		s.restore(d).fine()
		s.complete()

		for i := range 2 { // the source goes on
			if err := os.WriteFile(filepath.Join(live, "ballast"), []byte(strings.Repeat(fmt.Sprint(i), 100_000)), 0o644); err != nil {
				t.Fatal(err)
			}
			s.snapshot(live, fmt.Sprintf("a%d", 3+i))
		}
		s.store(d).fine()
		s.increments(d.sound(s))
		r := s.restore(d).fine()
		s.complete()
		if n := strings.Count(r.out.String(), `"event":"committed"`); n != 2 {
			t.Errorf("%d streams are restored instead of 2:\n%s", n, r.story())
		}

		// The restored side goes on, and its snapshots come back to the source.
		fork := s.dst.Path("fork")
		s.dst.Snapshot("snaps/a4", "fork", false)
		if err := os.WriteFile(filepath.Join(fork, "made here"), []byte("after the restore"), 0o644); err != nil {
			t.Fatal(err)
		}
		b0 := s.dst.Snapshot("fork", "snaps/b0", true)
		want := original{s.dst.Show(b0)["UUID"], btrfstest.Digest(t, b0)}
		s.wanted["b0"] = want
		s.storeFrom(s.to(), d).fine()
		s.increments(d.sound(s))
		s.restoreTo(d, "", s.from()).fine()
		arrived(t, s.src, "snaps/b0", want)
		verify := d.run(slices.Concat([]string{"verify"}, d.read, []string{"--data", d.url})...)
		verify.fine()
	})
}

// TestArchiveOneSnapshot restores one snapshot that needs others, and those
// alone; and stores one that is named.
func TestArchiveOneSnapshot(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		s := pair(t, 3, 2<<20)
		s.storeFrom(s.from()+"a0", d).fine()
		if keys := d.objects(); len(keys) != 1 || keys[0].path != "a0" {
			t.Fatalf("a0 was named, and these are stored: %v", keys)
		}
		s.store(d).fine()
		all := d.sound(s)
		if want := []string{"a0", "a1<a0", "a2<a1"}; !slices.Equal(s.edges(all), want) {
			t.Fatalf("the archive has %q instead of %q", s.edges(all), want)
		}
		s.restoreTo(d, "a1", s.to()).fine()
		arrived(t, s.dst, "snaps/a1", s.wanted["a1"])
		if _, err := os.Stat(s.to() + "a2"); err == nil {
			t.Error("a2 is restored, which nobody asked for")
		}
		s.restore(d).fine()
		s.complete()
	})
}

// TestArchiveSealedCycle is the same with everything compressed and encrypted,
// and with two kinds of increments.
func TestArchiveSealedCycle(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		d.sealed(newAgeKey(t))
		s := pair(t, 2, 6<<20)
		s.store(d).fine()
		s.restore(d).fine()
		s.complete()
		s.snapshot(s.src.Path("live-a"), "a2")
		s.family("b", 1, 300_000)
		s.store(d).fine()
		for _, o := range d.sound(s) {
			if o.form != ".zst.age" {
				t.Errorf("%s is not sealed", o)
			}
		}
		s.restore(d).fine()
		s.complete()
	})
}

// TestArchiveMixedForms continues a plain archive with sealed increments, and
// the other way round.
func TestArchiveMixedForms(t *testing.T) {
	t.Parallel()
	d, key := tempDepot(t), newAgeKey(t)
	s := pair(t, 1, 500_000)
	live := s.src.Path("live-a")
	flags := [][]string{{"--compress=zstd:3"}, {"--encrypt=age:" + key.recipient}, {}, {"--compress=zstd", "--encrypt=age:" + key.recipient}}
	s.store(d).fine()
	for i, more := range flags {
		if err := os.WriteFile(filepath.Join(live, "changed"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		s.snapshot(live, fmt.Sprintf("a%d", i+1))
		s.store(d, more...).fine()
	}
	var forms []string
	for _, o := range d.sound(s) {
		forms = append(forms, o.form)
	}
	if want := []string{"", ".zst", ".age", "", ".zst.age"}; !slices.Equal(forms, want) {
		t.Errorf("the forms are %q instead of %q", forms, want)
	}
	d.read = []string{"--identity=" + key.file}
	s.restore(d).fine()
	s.complete()
}

// TestArchiveCopied: a directory that was copied with cp is the same archive, a
// bucket whose objects were copied to a directory is one, and the other way
// round; all of them go on from there.
func TestArchiveCopied(t *testing.T) {
	t.Parallel()
	first := tempDepot(t)
	s := pair(t, 2, 6<<20)
	s.store(first).fine()

	root := filepath.Join(t.TempDir(), "copy")
	if err := tool("cp", "-a", strings.TrimPrefix(strings.TrimSuffix(first.url, "/"), "dir://"), root); err != nil {
		t.Fatal(err)
	}
	second := &depot{t: t, url: "dir://" + root + "/", bucket: dirBucket{t, root}, write: first.write}
	second.goesOn(s, "a2")

	third := s3Depot(t, s3test.Start(t))
	copyObjects(t, second, third)
	third.goesOn(s, "a3")

	fourth := tempDepot(t)
	copyObjects(t, third, fourth)
	fourth.goesOn(s, "a4")
}

// goesOn stores one more snapshot, as an increment, and restores everything.
func (d *depot) goesOn(s *scene, name string) {
	d.t.Helper()
	if err := os.WriteFile(s.src.Path("live-a/news"), []byte(name), 0o644); err != nil {
		d.t.Fatal(err)
	}
	s.snapshot(s.src.Path("live-a"), name)
	r := s.store(d).fine()
	if n := strings.Count(r.out.String(), `"event":"committed"`); n != 1 {
		d.t.Errorf("%d streams are stored where one was missing:\n%s", n, r.story())
	}
	d.sound(s)
	s.empty()
	s.restore(d).fine()
	s.complete()
}

// copyObjects copies what is below the prefix of one archive below that of
// another, object by object, as any tool does that knows both ends.
func copyObjects(t *testing.T, from, to *depot) {
	t.Helper()
	for _, key := range from.bucket.keys() {
		if below, ok := strings.CutPrefix(key, from.prefix); ok {
			to.bucket.put(to.prefix+below, from.bucket.get(key))
		}
	}
}
