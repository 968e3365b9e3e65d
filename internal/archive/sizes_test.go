package archive

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestSizes(t *testing.T) {
	bucket := newMemoryBucket()
	set := func(key, text string) {
		bucket.put(key, 1)
		bucket.objects[key] = memoryObject{data: []byte(text)}
	}
	a, b, c := parsed(t, uuidA), parsed(t, uuidB), parsed(t, uuidC)
	ab, ac, bc := snapshot.Edge{To: a, From: b}, snapshot.Edge{To: a, From: c}, snapshot.Edge{To: b, From: c}
	for key := range map[string]bool{"p/A/" + uuidA + "_None": true, "p/x/B/" + uuidB + "_None": true, "/p/C/" + uuidC + "_None": true} {
		bucket.put(key, 1)
	}
	// As ButterSink leaves them, and one that has been made with a leading slash.
	set("p/A.bs", uuidA+"\t"+uuidB+"\t1501459\n")
	set("/p/C.bs", uuidB+"\t"+uuidC+"\t7\n")
	set("p/x/B.bs", "my notes\n")
	set("p/other.bs", uuidA+"\t"+uuidC+"\t1\n") // beside nothing
	set("p2/A.bs", uuidA+"\t"+uuidC+"\t2\n")
	var log bytes.Buffer
	s := open(t, bucket, "p")
	s.log = logTo(&log)
	if sizes, err := s.KnownSizes(t.Context()); err != nil || len(sizes) != 0 {
		t.Errorf("before the listing: %v, %v", sizes, err)
	}
	mustList(t, s)
	known := func() map[snapshot.Edge]int64 {
		t.Helper()
		sizes, err := s.KnownSizes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return sizes
	}
	if diff := cmp.Diff(map[snapshot.Edge]int64{ab: 1501459, bc: 7}, known()); diff != "" {
		t.Error(diff)
	}
	if text := log.String(); strings.Count(text, "Can't read .bs info file") != 1 || !strings.Contains(text, "p/x/B.bs") {
		t.Errorf("the log says %q", text)
	}
	if err := s.KeepSizes(t.Context(), "A", map[snapshot.Edge]int64{ac: 5, {To: a}: 9}); err != nil {
		t.Fatal(err)
	}
	want := uuidA + "\t" + uuidC + "\t5\n" + uuidA + "\t" + uuidB + "\t1501459\n"
	if got := string(bucket.objects["p/A.bs"].data); got != want {
		t.Errorf("%q", got)
	}
	puts := bucket.calls["Put"]
	if err := s.KeepSizes(t.Context(), "A", map[snapshot.Edge]int64{ac: 5, {To: c}: 9}); err != nil || bucket.calls["Put"] != puts {
		t.Errorf("nothing has changed, but is written again: %v", err)
	}
	if err := s.KeepSizes(t.Context(), "x/B", map[snapshot.Edge]int64{bc: 5}); err == nil {
		t.Error("what is none of ours was replaced")
	}
	for _, p := range []string{"", "../A", "x//A", "A.bs"} {
		if err := s.KeepSizes(t.Context(), p, map[snapshot.Edge]int64{bc: 5}); err == nil {
			t.Errorf("%q was taken", p)
		}
	}
	many := map[snapshot.Edge]int64{}
	for i := range 20_000 {
		many[snapshot.Edge{To: a, From: snapshot.ID{1, byte(i), byte(i >> 8)}}] = 1
	}
	if err := s.KeepSizes(t.Context(), "A", many); err == nil {
		t.Error("more is kept than a small object takes")
	}
}

func TestKnownSizesOfMany(t *testing.T) {
	bucket := newMemoryBucket()
	want := map[snapshot.Edge]int64{}
	for i := range 300 {
		e := snapshot.Edge{To: snapshot.ID{1, byte(i), byte(i >> 8)}, From: snapshot.ID{9}}
		p := fmt.Sprintf("dir/%d", i)
		bucket.put(streamKey("p", p, e, forms[0]), 1)
		bucket.put(sizesKey("p", p), 1)
		bucket.objects[sizesKey("p", p)] = memoryObject{data: fmt.Appendf(nil, "%s %s %d", e.To, e.From, i+1)}
		want[e] = int64(i + 1)
	}
	s := open(t, bucket, "p")
	mustList(t, s)
	got, err := s.KnownSizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	bucket.hook = func(op, key string) error {
		if op == "Get" && strings.HasSuffix(key, "/7.bs") {
			return errors.New("the network is down")
		}
		return nil
	}
	if got, err := s.KnownSizes(t.Context(), "no such path"); err != nil || len(got) != 0 {
		t.Errorf("%d sizes beside nothing, %v", len(got), err)
	}
	if got, err := s.KnownSizes(t.Context()); err != nil || len(got) != 299 {
		t.Errorf("%d, %v", len(got), err)
	}
}
