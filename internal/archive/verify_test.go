package archive_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func TestVerifySound(t *testing.T) {
	v := newVerified(t)
	v.put(t, 1, 0, 300<<10, none)
	v.put(t, 2, 1, 50<<10, zst)
	v.put(t, 3, 2, 100, sealed)
	v.put(t, 3, 0, 200<<10, sealed) // another way to have it
	for _, data := range []bool{false, true} {
		got, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: data})
		want := &store.Verification{Streams: map[store.Verdict]int{store.Sound: 4}, Snapshots: map[store.Verdict]int{store.Sound: 3}}
		if data {
			want.ReadWhole = 4
			for _, f := range all {
				want.Read += f.Read
				if info, err := os.Stat(v.file(f.Object)); err != nil || info.Size() != f.Read {
					t.Errorf("of %s, %d bytes were read: %v, %v", f.Object, f.Read, info, err)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with data %v:\n%s", data, diff)
		}
	}
}

// TestVerifyBits: whichever bit of whichever object or manifest has changed, it
// shows, and is named with its snapshot; and nothing else does.
func TestVerifyBits(t *testing.T) {
	const flips = 1000
	v := newVerified(t)
	sizes := []int{0, 3 << 10, 150 << 10}
	var keys []string
	n := 0
	for _, f := range []seal.Form{none, zst, sealed} {
		for _, size := range sizes {
			n++
			keys = append(keys, v.put(t, n, 0, size, f))
		}
	}
	// Several copies of the archive are damaged at a time, so that this takes
	// seconds: each has one bad bit in each object or in its manifest.
	rng := rand.New(rand.NewPCG(4, 4))
	done := 0
	for round := 0; done < flips; round++ {
		type flip struct {
			key string
			at  int
			bit byte
		}
		var flipped []flip
		for i, key := range keys {
			if (round+i)%3 == 0 {
				key += ".json"
			}
			v.alter(t, key, func(b []byte) []byte {
				f := flip{key, rng.IntN(len(b)), 1 << rng.IntN(8)}
				b[f.at] ^= f.bit
				flipped = append(flipped, f)
				return b
			})
		}
		if round%8 == 0 { // and some that are alone
			for _, f := range flipped[1:] {
				v.alter(t, f.key, func(b []byte) []byte { b[f.at] ^= f.bit; return b })
			}
			flipped = flipped[:1]
		}
		bad := map[string]store.Finding{}
		got, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: true})
		for _, f := range all {
			if f.Object != "" && f.Verdict == store.Damaged {
				bad[f.Object] = f
			}
		}
		for _, f := range flipped {
			object := strings.TrimSuffix(f.key, ".json")
			found, ok := bad[object]
			delete(bad, object)
			if !ok || found.Path == "" || !strings.HasPrefix(f.key, "pre/"+found.Path+"/") {
				t.Errorf("bit %#x of byte %d of %s has changed, and what is found is %+v", f.bit, f.at, f.key, found)
			}
			v.alter(t, f.key, func(b []byte) []byte { b[f.at] ^= f.bit; return b })
			done++
		}
		if len(bad) > 0 || got.Snapshots[store.Damaged] != len(flipped) {
			t.Errorf("also bad is %v; %d snapshots are damaged by %d bits", bad, got.Snapshots[store.Damaged], len(flipped))
		}
	}
	if got, _ := v.findings(t, v.open(t, none), store.VerifyOptions{Data: true}); got.Streams[store.Sound] != len(keys) {
		t.Errorf("restored, it is %v", got.Streams)
	}
}

// TestVerifyDamage: all that can become of objects shows, without reading them
// where that can be.
func TestVerifyDamage(t *testing.T) {
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	longer := func(b []byte) []byte { return append(b, 0) }
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, v *verified, full, next string)
		// What is damaged of the full stream, the increment and the snapshots that they
		// make, without data and with: a letter each.
		listed, read string
	}{
		{"truncated", func(t *testing.T, v *verified, full, next string) { v.alter(t, next, cut) }, "sdsd", "sdsd"},
		{"extended", func(t *testing.T, v *verified, full, next string) { v.alter(t, next, longer) }, "sdsd", "sdsd"},
		{"without manifest, truncated", func(t *testing.T, v *verified, full, next string) {
			v.remove(t, next+".json")
			v.alter(t, next, cut)
		}, "ssss", "sdsd"},
		{"without manifest, extended", func(t *testing.T, v *verified, full, next string) {
			v.remove(t, full+".json")
			v.alter(t, full, longer)
		}, "ssss", "dsdd"},
		{"emptied", func(t *testing.T, v *verified, full, next string) {
			v.alter(t, next, func([]byte) []byte { return nil })
		}, "sdsd", "sdsd"},
		{"swapped", func(t *testing.T, v *verified, full, next string) { v.swap(t, full, next) }, "dddd", "dddd"},
		{"swapped with manifests", func(t *testing.T, v *verified, full, next string) {
			v.swap(t, full, next)
			v.swap(t, full+".json", next+".json")
		}, "dddd", "dddd"},
		{"swapped without manifests", func(t *testing.T, v *verified, full, next string) {
			v.swap(t, full, next)
			v.remove(t, full+".json")
			v.remove(t, next+".json")
		}, "ssss", "dddd"},
		{"swapped manifests", func(t *testing.T, v *verified, full, next string) { v.swap(t, full+".json", next+".json") }, "dddd", "dddd"},
		{"deleted parent", func(t *testing.T, v *verified, full, next string) {
			v.remove(t, full)
			v.remove(t, full+".json")
		}, "-s-d", "-s-d"},
		{"deleted parent with a manifest", func(t *testing.T, v *verified, full, next string) { v.remove(t, full) }, "ds-d", "ds-d"},
		{"a manifest of nothing", func(t *testing.T, v *verified, full, next string) {
			v.alter(t, full+".json", func([]byte) []byte { return []byte("{}") })
		}, "dsdd", "dsdd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, form := range []seal.Form{none, zst, sealed} {
				v := newVerified(t)
				full := v.put(t, 1, 0, 30<<10, form)
				next := v.put(t, 2, 1, 20<<10, form)
				tt.do(t, v, full, next)
				for data, want := range map[bool]string{false: tt.listed, true: tt.read} {
					verdicts := v.check(t, data)
					got := ""
					for i, name := range []string{full, next, v.path(1), v.path(2)} {
						letter := map[store.Verdict]string{store.Sound: "s", store.Damaged: "d", store.Unchecked: "u"}[verdicts[name]]
						if letter == "" {
							letter = "-"
							if i >= 2 && want[i] == 's' {
								letter = "s" // it is not told of
							}
						}
						got += letter
					}
					if got != want {
						t.Errorf("%v, with data %v: %s, want %s", form, data, got, want)
					}
				}
			}
		})
	}
}

func (v *verified) remove(t testing.TB, key string) {
	t.Helper()
	if err := os.Remove(v.file(key)); err != nil {
		t.Fatal(err)
	}
}

func (v *verified) swap(t testing.TB, a, b string) {
	t.Helper()
	var first []byte
	v.alter(t, a, func(data []byte) []byte { first = data; return data })
	v.alter(t, b, func(second []byte) []byte {
		v.alter(t, a, func([]byte) []byte { return second })
		return first
	})
}

// TestVerifyChains: a snapshot is as good as the best of its chains, and what is
// missing is named.
func TestVerifyChains(t *testing.T) {
	v := newVerified(t)
	one := v.put(t, 1, 0, 100, none)
	v.put(t, 2, 1, 100, none)
	v.put(t, 2, 0, 100, zst)
	v.put(t, 3, 2, 100, none)
	v.alter(t, one, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	got, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: true})
	if want := map[store.Verdict]int{store.Sound: 2, store.Damaged: 1}; cmp.Diff(want, got.Snapshots) != "" {
		t.Errorf("%v, want %v: %+v", got.Snapshots, want, all)
	}
	v.remove(t, one)
	v.remove(t, one+".json")
	v.remove(t, "pre/home/day2/"+snap(2).String()+"_None.zst")
	v.remove(t, "pre/home/day2/"+snap(2).String()+"_None.zst.json")
	got, all = v.findings(t, v.open(t, none), store.VerifyOptions{})
	if want := map[store.Verdict]int{store.Damaged: 2}; cmp.Diff(want, got.Snapshots) != "" {
		t.Errorf("%v, want %v", got.Snapshots, want)
	}
	for _, f := range all {
		if f.Object == "" && !strings.Contains(f.Why, snap(1).String()) {
			t.Errorf("%s: what is missing is not named: %s", f.Path, f.Why)
		}
	}
	// One that only goes round is none.
	w := newVerified(t)
	w.put(t, 1, 0, 100, none)
	w.put(t, 2, 1, 100, none)
	w.put(t, 1, 2, 100, none)
	w.remove(t, "pre/home/day1/"+snap(1).String()+"_None")
	w.remove(t, "pre/home/day1/"+snap(1).String()+"_None.json")
	if got, all := w.findings(t, w.open(t, none), store.VerifyOptions{Data: true}); got.Snapshots[store.Damaged] != 2 {
		t.Errorf("%v: %+v", got.Snapshots, all)
	}
}

// TestVerifySelection: what is wanted is looked at with all that its chains need,
// and nothing else.
func TestVerifySelection(t *testing.T) {
	v := newVerified(t)
	one, two, three := v.put(t, 1, 0, 100, none), v.put(t, 2, 1, 100, none), v.put(t, 3, 0, 100, none)
	v.alter(t, three, func(b []byte) []byte { return b[1:] })
	got, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: true, Wanted: func(s snapshot.Snapshot) bool { return s.Path == v.path(2) }})
	var names []string
	for _, f := range all {
		names = append(names, f.Object)
	}
	slices.Sort(names)
	if want := []string{one, two}; cmp.Diff(want, names) != "" || got.Snapshots[store.Sound] != 1 || len(got.Snapshots) != 1 {
		t.Errorf("looked at %v, found %v", names, got.Snapshots)
	}
}

// TestVerifyWithoutKey: what cannot be opened is not called sound, and damaged all
// the same where its digest says so.
func TestVerifyWithoutKey(t *testing.T) {
	v := newVerified(t)
	a, b, c := v.put(t, 1, 0, 10<<10, sealed), v.put(t, 2, 0, 10<<10, sealed), v.put(t, 3, 0, 10<<10, sealed)
	v.alter(t, b, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	v.remove(t, c+".json")
	v.o.Keys = seal.Keys{}
	want := map[string]store.Verdict{a: store.Unchecked, b: store.Damaged, c: store.Unchecked, v.path(2): store.Damaged}
	if diff := cmp.Diff(want, v.check(t, true)); diff != "" {
		t.Error(diff)
	}
	want[b] = store.Sound // as far as the listing tells
	want[a], want[c] = store.Sound, store.Sound
	delete(want, v.path(2))
	if diff := cmp.Diff(want, v.check(t, false)); diff != "" {
		t.Error(diff)
	}
}

// TestVerifyDescribes: what has no manifest gets the one that it would have had, if
// it is sound and that may be written.
func TestVerifyDescribes(t *testing.T) {
	for _, form := range []seal.Form{none, zst, sealed} {
		v := newVerified(t)
		good, bad := v.put(t, 1, 0, 30<<10, form), v.put(t, 2, 0, 30<<10, form)
		was := fieldsOf(t, v.file(good+".json"))
		v.remove(t, good+".json")
		v.remove(t, bad+".json")
		v.alter(t, bad, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		for _, o := range []store.VerifyOptions{{}, {Write: true}, {Data: true}} {
			if got, _ := v.findings(t, v.open(t, none), o); got.Undescribed != 2 || got.Described != 0 {
				t.Errorf("%+v: %+v", o, got)
			}
		}
		if got, _ := v.findings(t, v.open(t, none), store.VerifyOptions{Data: true, Write: true}); got.Described != 1 || got.Undescribed != 1 {
			t.Errorf("%+v", got)
		}
		if _, err := os.Stat(v.file(bad + ".json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is damaged is described: %v", err)
		}
		// How it was uploaded is not to be found out any more, nor when.
		if diff := cmp.Diff(was, fieldsOf(t, v.file(good+".json"))); diff != "" {
			t.Error(diff)
		}
		if got := v.check(t, true); got[good] != store.Sound {
			t.Errorf("with its new manifest it is %s", got[good])
		}
	}
}

// fieldsOf returns the lines of a manifest that do not depend on how the object was
// uploaded.
func fieldsOf(t testing.TB, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	parts := false
	for line := range strings.Lines(string(text)) {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(word, `"parts"`):
			parts = true
		case parts:
			parts = !strings.HasPrefix(word, "}")
		case strings.HasPrefix(word, `"created"`), strings.HasPrefix(word, `"crc32c"`):
		default:
			all = append(all, line)
		}
	}
	return all
}

// trouble is a bucket of which some objects cannot be read.
type trouble struct {
	archive.Bucket
	get  func(key string) error
	cold func(key string) bool
}

func (b trouble) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := b.get(key); err != nil {
		return nil, err
	}
	return b.Bucket.Get(ctx, key, offset, length)
}

func (b trouble) Stat(ctx context.Context, key string) (archive.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	if err == nil && b.cold != nil && b.cold(key) {
		o.Cold, o.Class = true, "GLACIER"
	}
	return o, err
}

func (b trouble) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for o, err := range b.Bucket.List(ctx, prefix) {
			if b.cold != nil && b.cold(o.Key) {
				o.Cold, o.Class = true, "GLACIER"
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// TestVerifyCounts: whatever cannot be read, or is damaged, nothing of it is
// counted as sound, and each stream is counted once.
func TestVerifyCounts(t *testing.T) {
	v := newVerified(t)
	forms := []seal.Form{none, zst, sealed}
	var keys []string
	for i := range 6 {
		keys = append(keys, v.put(t, i+1, i, 2<<10, forms[i%3]))
	}
	rapid.Check(t, func(rt *rapid.T) {
		fate := map[string]string{}
		for _, key := range keys {
			fate[key] = rapid.SampledFrom([]string{"", "", "denied", "no manifest", "cold", "bad", "late", "gone"}).Draw(rt, "fate")
		}
		for key, what := range fate {
			if what == "bad" {
				v.alter(t, key, func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
				defer v.alter(t, key, func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
			}
		}
		b, err := dir.Open(v.dir, dir.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		s, err := archive.Open(context.Background(), trouble{b, func(key string) error {
			object, isManifest := strings.CutSuffix(key, ".json")
			switch what := fate[object]; {
			case isManifest && what == "no manifest", !isManifest && what == "denied":
				return &archive.DeniedError{Bucket: "here", Action: "reading", Key: key, Err: fs.ErrPermission}
			case !isManifest && what == "gone":
				return archive.ErrNoObject
			case !isManifest && what == "late":
				return errors.New("the disk is on fire")
			}
			return nil
		}, func(key string) bool { return fate[key] == "cold" }}, v.o)
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		data := rapid.Bool().Draw(rt, "data")
		got, all := v.findings(t, s, store.VerifyOptions{Data: data})
		verdicts := map[string]store.Verdict{}
		for _, f := range all {
			if f.Object == "" {
				continue
			}
			if verdicts[f.Object] != "" {
				rt.Errorf("%s is told of twice", f.Object)
			}
			verdicts[f.Object] = f.Verdict
		}
		worst := store.Sound // of the chain so far
		snapshots := map[store.Verdict]int{}
		for _, key := range keys {
			want := store.Sound
			switch fate[key] {
			case "no manifest":
				want = store.Unchecked
			case "denied", "cold", "late", "gone":
				if data {
					want = store.Unchecked
				}
			case "bad":
				if data {
					want = store.Damaged
				}
			}
			if verdicts[key] != want {
				rt.Errorf("%s, %q: %s, want %s", key, fate[key], verdicts[key], want)
			}
			if want == store.Damaged || worst == store.Sound {
				worst = want
			}
			snapshots[worst]++
		}
		if diff := cmp.Diff(snapshots, got.Snapshots); diff != "" {
			rt.Errorf("snapshots:\n%s", diff)
		}
	})
}

// TestVerifyCancelled: the end of the context ends it, and what it keeps from being
// read is not taken for damage.
func TestVerifyCancelled(t *testing.T) {
	v := newVerified(t)
	for i := range 8 {
		v.put(t, i+1, i, 10<<10, none)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	got, err := v.open(t, none).Verify(ctx, store.VerifyOptions{Data: true, Found: func(f store.Finding) {
		if f.Verdict != store.Sound {
			t.Errorf("%+v", f)
		}
		if n++; n == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || got.Streams[store.Sound] != n || n != 3 {
		t.Errorf("%+v, %v after %d", got, err, n)
	}
}
