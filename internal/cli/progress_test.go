package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/meter/metertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

const mib = 1 << 20

func TestRowsFit(t *testing.T) {
	now := time.Now()
	s := metertest.NewScript(snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40))
	m := &meter.Meter{}
	begin := func(step int) {
		m.Take(s.Event(transfer.Event{Kind: transfer.StepBegun, Step: step}), now.Add(-5*time.Second))
		m.Take(s.Event(transfer.Event{
			Kind: transfer.Progress, Step: step, Bytes: 123456789,
			Path: "very/long/日本日本日本日本日本日本/\x1b[31mpath/monday", File: strings.Repeat("directory/", 30) + "naïve\nfile",
		}), now)
	}
	begin(1)
	for n, want := range map[int]int{1: 3, 6: flowRows + 1} { // one, then all six
		for step := 2; step <= n; step++ {
			begin(step)
		}
		for width := range 200 {
			rows := meterRows(m, now, width)
			if n == len(m.Flows) && len(rows) != want {
				t.Fatalf("%d rows for %d streams, want %d: %q", len(rows), n, want, rows)
			}
			for i, got := range rows {
				if columns(got) > max(width, len(gap)+6) {
					t.Errorf("row %d for %d columns has %d: %q", i, width, columns(got), got)
				}
				if printable(got) != got {
					t.Errorf("row %d can do things to a terminal: %q", i, got)
				}
			}
		}
	}
	rows := meterRows(m, now, 120)
	if !strings.Contains(rows[1], "[2/6] ") || !strings.Contains(rows[1], "monday: 117.7 MiB of ~1 TiB (0%), 23.55 MiB/s, ") {
		t.Errorf("in 120 columns: %q", rows[1])
	}
	if last := rows[len(rows)-1]; !strings.HasPrefix(last, "all 6: 706.4 MiB of ~6 TiB (0%), ") || !strings.Contains(last, ", 2 more at work [>   ") {
		t.Errorf("the run: %q", last)
	}
}

func TestFileRow(t *testing.T) {
	m := &meter.Meter{}
	m.Take(transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 1, File: strings.Repeat("directory/", 30) + "naïve\nfile"}, time.Now())
	if got, want := meterRows(m, time.Now(), 40)[1], `      ...directory/directory/naïve\nfile`; got != want {
		t.Errorf("the file: %q, want %q", got, want)
	}
}

// playEvents sends the events of two steps, the clock going on by ten seconds
// between any two.
func playEvents(env *Env, p *progress) {
	clock := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { return clock }
	s := metertest.NewScript(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib))
	p.begin()
	event := func(e transfer.Event) {
		e.Path = map[int]string{1: "a/one\x1b[2J", 2: "a/two"}[e.Step]
		p.event(s.Event(e))
		clock = clock.Add(10 * time.Second)
	}
	event(transfer.Event{Kind: transfer.StepBegun, Step: 1})
	for i := range int64(8) {
		event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: i * 10 * mib, File: "x\xff"})
	}
	event(transfer.Event{Kind: transfer.Stalled, Step: 1, Bytes: 70 * mib, Wait: time.Minute, Error: "waiting for the source to send"})
	event(transfer.Event{Kind: transfer.Retry, Step: 1, Bytes: 70 * mib, Error: "the line is cut", Wait: 4 * time.Second})
	event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: 10 * mib, File: "x\xff", Comparing: true})
	event(transfer.Event{Kind: transfer.Resumed, Step: 1, Bytes: 20 * mib})
	event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: 30 * mib, File: "x\xff"})
	event(transfer.Event{Kind: transfer.Committed, Step: 1, Bytes: 100 * mib})
	event(transfer.Event{Kind: transfer.StepBegun, Step: 2})
	event(transfer.Event{Kind: transfer.Failed, Step: 2, Bytes: mib, Error: "no space"})
	event(transfer.Event{Kind: transfer.Done, Bytes: 100 * mib})
	p.close()
	p.close()
}

func TestPlainProgress(t *testing.T) {
	env, stdout, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if err := env.startLog(0, ""); err != nil {
		t.Fatal(err)
	}
	playEvents(env, env.newProgress(false))
	want := `  0 of 2 done, 50 MiB of ~150 MiB (33%), 1 MiB/s, 0:01:40 left
  a/one\x1b[2J: nothing has moved for 1 min: waiting for the source to send
  WARNING: a/one\x1b[2J: the line is cut; trying again in 0:00:04
  a/one\x1b[2J: carried on from its last checkpoint, after 20 MiB
  0 of 2 done, 30 MiB of ~150 MiB (20%), 204.8 KiB/s, 0:10:00 left
  a/one\x1b[2J: 100 MiB in 0:02:20, 585.1 KiB/s
  a/two: failed: no space
`
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if stdout.Len() > 0 {
		t.Errorf("standard output got %q", stdout)
	}
}

// Nothing of a run in which all is well reaches the mail of cron.
func TestQuietProgress(t *testing.T) {
	env, stdout, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if err := env.startLog(1, ""); err != nil {
		t.Fatal(err)
	}
	playEvents(env, env.newProgress(false))
	if want := "  WARNING: a/one\\x1b[2J: the line is cut; trying again in 0:00:04\n"; stderr.String() != want || stdout.Len() > 0 {
		t.Errorf("standard error %q, want only %q; standard output %q", stderr, want, stdout)
	}
}

func TestJSONProgress(t *testing.T) {
	for quiet, want := range []int{18, 8} {
		env, stdout, stderr := testEnv(t, "buttersink")
		env.console = &console{w: stderr}
		if err := env.startLog(quiet, ""); err != nil {
			t.Fatal(err)
		}
		playEvents(env, env.newProgress(true))
		n := 0
		for line := range strings.Lines(stdout.String()) {
			n++
			var e transfer.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if e.Kind == transfer.Progress && e.File != `x\xff` {
				t.Errorf("the file is %q", e.File)
			}
		}
		if n != want || stderr.Len() > 0 {
			t.Errorf("quiet %d: %d lines, want %d; standard error %q", quiet, n, want, stderr)
		}
	}
}
