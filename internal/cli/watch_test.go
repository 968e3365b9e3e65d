package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// TestWatch: a long reading is drawn, and gone when it is over; a short one, and
// one that nobody can see, is not drawn at all.
func TestWatch(t *testing.T) {
	p := newPTY(t, 100, 24)
	clock := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	env, _, _ := testEnv(t, "buttersink")
	env.Stderr, env.StderrIsTerminal = p.tty, true
	env.Width = func() int { return 100 }
	env.Now = func() time.Time { return clock }
	env.console = &console{w: p.tty}

	w := env.newWatch("short", snapshot.ExactSize(100))
	w.read(100)
	w.close()

	w = env.newWatch("a/long\x1b[2J", snapshot.ExactSize(100*mib))
	clock = clock.Add(4 * time.Second)
	w.read(25 * mib)
	p.wait(t, `a/long\x1b[2J: 25 MiB of 100 MiB (25%), 6.25 MiB/s, 0:00:12 left [=====`)
	w.close()
	w.close()
	if _, err := env.console.Write([]byte("after\n")); err != nil {
		t.Fatal(err)
	}
	p.wait(t, "after")
	if lines, column := screen(t, p.text()); strings.Join(lines, "|") != "after|" || column != 0 {
		t.Errorf("what is left on the screen, cursor in column %d: %q", column, lines)
	}
	if strings.Contains(p.text(), "short") {
		t.Errorf("a short reading was drawn: %q", p.text())
	}

	env.quiet = 1
	if w := env.newWatch("x", snapshot.Size{}); w != nil {
		t.Error("it is drawn for those who want quiet")
	}
	env.quiet, env.StderrIsTerminal = 0, false
	w = env.newWatch("x", snapshot.Size{})
	w.read(1)
	w.close()
	if w != nil {
		t.Error("it is drawn without a terminal")
	}
}

func TestWatchRowsFit(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	for _, whole := range []snapshot.Size{{}, snapshot.ExactSize(1 << 40)} {
		w := &watch{env: env, name: strings.Repeat("directory/", 30) + "日本\x1b", done: 123456789, whole: whole}
		for width := range 200 {
			got := w.rows(width)[0]
			if columns(got) > max(width, 40) || printable(got) != got {
				t.Errorf("in %d columns: %q", width, got)
			}
		}
	}
}
