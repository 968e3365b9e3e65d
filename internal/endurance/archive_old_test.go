package endurance

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

// old puts streams into an archive as ButterSink has made them: those of
// `btrfs send`, plain, with .bs files beside the increments, and without
// manifests. Each edge is "to" or "to<from".
func (d *depot) old(s *scene, edges ...string) {
	d.t.Helper()
	for _, edge := range edges {
		key, data := d.oldStream(s, edge)
		d.bucket.put(key, data)
		if to, from, ok := strings.Cut(edge, "<"); ok {
			d.bucket.put(d.prefix+to+".bs", fmt.Appendf(nil, "%s\t%s\t%d\n", s.wanted[to].uuid, s.wanted[from].uuid, len(data)))
		}
	}
}

// oldStream returns the key and the content of an edge.
func (d *depot) oldStream(s *scene, edge string) (key string, data []byte) {
	d.t.Helper()
	to, from, increment := strings.Cut(edge, "<")
	id := "None"
	args := []string{"--proto", "1"}
	if increment {
		id = s.wanted[from].uuid
		args = append(args, "-p", s.src.Path("snaps/"+from))
	}
	return fmt.Sprintf("%s%s/%s_%s", d.prefix, to, s.wanted[to].uuid, id), s.src.Send(s.src.Path("snaps/"+to), args...)
}

// TestArchiveOfOldProgram takes over a bucket that ButterSink has filled. It is
// listed, restored, and continued with increments, without a stream being stored
// that is there; what is none of its business stays as it is.
func TestArchiveOfOldProgram(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	s := pair(t, 3, 300_000)
	s.family("b", 2, 100_000)
	d.old(s, "a0", "a1<a0", "b1")
	foreign := map[string][]byte{
		"readme.txt":                     []byte("not ours"),
		d.prefix + "photo.jpg":           []byte("not ours either"),
		d.prefix + "x/not-a-uuid_None":   []byte("looks like it"),
		d.prefix + "x/only one word":     []byte("?"),
		d.prefix + "x/a_b_c":             []byte("?"),
		"pre/fixture/a0/" + otherUUID:    []byte("another prefix that begins the same"),
		"trash/" + d.prefix + otherUUID:  []byte("the old program's trash"),
		"trash/pre/fixture/" + otherUUID: []byte("somebody's trash"),
	}
	for key, data := range foreign {
		d.bucket.put(key, data)
	}

	list := d.run("list", "--json", d.url).fine()
	for _, name := range []string{"a0", "a1", "b1"} {
		if !regexp.MustCompile(`"event":"stream","to":"` + s.wanted[name].uuid + `",.*"path":"` + name + `"`).MatchString(list.out.String()) {
			t.Errorf("%s is not listed:\n%s", name, list.story())
		}
	}
	if n := strings.Count(list.out.String(), `"event":"stream"`); n != 3 {
		t.Errorf("%d streams are listed instead of 3:\n%s", n, list.story())
	}

	before := map[string]int64{}
	for _, key := range d.bucket.keys() {
		before[key] = d.bucket.size(key)
	}
	r := s.store(d).fine()
	if n := strings.Count(r.out.String(), `"event":"committed"`); n != 2 {
		t.Errorf("%d streams are stored instead of 2:\n%s", n, r.story())
	}
	if edges := s.edges(d.objects()); !slices.Contains(edges, "a2<a1") {
		t.Errorf("a2 does not continue the chain: %q", edges)
	}
	for key, size := range before {
		if strings.HasSuffix(key, ".bs") {
			continue
		}
		if !d.has(key) || d.bucket.size(key) != size {
			t.Errorf("%s is not there any more as it was", key)
		}
	}
	for key, data := range foreign {
		if !bytes.Equal(d.bucket.get(key), data) {
			t.Errorf("%s has been changed", key)
		}
	}
	s.restore(d).fine()
	s.complete()

	// What we have written plainly, the old program can read: by its key, by its
	// first command (see TestArchiveProtocol), and by its .bs file.
	if key := d.prefix + "a2.bs"; d.has(key) {
		want := s.wanted["a2"].uuid + "\t" + s.wanted["a1"].uuid + "\t"
		if text := string(d.bucket.get(key)); !strings.HasPrefix(text, want) {
			t.Errorf("%s is %q", key, text)
		}
	} else {
		t.Error("a2 has no .bs file")
	}

	// Objects without a manifest get one when all of their data has been read.
	d.run("verify", "--data", d.url).fine()
	for _, o := range d.objects() {
		if o.key != d.prefix+"x/not-a-uuid_None" {
			d.described(o)
		}
	}
}

const otherUUID = "6dc79d55-8f46-da4f-a5a3-f63b54ac3ad8_None"

// TestArchiveOfOldUploads carries on uploads that ButterSink has left, with its
// part sizes: no part that is there and right is sent again, and no part is
// taken that is not of this stream, which the old program took for the end of it.
func TestArchiveOfOldUploads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		partSize int
		there    []int // parts that are right
		wrong    []int // parts that hold something else
		sent     []int // parts that have to be sent
	}{
		{"20 MiB", 20 << 20, []int{1}, []int{7}, []int{2}},
		{"5 MiB", 5 << 20, []int{1, 2, 3}, []int{6, 9}, []int{4, 5}},
		{"5 MiB, one of them another", 5 << 20, []int{1, 3}, []int{2, 8}, []int{2, 3, 4, 5}}, // from there on
		{"5 MiB, all there", 5 << 20, []int{1, 2, 3, 4, 5}, []int{6}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := s3test.Start(t)
			d := s3Depot(t, server)
			bucket := d.bucket.(s3Bucket).name
			s := empty(t)
			live := s.src.Subvolume("live")
			for i, name := range []string{"a0", "a1"} {
				if err := os.WriteFile(filepath.Join(live, name), noise(byte(i), 23<<20), 0o644); err != nil {
					t.Fatal(err)
				}
				s.snapshot(live, name)
			}
			d.old(s, "a0")
			key, data := d.oldStream(s, "a1<a0")
			parts := make([][]byte, 10)
			for i, part := range slices.Collect(slices.Chunk(data, test.partSize)) {
				if slices.Contains(test.there, i+1) {
					parts[i] = part
				}
			}
			for _, number := range test.wrong {
				parts[number-1] = noise(byte(number), min(test.partSize, 6<<20))
			}
			server.Begin(t, bucket, key, parts...)

			watch := watched(t, d)
			s.store(d).fine()
			if sent := watch.parts(key); !slices.Equal(sent, test.sent) {
				t.Errorf("the parts %d are sent instead of %d", sent, test.sent)
			}
			if got := d.bucket.get(key); !bytes.Equal(got, data) {
				t.Errorf("the object has %d bytes (%x) instead of %d (%x)", len(got), sha256.Sum256(got), len(data), sha256.Sum256(data))
			}
			if left := d.bucket.unfinished(); len(left) > 0 {
				t.Errorf("left unfinished: %q", left)
			}
			s.restore(d).fine()
			s.complete()
		})
	}
}

// TestArchiveAbortsUploads: a listing with -d aborts what is unfinished below
// the prefix, and nothing beside it.
func TestArchiveAbortsUploads(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	d := s3Depot(t, server)
	inside := []string{d.prefix + "a0/" + otherUUID, d.prefix + "deep/down/" + otherUUID}
	outside := []string{"pre/fixture/a0/" + otherUUID, "other/" + otherUUID, "pre/" + otherUUID}
	for _, key := range slices.Concat(inside, outside) {
		server.Begin(t, d.bucket.(s3Bucket).name, key, noise(1, 5<<20), noise(2, 1<<20))
	}
	d.run("list", "-n", "-d", d.url).wait() // an empty archive may be an error
	if left := d.bucket.unfinished(); len(left) != len(inside)+len(outside) {
		t.Errorf("a dry run has left only %q", left)
	}
	d.run("list", "-d", d.url).wait()
	left := d.bucket.unfinished()
	slices.Sort(left)
	slices.Sort(outside)
	if !slices.Equal(left, outside) {
		t.Errorf("these are left: %q; want %q", left, outside)
	}
}

// TestArchiveParentOutside restores an increment whose parent is in another part
// of the bucket, as the old program has left it where it planned over all of a
// bucket. Nothing else of that part is listed.
func TestArchiveParentOutside(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	s := pair(t, 3, 200_000)
	d.old(s, "a1<a0")
	d.prefix = "else/where/"
	d.old(s, "a0", "a2")
	d.prefix = "pre/fix/"
	list := d.run("list", "--json", d.url).fine()
	if n := strings.Count(list.out.String(), `"event":"stream"`); n != 1 || !strings.Contains(list.out.String(), s.wanted["a1"].uuid) {
		t.Errorf("the listing is not that of a1:\n%s", list.story())
	}
	s.restoreTo(d, "a1", s.to()).fine()
	arrived(t, s.dst, "snaps/a1", s.wanted["a1"])
	s.empty()
	s.restore(d).fine()
	arrived(t, s.dst, "snaps/a1", s.wanted["a1"])
	d.run("verify", "--data", d.url).fine()
}
