package glacier

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// days has a machine look at a vault twice a day, for some days.
func days(t *testing.T, server *glaciertest.Server, file string, n int) archive.Bucket {
	t.Helper()
	var b archive.Bucket
	for range n * 2 {
		server.Advance(12 * time.Hour)
		b = openBucket(t, server, "v", file)
		keys(t, b)
	}
	return b
}

// TestDoubles stores small objects while replies are lost and runs die: what is in
// the vault in the end is what the catalogue says.
func TestDoubles(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, server *glaciertest.Server, b archive.Bucket)
		want []string
	}{
		"a lost reply": {func(t *testing.T, server *glaciertest.Server, b archive.Bucket) {
			server.Lose(1, "UploadArchive")
			if err := b.Put(t.Context(), "o", []byte("text"), true); err != nil {
				t.Error(err)
			}
		}, []string{"o", "other"}},
		"a lost reply, and deleted": {func(t *testing.T, server *glaciertest.Server, b archive.Bucket) {
			server.Lose(1, "UploadArchive")
			if err := errors.Join(b.Put(t.Context(), "o", []byte("text"), true), b.Delete(t.Context(), "o")); err != nil {
				t.Error(err)
			}
		}, []string{"other"}},
		"no reply at all": {func(t *testing.T, server *glaciertest.Server, b archive.Bucket) {
			server.Lose(attempts, "UploadArchive")
			if err := b.Put(t.Context(), "o", []byte("text"), true); !store.Temporary(err) {
				t.Errorf("storing: %v", err)
			}
		}, []string{"other"}},
		"killed": {func(t *testing.T, _ *glaciertest.Server, b archive.Bucket) {
			inner := b.(*bucket)
			inner.c = &dying{inner.c, 1}
			defer func() { _ = recover() }()
			t.Errorf("it is not killed: %v", b.Put(t.Context(), "o", []byte("text"), false))
		}, []string{"other"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := glaciertest.Start(t)
			file := filepath.Join(t.TempDir(), "ledger.db")
			b := openBucket(t, server, "v", file)
			if err := b.Put(t.Context(), "other", []byte("text"), true); err != nil {
				t.Fatal(err)
			}
			c.do(t, server, b)
			b = days(t, server, file, 6)
			lists(t, b, c.want...)
			if n := len(server.Archives(t, "v")); n != len(c.want) {
				t.Errorf("there are %d archives, want %d", n, len(c.want))
			}
			for _, key := range c.want {
				holds(t, b, key, []byte("text"))
			}
			server.Forget()
			days(t, server, file, 2)
			if n := server.Count("InitiateJob"); n != 0 {
				t.Errorf("in the end the vault is still asked: %d times", n)
			}
		})
	}
}

// TestStoredAgain has a run die while it completes an upload, and another one store
// the same object anew as nobody can tell what became of that.
func TestStoredAgain(t *testing.T) {
	for name, same := range map[string]bool{"the same bytes": true, "others": false} {
		t.Run(name, func(t *testing.T) {
			server := glaciertest.Start(t)
			file := filepath.Join(t.TempDir(), "ledger.db")
			b := openBucket(t, server, "v", file)
			u, parts := uploadParts(t, b, "o", big(1, 1<<20))
			server.Lose(attempts, "CompleteMultipartUpload")
			if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
				t.Fatalf("completing: %v", err)
			}
			server.Advance(12 * time.Hour)
			b = openBucket(t, server, "v", file)
			lists(t, b)
			data := big(1, 1<<20)
			if !same {
				data = big(2, 1<<20)
			}
			upload(t, b, "o", data)
			b = days(t, server, file, 6)
			lists(t, b, "o")
			if n := len(server.Archives(t, "v")); n != 1 {
				t.Errorf("there are %d archives", n)
			}
			thaw(t, b, store.ThawOptions{Ask: true}, "o")
			server.Advance(glaciertest.BulkTime)
			holds(t, b, "o", data)
		})
	}
}

// TestIdleVault restores the catalogue of a vault in which nothing changes any more:
// it takes no newer inventory, and is not asked for one for ever.
func TestIdleVault(t *testing.T) {
	server := glaciertest.Start(t)
	dir := t.TempDir()
	if err := openBucket(t, server, "v", filepath.Join(dir, "lost.db")).Put(t.Context(), "o", []byte("text"), true); err != nil {
		t.Fatal(err)
	}
	server.Advance(5 * 24 * time.Hour)
	file := filepath.Join(dir, "new.db")
	for range 30 {
		server.Advance(6 * time.Hour)
		_ = bucketOf(t, openVault(t, server, "v"), file).(*bucket).ready(t.Context()) // it may be too early
	}
	server.Forget()
	days(t, server, file, 4)
	if n := server.Count("InitiateJob"); n != 0 {
		t.Errorf("after a week the inventory is asked for %d times more", n)
	}
}
