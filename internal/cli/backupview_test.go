package cli

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/transfer"
)

// TestRowsWhileStepsEnd draws while destinations begin and end their steps.
func TestRowsWhileStepsEnd(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	env.Log = slog.New(slog.DiscardHandler)
	env.KeepAwake = func(context.Context, string, *slog.Logger) func() { return func() {} }
	v := newBackupView(env, &backupOptions{})
	names := []string{"/mnt/a", "/mnt/b"}
	for _, name := range names {
		v.at(name)
	}
	var all sync.WaitGroup
	for _, name := range names {
		p := v.at(name).progress
		all.Go(func() {
			for range 20_000 {
				for _, kind := range []transfer.Kind{transfer.StepBegun, transfer.Committed} {
					p.mu.Lock()
					p.view.Take(transfer.Event{Kind: kind, Step: 1, Steps: 1, Path: "x"}, env.Now())
					p.mu.Unlock()
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	for {
		if rows := v.rows(80); len(rows) > len(names) {
			t.Errorf("%q", rows)
		}
		select {
		case <-over:
			return
		default:
		}
	}
}

// TestNamedInJSON: a destination that a note names may hold what is nobody's business.
func TestNamedInJSON(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	v := newBackupView(env, &backupOptions{})
	for name, want := range map[string]string{
		"ssh://me:secret@host/bk": "ssh://me:***@host/bk",
		"/mnt/\xff":               `/mnt/\xff`,
		"/mnt/bk":                 "/mnt/bk",
	} {
		if got := v.named(name); got != want {
			t.Errorf("%q is told as %q, want %q", name, got, want)
		}
	}
}
