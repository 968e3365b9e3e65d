package glacier

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// TestSurplusParts holds that parts which nobody wants keep an upload from being
// completed, and nothing else.
func TestSurplusParts(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	u, parts := uploadParts(t, b, "o", big(1, 2<<20))
	if _, err := u.Complete(t.Context(), parts[:1]); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("completing without the last part: %v, want ErrNoUpload", err)
	}
	lists(t, b)
	if _, err := u.Complete(t.Context(), parts); err != nil {
		t.Error(err)
	}
	lists(t, b, "o")
}

// TestLostComplete loses replies to what completes an upload.
func TestLostComplete(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	server.Lose(3, "CompleteMultipartUpload")
	upload(t, b, "o", big(1, 1<<20))
	if n := len(server.Archives(t, "v")); n != 1 {
		t.Errorf("there are %d archives", n)
	}
	lists(t, b, "o")
}

// TestDiedCompleting has a run die when an upload has been completed and it has not
// learnt of that.
func TestDiedCompleting(t *testing.T) {
	for name, later := range map[string]time.Duration{"soon": time.Minute, "late": 2 * glaciertest.RepeatKept} {
		t.Run(name, func(t *testing.T) {
			server := glaciertest.Start(t)
			file := filepath.Join(t.TempDir(), "ledger.db")
			b := openBucket(t, server, "v", file)
			data := big(1, 1<<20)
			u, parts := uploadParts(t, b, "o", data)
			server.Lose(attempts, "CompleteMultipartUpload")
			if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
				t.Fatalf("completing: %v, want a temporary error", err)
			}
			server.Advance(later)
			b = openBucket(t, server, "v", file)
			if later < glaciertest.RepeatKept {
				lists(t, b, "o")
			} else {
				// Only the inventory knows.
				lists(t, b)
				server.Advance(72 * time.Hour)
				lists(t, openBucket(t, server, "v", file))
				server.Advance(glaciertest.InventoryTime)
				b = openBucket(t, server, "v", file)
				lists(t, b, "o")
			}
			if n := len(server.Archives(t, "v")); n != 1 {
				t.Errorf("there are %d archives", n)
			}
			thaw(t, b, store.ThawOptions{Ask: true}, "o")
			server.Advance(glaciertest.BulkTime)
			holds(t, b, "o", data)
		})
	}
}

// TestLongParts stores and reads by parts of several leaves.
func TestLongParts(t *testing.T) {
	server := glaciertest.Start(t)
	server.Make(t, "v")
	v := openVault(t, server, "v")
	const part = 4 << 20
	data := big(1, part+3<<20+17)
	u, err := v.Begin(t.Context(), "d", part)
	if err != nil {
		t.Fatal(err)
	}
	var trees []TreeHash
	for at := 0; at < len(data); at += part {
		tree, err := u.Put(t.Context(), int64(at), bodyOf(data[at:min(at+part, len(data))]))
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	made, err := u.Complete(t.Context(), int64(len(data)), trees)
	if err != nil {
		t.Fatal(err)
	}
	one, err := v.Put(t.Context(), "one", data)
	if err != nil {
		t.Fatal(err)
	}
	if made.Tree != treeOf(data) || one.Tree != made.Tree {
		t.Errorf("the tree hashes are %s and %s, want %s", made.Tree, one.Tree, treeOf(data))
	}
	for _, id := range []string{made.ID, one.ID} {
		if got := server.Content(t, "v", id); !bytes.Equal(got, data) {
			t.Errorf("there are %d bytes", len(got))
		}
	}
	if _, err := v.Retrievals(t.Context(), []string{made.ID}, store.Expedited, true); err != nil {
		t.Fatal(err)
	}
	server.Advance(glaciertest.ExpeditedTime)
	for _, r := range [][2]int64{{0, int64(len(data))}, {part, part}, {1 << 20, 2 << 20}, {3, 5 << 20}} {
		in, err := v.Get(t.Context(), made.ID, r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		in.Close()
		if want := data[r[0]:min(r[0]+r[1], int64(len(data)))]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %d bytes, %v", r, len(got), err)
		}
	}
}

// TestOnceLeavesOne holds that who loses a race leaves nothing behind.
func TestOnceLeavesOne(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	one, two := openBucket(t, server, "v", file), openBucket(t, server, "v", file)
	first, firstParts := uploadParts(t, one, "o", big(1, 1<<20))
	second, secondParts := uploadParts(t, two, "o", big(2, 1<<20))
	errs := make(chan error, 2)
	go func() { _, err := first.Complete(t.Context(), firstParts); errs <- err }()
	go func() { _, err := second.Complete(t.Context(), secondParts); errs <- err }()
	a, b := <-errs, <-errs
	if won := a == nil; won == (b == nil) || !errors.Is(errors.Join(a, b), archive.ErrTaken) {
		t.Errorf("one is told %v, and the other %v", a, b)
	}
	for i := range 8 {
		go func() { errs <- []archive.Bucket{one, two}[i%2].Put(t.Context(), "p", []byte{byte(i)}, true) }()
	}
	for range 8 {
		<-errs
	}
	if n := len(server.Archives(t, "v")); n != 2 {
		t.Errorf("there are %d archives for two objects", n)
	}
}

// TestUncertain loses the reply to what completes an upload, and finds the upload
// gone after that.
func TestUncertain(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	u, parts := uploadParts(t, b, "o", big(1, 1<<20))
	server.Fail(1, 500, "ServiceUnavailableException", "CompleteMultipartUpload")
	server.Fail(1, 404, "ResourceNotFoundException", "CompleteMultipartUpload")
	_, err := u.Complete(t.Context(), parts)
	if _, ok := errors.AsType[*UncertainError](err); !ok {
		t.Errorf("completing: %v, want *UncertainError", err)
	}
	server.Fail(1, 404, "ResourceNotFoundException", "CompleteMultipartUpload")
	if _, err := u.Complete(t.Context(), parts); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("completing what is gone for sure: %v, want ErrNoUpload", err)
	}
}

// TestCompletedElsewhere has one process complete what another is not sure of.
func TestCompletedElsewhere(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	u, parts := uploadParts(t, b, "o", big(1, 1<<20))
	server.Lose(attempts, "CompleteMultipartUpload")
	if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
		t.Fatalf("completing: %v, want a temporary error", err)
	}
	lists(t, openBucket(t, server, "v", file), "o")
	if o, err := u.Complete(t.Context(), parts); err != nil || o.Key != "o" || o.Size != 1<<20 {
		t.Errorf("completing again: %+v, %v", o, err)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Errorf("dropping it: %v", err)
	}
	lists(t, b, "o")
	if n := len(server.Archives(t, "v")); n != 1 {
		t.Errorf("there are %d archives", n)
	}
}

// TestDroppedAfterFailing drops an upload that could not be completed: no later run
// completes it.
func TestDroppedAfterFailing(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	u, parts := uploadParts(t, b, "o", big(1, 1<<20))
	server.Fail(attempts, 500, "ServiceUnavailableException", "CompleteMultipartUpload")
	if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
		t.Fatalf("completing: %v, want a temporary error", err)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Forget()
	lists(t, openBucket(t, server, "v", file))
	if n := server.Count("CompleteMultipartUpload", "InitiateJob"); n != 0 {
		t.Errorf("another run has made %d requests for it", n)
	}
	if n := len(server.Archives(t, "v")); n != 0 {
		t.Errorf("there are %d archives", n)
	}
}
