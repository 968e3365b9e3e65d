package s3

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/snapshot"
	contract "github.com/buttersink/buttersink/internal/store"
)

// frost is an archive in a cold class, with a chain of three streams, of which the
// first has some length, and a small one, used by one machine after the other.
type frost struct {
	*testing.T
	server *s3test.Server
	cold   *s3test.Cold
	storm  *s3test.Storm
	o      Options
	chain  []snapshot.Edge
	small  snapshot.Edge
	data   map[snapshot.Edge][]byte
}

func newFrost(t *testing.T, server *s3test.Server, class string, first int) *frost {
	t.Helper()
	f := &frost{T: t, server: server, cold: server.Cold(t), data: map[snapshot.Edge][]byte{}}
	f.storm = f.cold.Storm(t)
	f.o = Options{Bucket: server.Bucket(t), Class: class, Getenv: environment(server.EnvAt(f.storm.Endpoint))}
	id := func(n byte) snapshot.ID { return snapshot.ID{n, 15: 1} }
	f.chain = []snapshot.Edge{{To: id(1)}, {To: id(2), From: id(1)}, {To: id(3), From: id(2)}}
	f.small = snapshot.Edge{To: id(4), From: id(3)}
	for i, e := range append(slices.Clone(f.chain), f.small) {
		f.data[e] = wholeStream(t, e, []int{first, 300 << 10, 200 << 10, 10 << 10}[i])
	}
	s := f.machine()
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range append(slices.Clone(f.chain), f.small) {
		if err := keep(t.Context(), s, e, f.data[e]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// machine is a program on a machine that knows nothing of the archive yet.
func (f *frost) machine() *archive.Store {
	f.Helper()
	return archiveOn(f.T, open(f.T, f.server, f.o))
}

// listing is a machine that has listed the archive.
func (f *frost) listing() (*archive.Store, *snapshot.Inventory) {
	f.Helper()
	s := f.machine()
	inv, err := s.List(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return s, inv
}

func keyOf(e snapshot.Edge) string {
	from := "None"
	if !e.IsFull() {
		from = e.From.String()
	}
	return "pre/day" + string('0'+e.To[0]) + "/" + e.To.String() + "_" + from
}

// thaws expects how things stand with the chain, for a machine of its own.
func (f *frost) thaws(o contract.ThawOptions, want contract.ThawState, fresh bool) {
	f.Helper()
	s, _ := f.listing()
	all, err := s.Thaw(f.Context(), f.chain, o)
	if err != nil {
		f.Fatal(err)
	}
	for i, got := range all {
		if got.State != want || got.Fresh != fresh || got.Edge != f.chain[i] || got.Class != f.o.Class || got.Bytes != int64(len(f.data[f.chain[i]])) {
			f.Errorf("%d of the chain is %+v, want %s, fresh %v", i, got, want, fresh)
		}
	}
}

// asked expects how often each stream of the chain has been asked for, and that
// nothing else has been.
func (f *frost) asked(want int) {
	f.Helper()
	counts := map[string]int{}
	if want > 0 {
		for _, e := range f.chain {
			counts[f.o.Bucket+"/"+keyOf(e)] = want
		}
	}
	if diff := cmp.Diff(counts, f.cold.AskedAll()); diff != "" {
		f.Errorf("asked for, %d times: %s", want, diff)
	}
}

// restores expects that the whole chain can be read, or nothing of it.
func (f *frost) restores(s *archive.Store, want bool) {
	f.Helper()
	for _, e := range f.chain {
		in, err := s.Open(f.Context(), contract.Request{Edge: e})
		if !want {
			if !errors.Is(err, contract.ErrCold) {
				f.Errorf("what is cold: %v", err)
			}
			continue
		}
		if err != nil {
			f.Errorf("opening: %v", err)
			continue
		}
		got, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, f.data[e]) {
			f.Errorf("%d bytes in place of %d, %v", len(got), len(f.data[e]), err)
		}
	}
}

// TestColdArchive restores a chain from a cold class, from one machine and another,
// and once more when the copies have gone.
func TestColdArchive(t *testing.T) {
	server := s3test.Start(t)
	for _, class := range []string{"GLACIER", "DEEP_ARCHIVE"} {
		t.Run(class, func(t *testing.T) {
			f := newFrost(t, server, class, 6<<20)
			hot := []string{"pre/.buttersink-archive.json", keyOf(f.small)}
			for _, key := range server.Keys(t, f.o.Bucket) {
				want := class
				if slices.Contains(hot, key) || strings.HasSuffix(key, ".json") {
					want = "STANDARD"
				}
				if got := f.cold.Class(f.o.Bucket, key); got != want {
					t.Errorf("%s is in %s", key, got)
				}
			}
			s, inv := f.listing()
			if len(inv.Snapshots) != 4 || len(inv.Warnings) != 0 {
				t.Errorf("%d snapshots are listed, and %q", len(inv.Snapshots), inv.Warnings)
			}
			f.restores(s, false)
			f.thaws(contract.ThawOptions{}, contract.Cold, false)
			f.asked(0)
			f.thaws(contract.ThawOptions{Ask: true, Days: 2}, contract.Pending, true)
			f.thaws(contract.ThawOptions{Ask: true, Tier: contract.Standard}, contract.Pending, false)
			f.asked(1)
			f.cold.Advance(s3test.DeepBulkTime)
			f.restores(s, true) // who has listed before
			s, _ = f.listing()
			f.restores(s, true)
			f.thaws(contract.ThawOptions{Ask: true}, contract.Readable, false)
			f.asked(1)

			f.cold.Advance(4 * 24 * time.Hour)
			f.restores(s, false)
			f.thaws(contract.ThawOptions{Ask: true, Tier: contract.Standard}, contract.Pending, true)
			f.cold.Restart()
			f.thaws(contract.ThawOptions{Ask: true, Tier: contract.Standard}, contract.Pending, false)
			f.cold.Advance(s3test.DeepStandardTime)
			f.restores(s, true)
			f.asked(2)
		})
	}
}

// TestWhatAColdArchiveIsAskedFor: the requests of the table in docs/s3.md.
func TestWhatAColdArchiveIsAskedFor(t *testing.T) {
	f := newFrost(t, s3test.Start(t), "GLACIER", 6<<20)
	s, _ := f.listing()
	n := len(f.chain)
	for _, tt := range []struct {
		o    contract.ThawOptions
		want map[string]int
	}{
		{contract.ThawOptions{}, map[string]int{"HeadObject": n}},
		{contract.ThawOptions{Ask: true}, map[string]int{"HeadObject": n, "RestoreObject": n}},
		{contract.ThawOptions{Ask: true}, map[string]int{"HeadObject": n}},
	} {
		f.storm.Forget()
		if _, err := s.Thaw(t.Context(), append(f.chain, f.small), tt.o); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, r := range f.storm.Requests() {
			got[r.Op]++
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: %s", tt.o, diff)
		}
	}
}

// TestColdArchiveWhoseCopyExpires reads a stream of which the rest goes back into the
// cold: that is an error, and not its end.
func TestColdArchiveWhoseCopyExpires(t *testing.T) {
	f := newFrost(t, s3test.Start(t), "GLACIER", 20<<20) // more than is read ahead
	f.thaws(contract.ThawOptions{Ask: true, Days: 1}, contract.Pending, true)
	f.cold.Advance(s3test.BulkTime)
	s, _ := f.listing()
	in, err := s.Open(t.Context(), contract.Request{Edge: f.chain[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	first := make([]byte, 64<<10)
	if _, err := io.ReadFull(in, first); err != nil {
		t.Fatal(err)
	}
	f.cold.Advance(3 * 24 * time.Hour)
	rest, err := io.ReadAll(in)
	if !errors.Is(err, contract.ErrCold) || contract.Temporary(err) || !strings.Contains(err.Error(), "GLACIER") {
		t.Errorf("after %d bytes of %d: %v", len(first)+len(rest), len(f.data[f.chain[0]]), err)
	}
	if got := slices.Concat(first, rest); !bytes.HasPrefix(f.data[f.chain[0]], got) {
		t.Error("what came before is not the stream")
	}
	f.thaws(contract.ThawOptions{Ask: true}, contract.Pending, true)
	f.cold.Advance(s3test.BulkTime)
	f.restores(s, true)
	f.asked(2)
}

// TestColdArchiveIsVerified: what cannot be looked at is unchecked, and nothing is
// thawed for it.
func TestColdArchiveIsVerified(t *testing.T) {
	f := newFrost(t, s3test.Start(t), "GLACIER", 6<<20)
	for data, want := range map[bool]map[contract.Verdict]int{
		false: {contract.Sound: 4}, true: {contract.Sound: 1, contract.Unchecked: 3},
	} {
		s, _ := f.listing()
		got, err := s.Verify(t.Context(), contract.VerifyOptions{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Streams); diff != "" {
			t.Errorf("reading %v: %s", data, diff)
		}
	}
	f.asked(0)
	f.thaws(contract.ThawOptions{Ask: true}, contract.Pending, true)
	f.cold.Advance(s3test.BulkTime)
	s, _ := f.listing()
	got, err := s.Verify(t.Context(), contract.VerifyOptions{Data: true})
	if err != nil || got.Streams[contract.Sound] != 4 {
		t.Errorf("thawed: %+v, %v", got, err)
	}
}

// TestTrashOfAColdArchive: nothing is copied, nothing is thawed, and what is deleted
// is deleted when the trash is emptied.
func TestTrashOfAColdArchive(t *testing.T) {
	server := s3test.Start(t)
	for _, class := range []string{"GLACIER", "DEEP_ARCHIVE", "STANDARD_IA", "INTELLIGENT_TIERING"} {
		t.Run(class, func(t *testing.T) {
			f := newFrost(t, server, class, 6<<20)
			if class == "INTELLIGENT_TIERING" {
				f.cold.Archive(t, f.o.Bucket, keyOf(f.chain[2]), "DEEP_ARCHIVE_ACCESS")
			}
			before := server.Keys(t, f.o.Bucket)
			remove := func() {
				t.Helper()
				s, inv := f.listing()
				var gone []snapshot.Snapshot
				for _, e := range []snapshot.Edge{f.small, f.chain[2]} {
					snap, _ := inv.Find(e.To)
					gone = append(gone, snap)
				}
				err := s.Sweep(t.Context(), gone, func(snap snapshot.Snapshot, err error) {
					if err != nil {
						t.Errorf("removing %s: %v", snap.Path, err)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, inv := f.listing(); len(inv.Snapshots) != 2 {
					t.Errorf("%d snapshots are left", len(inv.Snapshots))
				}
			}
			trashed := func() (*archive.Store, []contract.Trashed) {
				t.Helper()
				s, _ := f.listing()
				all, err := s.Trashed(t.Context())
				if err != nil || len(all) != 2 {
					t.Fatalf("in the trash are %+v, %v", all, err)
				}
				classes := map[snapshot.Edge]string{}
				for _, x := range all {
					classes[x.Edge] = x.Class
				}
				if diff := cmp.Diff(map[snapshot.Edge]string{f.small: "", f.chain[2]: class}, classes); diff != "" {
					t.Error(diff)
				}
				return s, all
			}
			remove()
			s, all := trashed()
			for _, x := range all {
				if err := s.Untrash(t.Context(), x); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(before, server.Keys(t, f.o.Bucket)); diff != "" {
				t.Errorf("after it was put back: %s", diff)
			}
			if _, inv := f.listing(); len(inv.Snapshots) != 4 {
				t.Errorf("%d snapshots are back", len(inv.Snapshots))
			}
			if got := f.cold.Class(f.o.Bucket, keyOf(f.chain[2])); got != class {
				t.Errorf("it is in %s", got)
			}
			remove()
			s, all = trashed()
			for _, x := range all {
				if err := s.Discard(t.Context(), x); err != nil {
					t.Error(err)
				}
			}
			var left []string
			for _, key := range before {
				if !strings.HasPrefix(key, "pre/day3/") && !strings.HasPrefix(key, "pre/day4/") {
					left = append(left, key)
				}
			}
			if diff := cmp.Diff(left, server.Keys(t, f.o.Bucket)); diff != "" {
				t.Errorf("after it was deleted: %s", diff)
			}
			for _, r := range f.storm.Requests("CopyObject", "UploadPartCopy") {
				if !strings.Contains(r.Key, "day4") {
					t.Errorf("%s to %s", r.Op, r.Key)
				}
			}
			f.asked(0)
		})
	}
}

// TestArchiveInTiers: what has gone to an archive tier is found out when it is
// needed, and stays where it comes out.
func TestArchiveInTiers(t *testing.T) {
	f := newFrost(t, s3test.Start(t), "INTELLIGENT_TIERING", 6<<20)
	s, _ := f.listing()
	f.restores(s, true)
	f.cold.Archive(t, f.o.Bucket, keyOf(f.chain[0]), "ARCHIVE_ACCESS")
	f.cold.Archive(t, f.o.Bucket, keyOf(f.chain[1]), "DEEP_ARCHIVE_ACCESS")
	f.cold.Archive(t, f.o.Bucket, keyOf(f.chain[2]), "DEEP_ARCHIVE_ACCESS")
	s, _ = f.listing()
	f.restores(s, false)
	f.thaws(contract.ThawOptions{Ask: true, Days: 1}, contract.Pending, true)
	f.cold.Advance(s3test.DeepBulkTime)
	f.restores(s, true)
	f.cold.Advance(30 * 24 * time.Hour)
	f.restores(s, true)
	f.thaws(contract.ThawOptions{Ask: true}, contract.Readable, false)
	f.asked(1)
}

// TestWhoMayOnlyAddCanMark: in a cold class removing takes no permission to delete;
// putting back does, and loses nothing.
func TestWhoMayOnlyAddCanMark(t *testing.T) {
	server := s3test.Start(t)
	f := newFrost(t, server, "GLACIER", 200<<10)
	remove := func(e snapshot.Edge) error {
		s, inv := f.listing()
		snap, _ := inv.Find(e.To)
		var fate error
		err := s.Sweep(t.Context(), []snapshot.Snapshot{snap}, func(_ snapshot.Snapshot, err error) { fate = err })
		return errors.Join(err, fate)
	}
	trashed := func() (*archive.Store, contract.Trashed) {
		t.Helper()
		s, _ := f.listing()
		all, err := s.Trashed(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("in the trash are %+v, %v", all, err)
		}
		return s, all[0]
	}
	if err := remove(f.small); err != nil { // which needs the last of the chain
		t.Fatal(err)
	}
	s, x := trashed()
	if err := s.Discard(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	before := server.Keys(t, f.o.Bucket)

	root := f.o.Getenv
	access, secret := server.User(t, f.o.Bucket, allowed(t, "append-only")...)
	f.o.Getenv = environment(s3test.EnvOf(f.storm.Endpoint, access, secret))
	if err := remove(f.chain[2]); err != nil {
		t.Errorf("marking: %v", err)
	}
	s, x = trashed()
	err := s.Untrash(t.Context(), x)
	if denied, ok := errors.AsType[*archive.DeniedError](err); !ok || denied.Action != "s3:DeleteObject" {
		t.Errorf("putting back: %v", err)
	}

	f.o.Getenv = root
	s, x = trashed()
	if err := s.Untrash(t.Context(), x); err != nil {
		t.Errorf("putting back: %v", err)
	}
	if diff := cmp.Diff(before, server.Keys(t, f.o.Bucket)); diff != "" {
		t.Error(diff)
	}
}
