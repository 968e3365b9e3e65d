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
	t.Parallel()
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
			for i := range times(t, 9) {
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
				if i%9 == 0 { // damage is tried again, which takes its time
					s.empty()
					s.restore(d).unsuccessful(o.path)
					s.whole()
					if s.seen[o.path] {
						t.Errorf("%s is restored from a damaged object", o.path)
					}
					s.clean()
				}
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
	good := map[string][]byte{}
	var first, second, third object // a chain of two, and one by itself
	for _, o := range d.sound(s) {
		good[o.key] = d.bucket.get(o.key)
		switch {
		case o.from != "None":
			second = o
		case o.path == "b0":
			third = o
		default:
			first = o
		}
	}
	chain := []string{first.path, second.path}
	for _, test := range []struct {
		name   string
		damage func()
		lost   []string
	}{
		{"cut short", func() { d.bucket.put(second.key, good[second.key][:second.size/2]) }, chain[1:]},
		{"empty", func() { d.bucket.put(third.key, nil) }, []string{"b0"}},
		{"exchanged", func() { d.bucket.put(third.key, good[first.key]) }, []string{"b0"}},
		{"followed by more", func() { d.bucket.put(first.key, append(bytes.Clone(good[first.key]), good[third.key]...)) }, chain},
		{"gone", func() { d.bucket.remove(first.key) }, chain},
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
			r := s.restore(d)
			if code := r.wait(); code == done {
				t.Errorf("restoring finds nothing:\n%s", r.story())
			}
			if test.name == "empty" {
				r.says("Ignoring 1 object that is empty: b0/", "b0")
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
