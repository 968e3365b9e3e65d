package buckettest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
)

// oddKeys are keys that a careless bucket stumbles over.
var oddKeys = []string{
	"two words/and more", "ünï→✓/日本", "per%20cent/%2F%", "a+b/c+", "q'u\"o`te", "a&b=c;d/?x#y", "new\nline", "tab\there",
	`back\slash`, "-dash/--", "$(x);*[a]{b}", "~tilde!@^|<>:,", ".hidden/..dots/...", " lead/trail ", "e\u0301/\u00e9", "UPPER/upper",
}

// badKeys are such as some buckets cannot have.
var badKeys = []string{
	"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", "a\x00b", "\xff\xfe", "a/" + strings.Repeat("x", 256), strings.Repeat("a/", 3000) + "a",
}

var placeCases = []Case{
	{"place", func(t testing.TB, h Harness) {
		a, b := h.New(t), h.New(t)
		here, there, again := a.Location(), b.Location(), h.Again(t, a).Location()
		if here == "" || here == there || here != again || a.String() == "" {
			t.Errorf("%s is at %q, opened again at %q, and another one at %q", a, here, again, there)
		}
	}},
	{"limits", func(t testing.TB, h Harness) {
		l := h.New(t).Limits()
		if l.Small < 1<<20 || l.MinPart < 1 || l.MaxPart < l.MinPart || l.Parts < 1000 || l.Object < l.MaxPart {
			t.Errorf("odd limits: %+v", l)
		}
	}},
	{"keys/odd ones", func(t testing.TB, h Harness) {
		b := h.New(t)
		var all []string
		for i, key := range oddKeys {
			if err := b.CheckKey(key); err != nil {
				t.Logf("no object %q: %v", key, err)
				continue
			}
			put(t, b, key, content(uint64(i), 100))
			all = append(all, key)
		}
		if len(all) < len(oddKeys)/2 {
			t.Errorf("only %q are possible", all)
		}
		lists(t, b, "", all...)
		for i, key := range oddKeys {
			if b.CheckKey(key) != nil {
				continue
			}
			holds(t, b, key, content(uint64(i), 100))
			lists(t, b, key, key)
			if err := b.Copy(t.Context(), key, "copy of/"+key); err != nil {
				t.Errorf("copying %q: %v", key, err)
			}
			holds(t, b, "copy of/"+key, content(uint64(i), 100))
			u := begin(t, b, "up/"+key)
			unfinished(t, b, "up/"+key, "up/"+key)
			complete(t, u, putPart(t, u, 1, content(uint64(i), 50)))
			holds(t, b, "up/"+key, content(uint64(i), 50))
			if err := b.Delete(t.Context(), key); err != nil {
				t.Errorf("deleting %q: %v", key, err)
			}
			absent(t, b, key)
		}
	}},
	{"keys/impossible ones", func(t testing.TB, h Harness) {
		b := h.New(t)
		for _, key := range badKeys {
			why := b.CheckKey(key)
			err := b.Put(t.Context(), key, []byte("x"), false)
			if (why == nil) != (err == nil) {
				t.Errorf("CheckKey %.100q: %v, and Put: %v", key, why, err)
			}
			if err == nil {
				holds(t, b, key, []byte("x"))
				lists(t, b, "", key)
				_ = b.Delete(t.Context(), key)
				continue
			}
			if u, err := b.Begin(t.Context(), key, archive.UploadOptions{PartSize: partSize(b)}); err == nil {
				t.Errorf("Begin %.100q: no error, and CheckKey: %v", key, why)
				_ = u.Abort(t.Context())
			}
			lists(t, b, "")
		}
		if b.CheckKey("") == nil {
			t.Error("an empty key is possible")
		}
	}},
}

var listCases = []Case{
	{"list/empty", func(t testing.TB, h Harness) {
		b := h.New(t)
		lists(t, b, "")
		lists(t, b, "a/b")
		unfinished(t, b, "")
	}},
	{"list/prefix", func(t testing.TB, h Harness) {
		b := h.New(t)
		for _, key := range []string{"a/b", "a/bc", "a/c/d", "ab", "b", "a/b.json", "z/a/b"} {
			put(t, b, key, []byte(key))
		}
		lists(t, b, "", "a/b", "a/bc", "a/c/d", "ab", "b", "a/b.json", "z/a/b")
		lists(t, b, "a", "a/b", "a/bc", "a/c/d", "ab", "a/b.json")
		lists(t, b, "a/", "a/b", "a/bc", "a/c/d", "a/b.json")
		lists(t, b, "a/b", "a/b", "a/bc", "a/b.json")
		lists(t, b, "a/c/", "a/c/d")
		lists(t, b, "a/c/d/")
		lists(t, b, "a/b/")
		lists(t, b, "A")
		lists(t, b, "../")
		lists(t, b, "/")
	}},
	{"list/what it says", func(t testing.TB, h Harness) {
		b := h.New(t)
		for i := range 5 {
			put(t, b, fmt.Sprint("o/", i), content(uint64(i), int64(i)*1000))
		}
		for o, err := range b.List(t.Context(), "o/") {
			if err != nil {
				t.Fatal(err)
			}
			s, err := b.Stat(t.Context(), o.Key)
			if err != nil || s.Size != o.Size || s.Tag != o.Tag || s.Cold != o.Cold || o.Modified.IsZero() {
				t.Errorf("%q is listed as %+v, and by itself is %+v (%v)", o.Key, o, s, err)
			}
			if want := fmt.Sprint("o/", o.Size/1000); o.Key != want {
				t.Errorf("%q has %d bytes", o.Key, o.Size)
			}
		}
	}},
	{"list/pages", func(t testing.TB, h Harness) {
		b := h.New(t)
		const many = 1100
		var group sync.WaitGroup
		for w := range 8 {
			group.Go(func() {
				for i := w; i < many; i += 8 {
					if err := b.Put(t.Context(), fmt.Sprintf("d%d/%04d", i%3, i), nil, true); err != nil {
						t.Errorf("Put: %v", err)
						return
					}
				}
			})
		}
		group.Wait()
		seen := map[string]bool{}
		for o, err := range b.List(t.Context(), "d") {
			if err != nil {
				t.Fatal(err)
			}
			if seen[o.Key] {
				t.Errorf("%q is listed twice", o.Key)
			}
			seen[o.Key] = true
		}
		if len(seen) != many {
			t.Errorf("%d objects are listed of %d", len(seen), many)
		}
		n := 0
		for range b.List(t.Context(), "") {
			if n++; n == 3 {
				break
			}
		}
		if n != 3 {
			t.Errorf("a listing that is ended after 3 gave %d", n)
		}
	}},
	{"list/cancelled", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "a", nil)
		n := 0
		for _, err := range b.List(gone(t), "") {
			n++
			canceled(t, "List", err)
		}
		for _, err := range b.Uploads(gone(t), "") {
			n++
			canceled(t, "Uploads", err)
		}
		if n != 2 {
			t.Errorf("listing with a cancelled context gave %d things, want an error each", n)
		}
	}},
}

var getCases = []Case{
	{"get/missing", func(t testing.TB, h Harness) {
		b := h.New(t)
		absent(t, b, "a")
		put(t, b, "a/b", nil)
		absent(t, b, "a")
		absent(t, b, "a/b/c")
		absent(t, b, "a/")
	}},
	{"get/ranges", func(t testing.TB, h Harness) {
		b := h.New(t)
		data := content(1, 100_000)
		put(t, b, "o", data)
		for _, r := range [][2]int64{{0, 1}, {0, 100_000}, {0, 200_000}, {1, 10}, {99_999, 1}, {99_999, 100}, {50_000, 50_000}, {65_535, 2}, {100_000, 5}, {200_000, 5}, {0, 0}, {7, 0}} {
			want := data[min(r[0], 100_000):min(r[0]+r[1], 100_000)]
			if got := read(t, b, "o", r[0], r[1]); !bytes.Equal(got, want) {
				t.Errorf("%d bytes from %d on: got %d %s, want %d %s", r[1], r[0], len(got), sample(got), len(want), sample(want))
			}
		}
	}},
	{"get/empty", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "o", nil)
		holds(t, b, "o", nil)
		if got := read(t, b, "o", 5, 5); len(got) > 0 {
			t.Errorf("an empty object has %d bytes behind its end", len(got))
		}
	}},
	{"get/closed", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "o", content(1, 1<<20))
		r, err := b.Get(t.Context(), "o", 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Errorf("reading: %v", err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}},
	{"get/deleted meanwhile", func(t testing.TB, h Harness) {
		b := h.New(t)
		data := content(1, 1<<20)
		for _, meanwhile := range []func() error{
			func() error { return b.Delete(t.Context(), "o") },
			func() error { return b.Put(t.Context(), "o", content(2, 1<<20), false) },
		} {
			put(t, b, "o", data)
			r, err := b.Get(t.Context(), "o", 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			head := make([]byte, 1000)
			if _, err := io.ReadFull(r, head); err != nil {
				t.Errorf("reading: %v", err)
			}
			if err := meanwhile(); err != nil {
				t.Errorf("while it is read: %v", err)
			}
			rest, err := io.ReadAll(r)
			r.Close()
			if got := append(head, rest...); err == nil && !bytes.Equal(got, data) || !bytes.HasPrefix(data, got) {
				t.Errorf("what is read while the object goes is neither what it was nor an error: %v", err)
			}
		}
	}},
	{"get/side by side", func(t testing.TB, h Harness) {
		b := h.New(t)
		data := content(1, 400_000)
		put(t, b, "o", data)
		var group sync.WaitGroup
		for i := range int64(8) {
			group.Go(func() {
				if got := read(t, b, "o", i*50_000, 50_000); !bytes.Equal(got, data[i*50_000:(i+1)*50_000]) {
					t.Errorf("range %d differs", i)
				}
			})
		}
		group.Wait()
	}},
	{"get/cancelled", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "o", nil)
		_, err := b.Stat(gone(t), "o")
		canceled(t, "Stat", err)
		r, err := b.Get(gone(t), "o", 0, 10)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		canceled(t, "Get", err)
	}},
}

var putCases = []Case{
	{"put/replaces", func(t testing.TB, h Harness) {
		b := h.New(t)
		for i, size := range []int64{1000, 10, 0, 50_000} {
			put(t, b, "d/o", content(uint64(i), size))
			holds(t, b, "d/o", content(uint64(i), size))
		}
		lists(t, b, "", "d/o")
	}},
	{"put/once", func(t testing.TB, h Harness) {
		b := h.New(t)
		if err := b.Put(t.Context(), "d/o", []byte("first"), true); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "d/o", []byte("second"), true); !errors.Is(err, archive.ErrTaken) {
			t.Errorf("the second Put: %v, want ErrTaken", err)
		}
		holds(t, b, "d/o", []byte("first"))
		if err := b.Delete(t.Context(), "d/o"); err != nil {
			t.Error(err)
		}
		if err := b.Put(t.Context(), "d/o", []byte("third"), true); err != nil {
			t.Errorf("Put where an object has been deleted: %v", err)
		}
		holds(t, b, "d/o", []byte("third"))
	}},
	{"put/once, all at a time", func(t testing.TB, h Harness) {
		b := h.New(t)
		again := h.Again(t, b)
		for round := range 5 {
			key := fmt.Sprintf("race/%d/o", round)
			won := race(16, func(i int) error {
				return []archive.Bucket{b, again}[i%2].Put(t.Context(), key, content(uint64(i), 100), true)
			}, func(err error) {
				// S3 answers so to some of those that come at the same time.
				if !errors.Is(err, archive.ErrTaken) {
					t.Errorf("a loser is told: %v", err)
				}
			})
			if len(won) != 1 {
				t.Errorf("the winners are %v", won)
				continue
			}
			holds(t, b, key, content(uint64(won[0]), 100))
		}
	}},
	{"put/tags", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "o", content(1, 1000))
		one, err := b.Stat(t.Context(), "o")
		put(t, b, "o", content(2, 1000))
		two, err2 := b.Stat(t.Context(), "o")
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if one.Tag != "" && one.Tag == two.Tag {
			t.Errorf("the tag is %q before and after the content has changed", one.Tag)
		}
		if two.Modified.Before(one.Modified) {
			t.Errorf("modified at %v, and before that at %v", two.Modified, one.Modified)
		}
	}},
	{"put/cancelled", func(t testing.TB, h Harness) {
		b := h.New(t)
		canceled(t, "Put", b.Put(gone(t), "o", []byte("x"), false))
		canceled(t, "Put once", b.Put(gone(t), "o", []byte("x"), true))
		put(t, b, "o", []byte("x"))
		canceled(t, "Copy", b.Copy(gone(t), "o", "p"))
		canceled(t, "Delete", b.Delete(gone(t), "o"))
		lists(t, b, "", "o")
	}},
	{"delete/only that", func(t testing.TB, h Harness) {
		b := h.New(t)
		for _, key := range []string{"a/b/c", "a/b/d", "a/e", "f"} {
			put(t, b, key, []byte(key))
		}
		for _, key := range []string{"a/b/c", "a/b/c", "a/b", "nothing", "a/e/x", "f"} {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Errorf("Delete %q: %v", key, err)
			}
		}
		lists(t, b, "", "a/b/d", "a/e")
		holds(t, b, "a/b/d", []byte("a/b/d"))
	}},
	{"delete/and put", func(t testing.TB, h Harness) {
		b := h.New(t)
		var group sync.WaitGroup
		for w := range 4 {
			key := fmt.Sprintf("deep/er/%d", w)
			group.Go(func() {
				for i := range 25 {
					if err := b.Put(t.Context(), key, []byte(key), i%2 == 0); err != nil {
						t.Errorf("Put beside deletions: %v", err)
					}
					if err := b.Delete(t.Context(), key); err != nil {
						t.Errorf("Delete: %v", err)
					}
				}
				put(t, b, key, []byte(key))
			})
		}
		group.Wait()
		lists(t, b, "", "deep/er/0", "deep/er/1", "deep/er/2", "deep/er/3")
	}},
}

// race calls do for 0 to n-1 at a time, and returns for which there was no error.
func race(n int, do func(i int) error, lost func(error)) []int {
	var mu sync.Mutex
	var group sync.WaitGroup
	start := make(chan struct{})
	won := []int{}
	for i := range n {
		group.Go(func() {
			<-start
			err := do(i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, i)
			} else {
				lost(err)
			}
		})
	}
	close(start)
	group.Wait()
	return won
}

var copyCases = []Case{
	{"copy/makes another", func(t testing.TB, h Harness) {
		b := h.New(t)
		data := content(1, 300_000)
		put(t, b, "a/o", data)
		if err := b.Copy(t.Context(), "a/o", "trash/a/o"); err != nil {
			t.Fatal(err)
		}
		holds(t, b, "a/o", data)
		holds(t, b, "trash/a/o", data)
		put(t, b, "a/o", content(2, 10))
		holds(t, b, "trash/a/o", data)
		if err := b.Delete(t.Context(), "a/o"); err != nil {
			t.Error(err)
		}
		holds(t, b, "trash/a/o", data)
		lists(t, b, "", "trash/a/o")
	}},
	{"copy/replaces", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "a", content(1, 1000))
		put(t, b, "b", content(2, 50_000))
		for range 3 {
			if err := b.Copy(t.Context(), "a", "b"); err != nil {
				t.Fatal(err)
			}
			holds(t, b, "b", content(1, 1000))
		}
		put(t, b, "a", content(3, 10))
		holds(t, b, "b", content(1, 1000))
		lists(t, b, "", "a", "b")
	}},
	{"copy/to itself", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "a", content(1, 1000))
		// S3 refuses that, and all keep the object.
		_ = b.Copy(t.Context(), "a", "a")
		holds(t, b, "a", content(1, 1000))
		lists(t, b, "", "a")
	}},
	{"copy/missing", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "b", []byte("b"))
		if err := b.Copy(t.Context(), "a", "b"); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Copy of what is not there: %v, want ErrNoObject", err)
		}
		holds(t, b, "b", []byte("b"))
		if err := b.Copy(t.Context(), "a", "c"); !errors.Is(err, archive.ErrNoObject) {
			t.Errorf("Copy of what is not there: %v, want ErrNoObject", err)
		}
		lists(t, b, "", "b")
	}},
	{"copy/of an upload, and back", func(t testing.TB, h Harness) {
		b := h.New(t)
		data := content(1, partSize(b)+10)
		u := begin(t, b, "o")
		o := complete(t, u, putPart(t, u, 1, data[:partSize(b)]), putPart(t, u, 2, data[partSize(b):]))
		if o.Fixed {
			// It may be refused, and then nothing is changed.
			if err := b.Copy(t.Context(), "o", "trash/o"); err != nil {
				if _, cold := errors.AsType[*archive.ColdError](err); !cold {
					t.Errorf("Copy of what is not to be copied: %v, want a ColdError", err)
				}
				lists(t, b, "", "o")
				return
			}
			if err := b.Delete(t.Context(), "trash/o"); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []func() error{
			func() error { return b.Copy(t.Context(), "o", "trash/o") },
			func() error { return b.Delete(t.Context(), "o") },
			func() error { return b.Copy(t.Context(), "trash/o", "o") },
			func() error { return b.Delete(t.Context(), "trash/o") },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		holds(t, b, "o", data)
		lists(t, b, "", "o")
	}},
}
