package glacier

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// big is the content of an object that is not in the catalogue.
func big(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func bodyOf(data []byte) archive.Body {
	return archive.Body{ReadSeeker: bytes.NewReader(data), Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
}

// upload stores an object in parts of 1 MiB.
func upload(t *testing.T, b archive.Bucket, key string, data []byte) {
	t.Helper()
	u, parts := uploadParts(t, b, key, data)
	if _, err := u.Complete(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
}

func uploadParts(t *testing.T, b archive.Bucket, key string, data []byte) (archive.Upload, []archive.Part) {
	t.Helper()
	u, err := b.Begin(t.Context(), key, archive.UploadOptions{PartSize: minPart})
	if err != nil {
		t.Fatal(err)
	}
	var parts []archive.Part
	for rest := data; len(rest) > 0; {
		n := min(minPart, len(rest))
		p, err := u.Put(t.Context(), len(parts)+1, bodyOf(rest[:n]))
		if err != nil {
			t.Fatal(err)
		}
		parts, rest = append(parts, p), rest[n:]
	}
	return u, parts
}

func content(t *testing.T, b archive.Bucket, key string, offset, length int64) ([]byte, error) {
	t.Helper()
	in, err := b.Get(t.Context(), key, offset, length)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// holds expects an object to be readable, with a content.
func holds(t *testing.T, b archive.Bucket, key string, want []byte) {
	t.Helper()
	got, err := content(t, b, key, 0, int64(len(want))+1)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes (%v), want %d", key, len(got), err, len(want))
	}
}

func keys(t *testing.T, b archive.Bucket) []string {
	t.Helper()
	var all []string
	for o, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatalf("listing: %v", err)
		}
		all = append(all, o.Key)
	}
	return all
}

func lists(t *testing.T, b archive.Bucket, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, keys(t, b)); d != "" {
		t.Errorf("listed (-want +got):\n%s", d)
	}
}

func thaw(t *testing.T, b archive.Bucket, o store.ThawOptions, keys ...string) []store.Thawing {
	t.Helper()
	told, err := b.(archive.Thawer).Thaw(t.Context(), keys, o)
	if err != nil {
		t.Fatalf("thawing: %v", err)
	}
	return told
}

// idOf is the archive that an object is.
func idOf(t *testing.T, server *glaciertest.Server, vault, key string) string {
	t.Helper()
	for _, a := range server.Archives(t, vault) {
		if got, _, ok := parseDescription(a.Description); ok && got == key {
			return a.ID
		}
	}
	t.Fatalf("there is no archive for %s", key)
	return ""
}

// TestThaw asks for an object, waits, reads it, and lets its copy expire.
func TestThaw(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	data := big(1, 3<<20+5)
	upload(t, b, "stream", data)
	if err := b.Put(t.Context(), "small", []byte("text"), true); err != nil {
		t.Fatal(err)
	}
	o, err := b.Stat(t.Context(), "stream")
	if err != nil || !o.Cold || !o.Fixed || o.Size != int64(len(data)) {
		t.Errorf("the object is %+v (%v)", o, err)
	}
	if _, err := content(t, b, "stream", 0, 10); !errors.Is(err, store.ErrCold) {
		t.Errorf("reading: %v, want ErrCold", err)
	}
	states := func(b archive.Bucket, ask bool) string {
		var all []string
		for _, told := range thaw(t, b, store.ThawOptions{Ask: ask, Tier: store.Standard}, "stream", "small") {
			all = append(all, string(told.State))
			if told.Fresh {
				all = append(all, "fresh")
			}
		}
		return strings.Join(all, " ")
	}
	another := func() archive.Bucket { return openBucket(t, server, "v", file) }
	for _, step := range []struct {
		ask  bool
		wait time.Duration
		want string
	}{
		{false, 0, "cold readable"},
		{true, 0, "pending fresh readable"},
		{true, time.Hour, "pending readable"},
		{false, glaciertest.StandardTime, "readable readable"},
		{true, 0, "readable readable"},
	} {
		server.Advance(step.wait)
		if got := states(another(), step.ask); got != step.want {
			t.Errorf("after %v, asking %v: %s, want %s", step.wait, step.ask, got, step.want)
		}
	}
	if n := server.Asked(t, "v", idOf(t, server, "v", "stream")); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	fresh := another()
	holds(t, fresh, "stream", data)
	for _, r := range [][2]int64{{0, 1 << 20}, {1 << 20, 2 << 20}, {5, 7}, {3 << 20, 5}, {3<<20 + 5, 1}, {1<<20 - 1, 2}} {
		got, err := content(t, fresh, "stream", r[0], r[1])
		if want := data[r[0]:min(r[0]+r[1], int64(len(data)))]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %d bytes, %v", r, len(got), err)
		}
	}
	if o, err := fresh.Stat(t.Context(), "stream"); err != nil || o.Cold {
		t.Errorf("what has been thawed is %+v (%v)", o, err)
	}
	server.Advance(glaciertest.OutputKept)
	for name, b := range map[string]archive.Bucket{"the same": fresh, "another": another()} {
		if _, err := content(t, b, "stream", 0, 10); !errors.Is(err, store.ErrCold) {
			t.Errorf("reading with %s what has expired: %v, want ErrCold", name, err)
		}
		if got := states(b, false); got != "cold readable" {
			t.Errorf("with %s, expired: %s", name, got)
		}
	}
	if _, err := b.(archive.Thawer).Thaw(t.Context(), []string{"none"}, store.ThawOptions{}); !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("thawing what is not there: %v", err)
	}
}

// TestAskedOnce loses the replies to what costs money, and everything else that can
// be lost.
func TestAskedOnce(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	var all []string
	for i := range 8 {
		key := string(rune('a' + i))
		upload(t, b, key, big(byte(i), 1<<20))
		all = append(all, key)
	}
	server.LoseShare(0.4)
	server.Throttle(3, "InitiateJob")
	server.FailShare(0.2, 500, "ServiceUnavailableException", "InitiateJob", "ListJobs")
	for range 10 {
		// Some are left over where it goes too badly.
		_, _ = b.(archive.Thawer).Thaw(t.Context(), all, store.ThawOptions{Ask: true})
	}
	server.Calm()
	for i, told := range thaw(t, b, store.ThawOptions{Ask: true}, all...) {
		if told.State != store.Pending {
			t.Errorf("%s: %+v", all[i], told)
		}
		if n := server.Asked(t, "v", idOf(t, server, "v", all[i])); n != 1 {
			t.Errorf("%s was asked for %d times", all[i], n)
		}
	}
}

// TestCopyOfCold holds that what cannot be copied says so.
func TestCopyOfCold(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	upload(t, b, "stream", big(1, 1<<20))
	upload(t, b, "short", []byte("short"))
	if err := b.Copy(t.Context(), "stream", "copy"); !errors.Is(err, store.ErrCold) {
		t.Errorf("copying: %v, want ErrCold", err)
	}
	if err := b.Copy(t.Context(), "short", "copy"); err != nil {
		t.Errorf("copying what is in the catalogue: %v", err)
	}
	lists(t, b, "copy", "short", "stream")
	holds(t, b, "copy", []byte("short"))
}

// TestLostLedger loses the catalogue and rebuilds it from the vault alone.
func TestLostLedger(t *testing.T) {
	server := glaciertest.Start(t)
	dir := t.TempDir()
	b := openBucket(t, server, "v", filepath.Join(dir, "lost.db"))
	old, last := big(1, 1<<20), big(2, 2<<20+1)
	for key, data := range map[string][]byte{"marker": []byte("marker"), "m/old.json": []byte("{}"), "empty": nil, "deleted": []byte("x")} {
		if err := b.Put(t.Context(), key, data, true); err != nil {
			t.Fatal(err)
		}
	}
	upload(t, b, "old", old)
	if err := b.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	server.Put(t, "v", "btrsend backup for 2014-01-01 (complete)", []byte("somebody else's"))
	server.Advance(72 * time.Hour)
	upload(t, b, "last", last) // no inventory has that

	file := filepath.Join(dir, "new.db")
	open := func() archive.Bucket { return bucketOf(t, openVault(t, server, "v"), file) }
	pending := func(what string, err error) {
		t.Helper()
		p, ok := errors.AsType[*store.PendingError](err)
		if !ok || p.Due.IsZero() || p.What == "" {
			t.Errorf("%s: %v, want *store.PendingError", what, err)
		}
	}
	for range 3 {
		b = open()
		_, err := b.Stat(t.Context(), "old")
		pending("looking", err)
		pending("storing", b.Put(t.Context(), "x", nil, false))
	}
	if n := server.Count("InitiateJob"); n != 1 {
		t.Errorf("%d jobs were asked for", n)
	}
	server.Advance(glaciertest.InventoryTime)
	b = open()
	lists(t, b, "empty", "m/old.json", "marker", "old")
	holds(t, b, "empty", nil)
	server.Forget()
	for range 2 {
		for _, key := range []string{"marker", "m/old.json"} {
			_, err := content(t, b, key, 0, 10)
			pending("reading "+key, err)
		}
		b = open()
	}
	for _, r := range server.Requests("InitiateJob") {
		if r.Type == "archive-retrieval" && r.Tier != "Standard" {
			t.Errorf("asked for %+v", r)
		}
	}
	thaw(t, b, store.ThawOptions{Ask: true}, "old")
	server.Advance(glaciertest.BulkTime)
	holds(t, b, "marker", []byte("marker"))
	holds(t, b, "m/old.json", []byte("{}"))
	holds(t, b, "old", old)
	if err := b.Put(t.Context(), "new", []byte("new"), true); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "marker", nil, true); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("storing once what the inventory told of: %v", err)
	}
	if err := b.Delete(t.Context(), "m/old.json"); err != nil {
		t.Fatal(err)
	}
	// A newer inventory tells of what was stored last before the loss.
	server.Advance(48 * time.Hour)
	lists(t, open(), "empty", "marker", "new", "old")
	server.Advance(glaciertest.InventoryTime)
	b = open()
	lists(t, b, "empty", "last", "marker", "new", "old")
	holds(t, b, "marker", []byte("marker"))
	thaw(t, b, store.ThawOptions{Ask: true}, "last")
	server.Advance(glaciertest.BulkTime)
	holds(t, b, "last", last)
	server.Forget()
	keys(t, open())
	if n := server.Count("InitiateJob"); n != 0 {
		t.Errorf("what is settled was asked for %d times more", n)
	}
	for _, a := range server.Archives(t, "v") {
		if n := server.Asked(t, "v", a.ID); n > 1 {
			t.Errorf("%s was asked for %d times", a.Description, n)
		}
	}
}

// TestReplaced holds that what is replaced is deleted, now or by another run.
func TestReplaced(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	put := func(text string) {
		t.Helper()
		if err := b.Put(t.Context(), "o", []byte(text), false); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	server.Fail(attempts, 500, "ServiceUnavailableException", "DeleteArchive")
	put("two")
	if n := len(server.Archives(t, "v")); n != 2 {
		t.Errorf("there are %d archives", n)
	}
	b = openBucket(t, server, "v", file)
	holds(t, b, "o", []byte("two"))
	if n := len(server.Archives(t, "v")); n != 1 {
		t.Errorf("after another run there are %d archives", n)
	}
}

// TestOutputGone has the vault list a job whose output it does not give.
func TestOutputGone(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	upload(t, b, "o", big(1, 1<<20))
	thaw(t, b, store.ThawOptions{Ask: true}, "o")
	server.Advance(glaciertest.BulkTime)
	server.Fail(1, 404, "ResourceNotFoundException", "GetJobOutput")
	if _, err := content(t, b, "o", 0, 10); !errors.Is(err, store.ErrCold) {
		t.Errorf("reading: %v, want ErrCold", err)
	}
	if told := thaw(t, b, store.ThawOptions{}, "o"); told[0].State != store.Cold {
		t.Errorf("it is %+v", told[0])
	}
}
