package endurance

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestArchiveDamage flips a bit at random places of stored objects. A restore of
// the snapshot fails, and nothing of it looks whole; verify --data names the
// object and the snapshot.
func TestArchiveDamage(t *testing.T) {
	for _, form := range []string{"plain", "sealed"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			d := tempDepot(t)
			if form == "sealed" {
				d.sealed(newAgeKey(t))
			}
			s := empty(t)
			s.family("a", 2, 300_000)
			s.store(d).fine()
			s.restore(d).fine()
			s.complete()
			objects := d.sound(s)
			for range times(t, 12) {
				o := objects[rand.N(len(objects))]
				good := d.bucket.get(o.key)
				bad := bytes.Clone(good)
				at := rand.N(len(bad))
				bad[at] ^= 1 << rand.N(8)
				d.bucket.put(o.key, bad)

				r := d.run(slices.Concat([]string{"verify", "--data"}, d.read, []string{d.url})...)
				if code := r.wait(); code == done {
					t.Errorf("verify does not find the bit at %d of %s", at, o)
				}
				if text := r.out.String() + r.err.String(); !strings.Contains(text, o.key) || !strings.Contains(text, o.path) {
					t.Errorf("verify does not name %s:\n%s", o, text)
				}
				s.empty()
				s.restore(d).unsuccessful(o.path)
				s.whole()
				if s.seen[o.path] {
					t.Errorf("%s is restored from a damaged object", o.path)
				}
				s.clean()
				d.bucket.put(o.key, good)
			}
			d.run(slices.Concat([]string{"verify", "--data"}, d.read, []string{d.url})...).fine()
			s.restore(d).fine()
			s.complete()
		})
	}
}

// TestArchiveTruncated cuts an object short, takes one away, and puts one in the
// place of another.
func TestArchiveTruncated(t *testing.T) {
	t.Parallel()
	d := tempDepot(t)
	s := pair(t, 2, 300_000)
	s.family("b", 1, 100_000)
	s.store(d).fine()
	objects := d.sound(s) // a0, a1<a0, b0
	good := map[string][]byte{}
	for _, o := range objects {
		good[o.key] = d.bucket.get(o.key)
	}
	a0, a1, b0 := objects[0].key, objects[1].key, objects[2].key
	for _, test := range []struct {
		name   string
		damage func()
		lost   []string
	}{
		{"cut short", func() { d.bucket.put(a1, good[a1][:len(good[a1])/2]) }, []string{"a1"}},
		{"empty", func() { d.bucket.put(b0, nil) }, []string{"b0"}},
		{"exchanged", func() { d.bucket.put(b0, good[a0]) }, []string{"b0"}},
		{"followed by more", func() { d.bucket.put(a0, append(bytes.Clone(good[a0]), good[b0]...)) }, []string{"a0", "a1"}},
		{"gone", func() { d.bucket.remove(a0) }, []string{"a0", "a1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.damage()
			if code := d.run("verify", d.url).wait(); code == done {
				t.Log("verify finds nothing without --data")
			}
			if code := d.run("verify", "--data", d.url).wait(); code == done {
				t.Error("verify finds nothing")
			}
			s.empty()
			if code := s.restore(d).wait(); code == done && test.name != "gone" {
				t.Error("restoring finds nothing")
			}
			s.whole()
			for name := range s.wanted {
				if s.seen[name] == slices.Contains(test.lost, name) {
					t.Errorf("%s is there: %v", name, s.seen[name])
				}
			}
			s.clean()
			for key, data := range good {
				d.bucket.put(key, data)
			}
		})
	}
	s.restore(d).fine()
	s.complete()
}
