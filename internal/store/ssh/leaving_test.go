package ssh

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestLeaving gives up what comes in slowly: the server comes to its end by
// itself, though much of what it has said is still on its way.
func TestLeaving(t *testing.T) {
	server := remote(t)
	o := optionsFor(server, server.Root(), "/srv/")
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Compress, o.Limit = false, pace.New(4<<20)
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: inv.Snapshots[0].ID}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, in, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "does not come to its end") {
		t.Errorf("it was waited for in vain:\n%s", &log)
	}
}
