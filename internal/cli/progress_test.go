package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

const mib = 1 << 20

// script makes the events of a run, with the totals that transfer would give.
type script struct {
	sizes []snapshot.Size
	at    map[int]int64 // bytes of the steps that are on their way
	done  map[int]int64 // of those that are committed
	lost  map[int]bool  // failed or skipped
}

func newScript(sizes ...snapshot.Size) *script {
	return &script{sizes: sizes, at: map[int]int64{}, done: map[int]int64{}, lost: map[int]bool{}}
}

func (s *script) event(e transfer.Event) transfer.Event {
	e.Steps = len(s.sizes)
	if e.Step > 0 {
		size := s.sizes[e.Step-1]
		e.Expected, e.Exact, e.Action = size.Bytes, size.Exact, plan.Send
		if e.Path == "" {
			e.Path = fmt.Sprintf("s%d", e.Step)
		}
		delete(s.at, e.Step)
		switch e.Kind {
		case transfer.Committed:
			s.done[e.Step] = e.Bytes
		case transfer.Failed, transfer.Skipped, transfer.Interrupted:
			s.lost[e.Step] = true
		case transfer.Retry:
			s.at[e.Step] = 0
		default:
			s.at[e.Step] = e.Bytes
		}
	}
	e.TotalKnown, e.TotalExact = true, true
	for i, size := range s.sizes {
		done, committed := s.done[i+1]
		switch {
		case s.lost[i+1]:
		case committed:
			e.TotalBytes += done
			e.TotalExpected += done
		default:
			e.TotalBytes += s.at[i+1]
			e.TotalExpected += max(size.Bytes, s.at[i+1])
			e.TotalKnown, e.TotalExact = e.TotalKnown && size.Known, e.TotalExact && size.Exact
		}
	}
	return e
}

func TestMeter(t *testing.T) {
	start := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	s := newScript(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib))
	m := &meter{}
	event := func(kind transfer.Kind, step int, bytes int64, seconds float64) {
		m.take(s.event(transfer.Event{Kind: kind, Step: step, Bytes: bytes, File: "d/f"}), at(seconds))
	}
	expect := func(seconds float64, step, all string) {
		t.Helper()
		got := ""
		if len(m.flows) > 0 {
			got = m.flows[0].text(at(seconds))
		}
		if got != step {
			t.Errorf("after %v s the step: %q, want %q", seconds, got, step)
		}
		if got := m.all(at(seconds)); got != all {
			t.Errorf("after %v s the run: %q, want %q", seconds, got, all)
		}
	}
	event(transfer.StepBegun, 1, 0, 0)
	expect(0, "0 bytes of ~100 MiB (0%)", "0 bytes of ~150 MiB (0%)")
	event(transfer.Progress, 1, 10*mib, 1)
	// Of the first seconds a rate, but no guess at the rest.
	expect(1, "10 MiB of ~100 MiB (10%), 10 MiB/s", "10 MiB of ~150 MiB (6%), 10 MiB/s")
	event(transfer.Progress, 1, 20*mib, 2)
	expect(4, "20 MiB of ~100 MiB (20%), 5 MiB/s, 0:00:16 left", "20 MiB of ~150 MiB (13%), 5 MiB/s, 0:00:26 left")
	// Nothing comes any more: no rate, and after a while it is said why.
	expect(20, "20 MiB of ~100 MiB (20%), nothing has moved for 18 s", "20 MiB of ~150 MiB (13%)")
	m.take(s.event(transfer.Event{Kind: transfer.Stalled, Step: 1, Bytes: 20 * mib, Wait: 18 * time.Second, Error: "waiting for the source to send"}), at(20))
	expect(20, "20 MiB of ~100 MiB (20%), nothing has moved for 18 s: waiting for the source to send", "20 MiB of ~150 MiB (13%)")
	event(transfer.Progress, 1, 21*mib, 20.5)
	if got := m.flows[0].text(at(20.5)); strings.Contains(got, "waiting") || strings.Contains(got, "moved") {
		t.Errorf("when it moves again: %q", got)
	}
	// It begins again from its start.
	event(transfer.Retry, 1, 20*mib, 21)
	if got, want := m.flows[0].text(at(21)), "0 bytes of ~100 MiB (0%)"; got != want {
		t.Errorf("after a retry: %q, want %q", got, want)
	}
	event(transfer.Progress, 1, 90*mib, 30)
	// More than was expected: no percentage above 100, and no guess at the rest.
	event(transfer.Progress, 1, 110*mib, 32)
	if got, want := m.flows[0].text(at(32)), "110 MiB, 10 MiB/s"; got != want {
		t.Errorf("more than expected: %q, want %q", got, want)
	}
	if got := m.all(at(32)); !strings.HasPrefix(got, "110 MiB of ~160 MiB (68%), ") {
		t.Errorf("the run, when there is more than expected: %q", got)
	}
	event(transfer.Committed, 1, 110*mib, 33)
	event(transfer.StepBegun, 2, 0, 33)
	if got := m.all(at(33)); !strings.HasPrefix(got, "110 MiB of 160 MiB (68%), ") {
		t.Errorf("the run, exactly: %q", got)
	}
	event(transfer.Committed, 2, 40*mib, 34)
	if got := m.all(at(34)); !strings.HasPrefix(got, "150 MiB of 150 MiB (100%)") || len(m.flows) > 0 || len(m.ended) != 2 {
		t.Errorf("at the end: %q", got)
	}
}

// What has arrived before is part of the percentage, but nothing that has been
// carried, so it does not count in the rate.
func TestMeterResumed(t *testing.T) {
	start := time.Now()
	s := newScript(snapshot.ExactSize(1000 * mib))
	m := &meter{}
	event := func(e transfer.Event, seconds int) {
		e.Step = 1
		m.take(s.event(e), start.Add(time.Duration(seconds)*time.Second))
	}
	event(transfer.Event{Kind: transfer.StepBegun}, 0)
	event(transfer.Event{Kind: transfer.Progress, Bytes: 400 * mib, Comparing: true}, 2)
	if got, want := m.flows[0].text(start.Add(4*time.Second)), "400 MiB of 1000 MiB (40%), comparing with what has arrived"; got != want {
		t.Errorf("while it is compared: %q, want %q", got, want)
	}
	event(transfer.Event{Kind: transfer.Resumed, Bytes: 800 * mib}, 4)
	event(transfer.Event{Kind: transfer.Progress, Bytes: 810 * mib}, 14)
	if got, want := m.flows[0].text(start.Add(14*time.Second)), "810 MiB of 1000 MiB (81%), 1 MiB/s, 0:03:10 left"; got != want {
		t.Errorf("carried on: %q, want %q", got, want)
	}
	if got, want := m.flows[0].spare, int64(800*mib); got != want {
		t.Errorf("spared are %d, want %d", got, want)
	}
}

// A pace is that of the last seconds, not of the whole step.
func TestPaceForgets(t *testing.T) {
	start := time.Now()
	s := newScript(snapshot.Size{})
	m := &meter{}
	m.take(s.event(transfer.Event{Kind: transfer.StepBegun, Step: 1}), start)
	bytes := int64(0)
	for i := range 2000 { // 100 s at 100 MiB/s, then 100 s at 1 MiB/s
		if i < 1000 {
			bytes += 10 * mib
		} else {
			bytes += mib / 10
		}
		m.take(s.event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: bytes}), start.Add(time.Duration(i+1)*100*time.Millisecond))
	}
	now := start.Add(200 * time.Second)
	for what, got := range map[string]string{"step": m.flows[0].text(now), "run": m.all(now)} {
		if !strings.Contains(got, " 1 MiB/s") && !strings.Contains(got, "1024 KiB/s") {
			t.Errorf("the pace of the %s: %q", what, got)
		}
	}
	if n := max(len(m.pace.marks), len(m.flows[0].pace.marks)); n > 310 {
		t.Errorf("%d marks are kept", n)
	}
}

// Many streams at once do not make a rate take more memory.
func TestPaceIsBounded(t *testing.T) {
	p := tempo{}
	start := time.Now()
	for i := range 100000 {
		p.add(start.Add(time.Duration(i)*time.Millisecond), 1000)
	}
	if got := p.rate(start.Add(100 * time.Second)); got < 950e3 || got > 1050e3 {
		t.Errorf("%v bytes a second, want about a million", got)
	}
	if len(p.marks) > 310 {
		t.Errorf("%d marks are kept", len(p.marks))
	}
}

func TestRowsFit(t *testing.T) {
	now := time.Now()
	s := newScript(snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40), snapshot.AboutSize(1<<40))
	m := &meter{}
	begin := func(step int) {
		m.take(s.event(transfer.Event{Kind: transfer.StepBegun, Step: step}), now.Add(-5*time.Second))
		m.take(s.event(transfer.Event{
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
			rows := m.rows(now, width)
			if n == len(m.flows) && len(rows) != want {
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
	rows := m.rows(now, 120)
	if !strings.Contains(rows[1], "[2/6] ") || !strings.Contains(rows[1], "monday: 117.7 MiB of ~1 TiB (0%), 23.55 MiB/s, ") {
		t.Errorf("in 120 columns: %q", rows[1])
	}
	if last := rows[len(rows)-1]; !strings.HasPrefix(last, "all 6: 706.4 MiB of ~6 TiB (0%), ") || !strings.Contains(last, ", 2 more at work [>   ") {
		t.Errorf("the run: %q", last)
	}
}

func TestFileRow(t *testing.T) {
	m := &meter{}
	m.take(transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 1, File: strings.Repeat("directory/", 30) + "naïve\nfile"}, time.Now())
	if got, want := m.rows(time.Now(), 40)[1], `      ...directory/directory/naïve\nfile`; got != want {
		t.Errorf("the file: %q, want %q", got, want)
	}
}

// playEvents sends the events of two steps, the clock going on by ten seconds
// between any two.
func playEvents(env *Env, p *progress) {
	clock := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { return clock }
	s := newScript(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib))
	p.begin()
	event := func(e transfer.Event) {
		e.Path = map[int]string{1: "a/one\x1b[2J", 2: "a/two"}[e.Step]
		p.event(s.event(e))
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
