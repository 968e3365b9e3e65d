package bare

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestFlood has the other machine print without end: that is an error, and nothing
// waits for the end of it.
func TestFlood(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := openHere(t, "/x", nil)
	if _, err := s.run(ctx, "yes"); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a command: %v, %v", err, ctx.Err())
	}
	c := s.script()
	c.section("all", "yes")
	if _, _, err := s.execute(ctx, c); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a script: %v, %v", err, ctx.Err())
	}
	p, err := s.link.start(ctx, "yes")
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{ctx: ctx, store: s, process: p}
	if err := w.end(); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("btrfs receive: %v, %v", err, ctx.Err())
	}
}
