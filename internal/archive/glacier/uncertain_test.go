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

// TestThrottledAfterCompleting loses the reply to what completes an upload, and
// then hears only of other things: that is no sign that there is no archive.
func TestThrottledAfterCompleting(t *testing.T) {
	for name, then := range map[string]func(*glaciertest.Server){
		"throttled": func(s *glaciertest.Server) { s.Throttle(attempts, "CompleteMultipartUpload") },
		"denied":    func(s *glaciertest.Server) { s.Fail(attempts, 403, "AccessDeniedException", "CompleteMultipartUpload") },
	} {
		t.Run(name, func(t *testing.T) {
			server := glaciertest.Start(t)
			file := filepath.Join(t.TempDir(), "ledger.db")
			b := openBucket(t, server, "v", file)
			u, parts := uploadParts(t, b, "o", big(1, 1<<20))
			server.Lose(1, "CompleteMultipartUpload")
			then(server)
			if _, err := u.Complete(t.Context(), parts); err == nil || errors.Is(err, archive.ErrNoUpload) {
				t.Fatalf("completing: %v", err)
			}
			server.Calm()
			lists(t, openBucket(t, server, "v", file), "o")
		})
	}
}

// TestThrottledClosing has the run that looks after an upload of another one be
// throttled: the next one looks again.
func TestThrottledClosing(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	u, parts := uploadParts(t, b, "o", big(1, 1<<20))
	server.Lose(attempts, "CompleteMultipartUpload")
	if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
		t.Fatalf("completing: %v", err)
	}
	server.Throttle(attempts, "CompleteMultipartUpload")
	lists(t, openBucket(t, server, "v", file))
	server.Calm()
	lists(t, openBucket(t, server, "v", file), "o")
}

// TestCompletedLongAgo completes an upload again that it is not sure of, when the
// vault has forgotten it.
func TestCompletedLongAgo(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	u, parts := uploadParts(t, b, "o", big(1, 1<<20))
	server.Lose(attempts, "CompleteMultipartUpload")
	if _, err := u.Complete(t.Context(), parts); !store.Temporary(err) {
		t.Fatalf("completing: %v", err)
	}
	server.Advance(2 * glaciertest.RepeatKept)
	_, err := u.Complete(t.Context(), parts)
	if _, ok := errors.AsType[*UncertainError](err); !ok {
		t.Errorf("completing again: %v, want *UncertainError", err)
	}
	server.Advance(72 * time.Hour)
	lists(t, openBucket(t, server, "v", file))
	server.Advance(glaciertest.InventoryTime)
	lists(t, openBucket(t, server, "v", file), "o")
}
