package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// outlookOf is a plan of steps with these sizes.
func outlookOf(sizes ...snapshot.Size) *job.Outlook {
	p := &plan.Plan{}
	for i, s := range sizes {
		p.Steps = append(p.Steps, plan.Step{Action: plan.Send, Path: fmt.Sprintf("s%d", i+1), Size: s})
	}
	return &job.Outlook{Plan: p}
}

const mib = 1 << 20

func TestMeter(t *testing.T) {
	start := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	m := &meter{expected: []snapshot.Size{snapshot.AboutSize(100 * mib), snapshot.ExactSize(50 * mib)}}
	event := func(kind transfer.Kind, step int, bytes int64, seconds float64) {
		m.take(transfer.Event{
			Kind: kind, Step: step, Steps: 2, Bytes: bytes, Path: fmt.Sprintf("s%d", step), File: "d/f",
			Expected: m.expected[step-1].Bytes, Exact: m.expected[step-1].Exact,
		}, at(seconds))
	}
	expect := func(seconds float64, step, all string) {
		t.Helper()
		if got := m.step(at(seconds)); got != step {
			t.Errorf("after %v s the step: %q, want %q", seconds, got, step)
		}
		if got := m.all(at(seconds)); got != all {
			t.Errorf("after %v s the run: %q, want %q", seconds, got, all)
		}
	}
	event(transfer.StepBegun, 1, 0, 0)
	expect(0, "0 bytes of ~100 MiB (0%)", "0 bytes of ~150 MiB (0%)")
	event(transfer.Progress, 1, 10*mib, 1)
	expect(1, "10 MiB of ~100 MiB (10%), 10 MiB/s, 0:00:09 left", "10 MiB of ~150 MiB (6%), 10 MiB/s, 0:00:14 left")
	event(transfer.Progress, 1, 20*mib, 2)
	// Nothing comes any more: the pace falls, and after a while it is said.
	expect(4, "20 MiB of ~100 MiB (20%), 5 MiB/s, 0:00:16 left", "20 MiB of ~150 MiB (13%), 5 MiB/s, 0:00:26 left")
	expect(20, "20 MiB of ~100 MiB (20%), 1 MiB/s, 0:01:20 left, nothing moves since 0:00:18", "20 MiB of ~150 MiB (13%), 1 MiB/s, 0:02:10 left")
	// It begins again from its start.
	event(transfer.Retry, 1, 20*mib, 21)
	expect(21, "0 bytes of ~100 MiB (0%), nothing moves since 0:00:19", "0 bytes of ~150 MiB (0%)")
	event(transfer.Progress, 1, 90*mib, 30)
	// More than was expected: no percentage above 100, and no guess at the rest.
	event(transfer.Progress, 1, 110*mib, 32)
	expect(32, "110 MiB, 10 MiB/s", "110 MiB of ~160 MiB (68%), 10 MiB/s, 0:00:05 left")
	event(transfer.Committed, 1, 110*mib, 33)
	event(transfer.StepBegun, 2, 0, 33)
	expect(33, "0 bytes of 50 MiB (0%)", "110 MiB of 160 MiB (68%)")
	event(transfer.Committed, 2, 40*mib, 34)
	if got, want := m.all(at(34)), "150 MiB of 150 MiB (100%)"; got != want {
		t.Errorf("at the end: %q, want %q", got, want)
	}
}

// A pace is that of the last seconds, not of the whole step.
func TestPaceForgets(t *testing.T) {
	start := time.Now()
	m := &meter{}
	m.take(transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 1}, start)
	bytes := int64(0)
	for i := range 1000 { // 100 s at 100 MiB/s, then 100 s at 1 MiB/s
		bytes += 10 * mib
		m.take(transfer.Event{Kind: transfer.Progress, Step: 1, Steps: 1, Bytes: bytes}, start.Add(time.Duration(i+1)*100*time.Millisecond))
	}
	for i := range 1000 {
		bytes += mib / 10
		m.take(transfer.Event{Kind: transfer.Progress, Step: 1, Steps: 1, Bytes: bytes}, start.Add(time.Duration(i+1001)*100*time.Millisecond))
	}
	if got := m.step(start.Add(200 * time.Second)); !strings.Contains(got, " 1 MiB/s") && !strings.Contains(got, "1024 KiB/s") {
		t.Errorf("the pace: %q", got)
	}
	if len(m.marks) > 110 {
		t.Errorf("%d marks are kept", len(m.marks))
	}
}

func TestRowsFit(t *testing.T) {
	now := time.Now()
	m := &meter{expected: []snapshot.Size{snapshot.AboutSize(1 << 40), snapshot.AboutSize(1 << 40)}}
	m.take(transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 2}, now.Add(-5*time.Second))
	m.take(transfer.Event{
		Kind: transfer.Progress, Step: 1, Steps: 2, Bytes: 123456789, Expected: 1 << 40,
		Path: "very/long/日本日本日本日本日本日本/\x1b[31mpath/monday", File: strings.Repeat("directory/", 30) + "naïve\nfile",
	}, now)
	for width := range 200 {
		for i, row := range []func(*meter, time.Time, int) string{stepRow, fileRow, runRow} {
			got := row(m, now, width)
			if columns(got) > max(width, len(gap)+6) {
				t.Errorf("row %d for %d columns has %d: %q", i, width, columns(got), got)
			}
			if printable(got) != got {
				t.Errorf("row %d can do things to a terminal: %q", i, got)
			}
		}
	}
	if got := stepRow(m, now, 100); !strings.Contains(got, "monday: 117.7 MiB of ~1 TiB (0%), 23.55 MiB/s, ") {
		t.Errorf("in 100 columns: %q", got)
	}
	if got, want := fileRow(m, now, 40), `      ...directory/directory/naïve\nfile`; got != want {
		t.Errorf("the file: %q, want %q", got, want)
	}
}

// playEvents sends the events of two steps, the clock going on by ten seconds
// between any two.
func playEvents(env *Env, p *progress) {
	clock := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { return clock }
	p.expect(outlookOf(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib)))
	event := func(e transfer.Event) {
		e.Steps = 2
		if e.Step == 1 {
			e.Path, e.Expected = "a/one\x1b[2J", 100*mib
		}
		if e.Step == 2 {
			e.Path, e.Expected, e.Exact = "a/two", 50*mib, true
		}
		p.event(e)
		clock = clock.Add(10 * time.Second)
	}
	event(transfer.Event{Kind: transfer.StepBegun, Step: 1})
	for i := range int64(7) {
		event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: i * 10 * mib, File: "x\xff"})
	}
	event(transfer.Event{Kind: transfer.Retry, Step: 1, Bytes: 60 * mib, Error: "the line is cut", Wait: 4 * time.Second})
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
	want := `  [1/2] a/one\x1b[2J: 20 MiB of ~100 MiB (20%), 1 MiB/s, 0:01:20 left
  [1/2] a/one\x1b[2J: 50 MiB of ~100 MiB (50%), 1 MiB/s, 0:00:50 left
  WARNING: a/one\x1b[2J: the line is cut; trying again in 0:00:04
  a/one\x1b[2J: 100 MiB in 0:01:30, 1.111 MiB/s
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
	for quiet, want := range []int{13, 6} {
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
