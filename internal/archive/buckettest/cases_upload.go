package buckettest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
)

var uploadCases = []Case{
	{"upload/parts in any order", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		data := content(1, 2*size+123)
		u := begin(t, b, "d/o")
		three := putPart(t, u, 3, data[2*size:])
		one := putPart(t, u, 1, data[:size])
		two := putPart(t, u, 2, data[size:2*size])
		stored(t, u, one, two, three)
		absent(t, b, "d/o")
		o := complete(t, u, one, two, three)
		holds(t, b, "d/o", data)
		if s, err := b.Stat(t.Context(), "d/o"); err != nil || s.Tag != o.Tag {
			t.Errorf("completing gave the tag %q, and the object has %q (%v)", o.Tag, s.Tag, err)
		}
		if w, ok := b.(archive.Tagger); ok {
			if tag := w.TagOf([]archive.Part{one, two, three}, int64(size)); tag != o.Tag {
				t.Errorf("the object was to have the tag %q, and has %q", tag, o.Tag)
			}
		}
		lists(t, b, "", "d/o")
		unfinished(t, b, "")
	}},
	{"upload/one part", func(t testing.TB, h Harness) {
		b := h.New(t)
		for _, size := range []int64{0, 1, partSize(b)} {
			key := fmt.Sprint("o", size)
			u := begin(t, b, key)
			complete(t, u, putPart(t, u, 1, content(1, size)))
			holds(t, b, key, content(1, size))
		}
	}},
	{"upload/side by side", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		data := content(1, 5*size+1)
		u := begin(t, b, "o")
		parts := make([]archive.Part, 6)
		var group sync.WaitGroup
		for i := range parts {
			group.Go(func() {
				var err error
				parts[i], err = u.Put(t.Context(), i+1, body(data[int64(i)*size:min(int64(i+1)*size, int64(len(data)))]))
				if err != nil {
					t.Errorf("part %d: %v", i+1, err)
				}
			})
		}
		group.Wait()
		stored(t, u, parts...)
		complete(t, u, parts...)
		holds(t, b, "o", data)
	}},
	{"upload/replaced part", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		data := content(1, size+10)
		u := begin(t, b, "o")
		wrong, last := putPart(t, u, 1, content(2, size)), putPart(t, u, 2, content(3, size))
		one := putPart(t, u, 1, data[:size])
		two := putPart(t, u, 2, data[size:])
		if wrong.Tag == one.Tag || last.Tag == two.Tag {
			t.Error("the tag of a part stays when its content changes")
		}
		stored(t, u, one, two)
		complete(t, u, one, two)
		holds(t, b, "o", data)
	}},
	{"upload/surplus parts", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		u := begin(t, b, "o")
		one, two := putPart(t, u, 1, content(1, size)), putPart(t, u, 2, content(2, 100))
		putPart(t, u, 3, content(3, size))
		putPart(t, u, 7, content(7, 10))
		complete(t, u, one, two)
		holds(t, b, "o", slices.Concat(content(1, size), content(2, 100)))
		unfinished(t, b, "")
	}},
	{"upload/parts that are not there", func(t testing.TB, h Harness) {
		b := h.New(t)
		u := begin(t, b, "o")
		one := putPart(t, u, 1, content(1, partSize(b)))
		for _, parts := range [][]archive.Part{{one, {Number: 2, Size: 10, Tag: one.Tag}}, {{Number: 1, Size: one.Size, Tag: "0123456789abcdef0123456789abcdef"}}} {
			if o, err := u.Complete(t.Context(), parts); err == nil {
				t.Errorf("completed with parts that are not there: %+v", o)
			}
		}
		lists(t, b, "")
		complete(t, u, one)
		holds(t, b, "o", content(1, partSize(b)))
	}},
	{"upload/wrong checksum", func(t testing.TB, h Harness) {
		b := h.New(t)
		u := begin(t, b, "o")
		one := putPart(t, u, 1, content(1, partSize(b)))
		bad := body(content(2, 500))
		bad.CRC32C ^= 1
		if p, err := u.Put(t.Context(), 2, bad); err == nil {
			t.Errorf("a part with another checksum was stored: %+v", p)
		}
		stored(t, u, one)
		two := putPart(t, u, 2, content(2, 500))
		complete(t, u, one, two)
		holds(t, b, "o", slices.Concat(content(1, partSize(b)), content(2, 500)))
	}},
	{"upload/short body", func(t testing.TB, h Harness) {
		b := h.New(t)
		u := begin(t, b, "o")
		short := body(content(1, 1000))
		short.ReadSeeker = bytes.NewReader(content(1, 1000)[:999])
		if p, err := u.Put(t.Context(), 1, short); err == nil {
			t.Errorf("a part of which the end was missing was stored: %+v", p)
		}
		stored(t, u)
	}},
	{"upload/taken", func(t testing.TB, h Harness) {
		b := h.New(t)
		u := begin(t, b, "d/o")
		one := putPart(t, u, 1, content(1, 1000))
		put(t, b, "d/o", []byte("first"))
		if _, err := u.Complete(t.Context(), []archive.Part{one}); !errors.Is(err, archive.ErrTaken) {
			t.Errorf("Complete: %v, want ErrTaken", err)
		}
		holds(t, b, "d/o", []byte("first"))
		unfinished(t, b, "", "d/o")
		if err := b.Delete(t.Context(), "d/o"); err != nil {
			t.Fatal(err)
		}
		stored(t, u, one)
		complete(t, u, one)
		holds(t, b, "d/o", content(1, 1000))
	}},
	{"upload/all complete at a time", func(t testing.TB, h Harness) {
		b := h.New(t)
		again := h.Again(t, b)
		const many = 6
		ups, parts := make([]archive.Upload, many), make([]archive.Part, many)
		for i := range many {
			ups[i] = begin(t, []archive.Bucket{b, again}[i%2], "d/o")
			parts[i] = putPart(t, ups[i], 1, content(uint64(i), 1000))
		}
		won := race(many, func(i int) error {
			_, err := ups[i].Complete(t.Context(), []archive.Part{parts[i]})
			return err
		}, func(err error) {
			if !errors.Is(err, archive.ErrTaken) {
				t.Errorf("a loser is told: %v", err)
			}
		})
		if len(won) != 1 {
			t.Fatalf("the winners are %v", won)
		}
		holds(t, b, "d/o", content(uint64(won[0]), 1000))
		for i, u := range ups {
			if i == won[0] {
				continue
			}
			if err := u.Abort(t.Context()); err != nil {
				t.Errorf("Abort of a loser: %v", err)
			}
		}
		holds(t, b, "d/o", content(uint64(won[0]), 1000))
		unfinished(t, b, "")
	}},
	{"upload/cancelled", func(t testing.TB, h Harness) {
		b := h.New(t)
		_, err := b.Begin(gone(t), "o", archive.UploadOptions{PartSize: partSize(b)})
		canceled(t, "Begin", err)
		unfinished(t, b, "")
		u := begin(t, b, "o")
		one := putPart(t, u, 1, content(1, 100))
		_, err = u.Put(gone(t), 2, body(content(2, 100)))
		canceled(t, "Put", err)
		_, err = u.Parts(gone(t))
		canceled(t, "Parts", err)
		_, err = u.Complete(gone(t), []archive.Part{one})
		canceled(t, "Complete", err)
		_, err = b.Continue(gone(t), u.Unfinished())
		if err == nil { // where there is nothing to ask for
			_, err = u.Parts(gone(t))
		}
		canceled(t, "Continue", err)
		lists(t, b, "")
		stored(t, u, one)
		complete(t, u, one)
	}},
}

var unfinishedCases = []Case{
	{"unfinished/carried on", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		data := content(1, 2*size+5)
		first := begin(t, b, "d/o")
		one := putPart(t, first, 1, data[:size])
		three := putPart(t, first, 3, data[2*size:])

		b = h.Again(t, b)
		all := uploads(t, b, "d/")
		if len(all) != 1 || all[0].Key != "d/o" || all[0].ID != first.Unfinished().ID || all[0].Begun.IsZero() {
			t.Fatalf("the uploads are %+v", all)
		}
		u, err := b.Continue(t.Context(), all[0])
		if err != nil {
			t.Fatal(err)
		}
		stored(t, u, one, three)
		two := putPart(t, u, 2, data[size:2*size])
		stored(t, u, one, two, three)
		complete(t, u, one, two, three)
		holds(t, b, "d/o", data)
		unfinished(t, b, "")
	}},
	{"unfinished/gone", func(t testing.TB, h Harness) {
		b := h.New(t)
		aborted := begin(t, b, "a")
		part := putPart(t, aborted, 1, content(1, 100))
		if err := aborted.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		finished := begin(t, b, "b")
		complete(t, finished, putPart(t, finished, 1, content(1, 100)))
		for _, u := range []archive.Upload{aborted, finished} {
			_, err := u.Put(t.Context(), 1, body(content(2, 100)))
			noUpload(t, "Put", err)
			_, err = u.Parts(t.Context())
			noUpload(t, "Parts", err)
			again, err := h.Again(t, b).Continue(t.Context(), u.Unfinished())
			if err == nil { // where there is nothing to ask for
				_, err = again.Parts(t.Context())
			}
			noUpload(t, "Continue", err)
		}
		_, err := aborted.Complete(t.Context(), []archive.Part{part})
		noUpload(t, "Complete", err)
		lists(t, b, "", "b")
		holds(t, b, "b", content(1, 100))
	}},
	{"unfinished/not ours to name", func(t testing.TB, h Harness) {
		b := h.New(t)
		u := begin(t, b, "a")
		for _, un := range []archive.Unfinished{
			{Key: "a", ID: "../x"}, {Key: "a"}, {Key: "other", ID: u.Unfinished().ID}, {Key: "a", ID: "0123456789abcdef0123456789abcdef"},
		} {
			again, err := b.Continue(t.Context(), un)
			if err == nil { // where there is nothing to ask for
				_, err = again.Parts(t.Context())
			}
			noUpload(t, fmt.Sprintf("Continue %+v", un), err)
		}
	}},
	{"unfinished/by prefix", func(t testing.TB, h Harness) {
		b := h.New(t)
		for _, key := range []string{"a/b", "a/bc", "a/c/d", "ab", "z/a/b"} {
			begin(t, b, key)
		}
		begin(t, b, "a/b") // another one of the same key
		unfinished(t, b, "", "a/b", "a/b", "a/bc", "a/c/d", "ab", "z/a/b")
		unfinished(t, b, "a/", "a/b", "a/b", "a/bc", "a/c/d")
		unfinished(t, b, "a/b", "a/b", "a/b", "a/bc")
		unfinished(t, b, "a/c/d/")
		lists(t, b, "")
		n := 0
		for range b.Uploads(t.Context(), "a") {
			n++
			break
		}
		if n != 1 {
			t.Errorf("a listing that is ended after one upload gave %d", n)
		}
	}},
	{"unfinished/dropped", func(t testing.TB, h Harness) {
		b := h.New(t)
		put(t, b, "o", []byte("kept"))
		u, other := begin(t, b, "o"), begin(t, b, "o")
		putPart(t, u, 1, content(1, 100))
		part := putPart(t, other, 1, content(2, 100))
		for range 2 {
			if err := u.Abort(t.Context()); err != nil {
				t.Errorf("Abort: %v", err)
			}
		}
		holds(t, b, "o", []byte("kept"))
		if all := uploads(t, b, ""); len(all) != 1 || all[0].ID != other.Unfinished().ID {
			t.Errorf("the other upload of the key is gone: %+v", all)
		}
		stored(t, other, part)
	}},
	{"unfinished/by other hands", func(t testing.TB, h Harness) {
		b := h.New(t)
		size := partSize(b)
		u := begin(t, b, "o")
		one, two := putPart(t, u, 1, content(1, size)), putPart(t, u, 2, content(2, 100))
		theirs, err := h.Again(t, b).Continue(t.Context(), u.Unfinished())
		if err != nil {
			t.Fatal(err)
		}
		putPart(t, theirs, 1, content(3, size))
		_, err = u.Complete(t.Context(), []archive.Part{one, two})
		noUpload(t, "Complete where a part is another one", err)
		lists(t, b, "")
		one = putPart(t, u, 1, content(1, size))
		complete(t, u, one, two)
		holds(t, b, "o", slices.Concat(content(1, size), content(2, 100)))
	}},
}
