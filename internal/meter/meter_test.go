package meter

import (
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/meter/metertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

const mib = 1 << 20

func TestMeter(t *testing.T) {
	start := time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	s := metertest.NewScript(snapshot.AboutSize(100*mib), snapshot.ExactSize(50*mib))
	m := &Meter{}
	event := func(kind transfer.Kind, step int, bytes int64, seconds float64) {
		m.Take(s.Event(transfer.Event{Kind: kind, Step: step, Bytes: bytes, File: "d/f"}), at(seconds))
	}
	expect := func(seconds float64, step, all string) {
		t.Helper()
		got := ""
		if len(m.Flows) > 0 {
			got = m.Flows[0].Text(at(seconds))
		}
		if got != step {
			t.Errorf("after %v s the step: %q, want %q", seconds, got, step)
		}
		if got := m.All(at(seconds)); got != all {
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
	m.Take(s.Event(transfer.Event{Kind: transfer.Stalled, Step: 1, Bytes: 20 * mib, Wait: 18 * time.Second, Error: "waiting for the source to send"}), at(20))
	expect(20, "20 MiB of ~100 MiB (20%), nothing has moved for 18 s: waiting for the source to send", "20 MiB of ~150 MiB (13%)")
	event(transfer.Progress, 1, 21*mib, 20.5)
	if got := m.Flows[0].Text(at(20.5)); strings.Contains(got, "waiting") || strings.Contains(got, "moved") {
		t.Errorf("when it moves again: %q", got)
	}
	// It begins again from its start.
	event(transfer.Retry, 1, 20*mib, 21)
	if got, want := m.Flows[0].Text(at(21)), "0 bytes of ~100 MiB (0%)"; got != want {
		t.Errorf("after a retry: %q, want %q", got, want)
	}
	event(transfer.Progress, 1, 90*mib, 30)
	// More than was expected: no percentage above 100, and no guess at the rest.
	event(transfer.Progress, 1, 110*mib, 32)
	if got, want := m.Flows[0].Text(at(32)), "110 MiB, 10 MiB/s"; got != want {
		t.Errorf("more than expected: %q, want %q", got, want)
	}
	if got := m.All(at(32)); !strings.HasPrefix(got, "110 MiB of ~160 MiB (68%), ") {
		t.Errorf("the run, when there is more than expected: %q", got)
	}
	event(transfer.Committed, 1, 110*mib, 33)
	event(transfer.StepBegun, 2, 0, 33)
	if got := m.All(at(33)); !strings.HasPrefix(got, "110 MiB of 160 MiB (68%), ") {
		t.Errorf("the run, exactly: %q", got)
	}
	event(transfer.Committed, 2, 40*mib, 34)
	if got := m.All(at(34)); !strings.HasPrefix(got, "150 MiB of 150 MiB (100%)") || len(m.Flows) > 0 || m.Ended() != 2 {
		t.Errorf("at the end: %q", got)
	}
}

// What has arrived before is part of the percentage, but nothing that has been
// carried, so it does not count in the rate.
func TestMeterResumed(t *testing.T) {
	start := time.Now()
	s := metertest.NewScript(snapshot.ExactSize(1000 * mib))
	m := &Meter{}
	event := func(e transfer.Event, seconds int) {
		e.Step = 1
		m.Take(s.Event(e), start.Add(time.Duration(seconds)*time.Second))
	}
	event(transfer.Event{Kind: transfer.StepBegun}, 0)
	event(transfer.Event{Kind: transfer.Progress, Bytes: 400 * mib, Comparing: true}, 2)
	if got, want := m.Flows[0].Text(start.Add(4*time.Second)), "400 MiB of 1000 MiB (40%), comparing with what has arrived"; got != want {
		t.Errorf("while it is compared: %q, want %q", got, want)
	}
	event(transfer.Event{Kind: transfer.Resumed, Bytes: 800 * mib}, 4)
	event(transfer.Event{Kind: transfer.Progress, Bytes: 810 * mib}, 14)
	if got, want := m.Flows[0].Text(start.Add(14*time.Second)), "810 MiB of 1000 MiB (81%), 1 MiB/s, 0:03:10 left"; got != want {
		t.Errorf("carried on: %q, want %q", got, want)
	}
	if got, want := m.Flows[0].Spare, int64(800*mib); got != want {
		t.Errorf("spared are %d, want %d", got, want)
	}
}

// A pace is that of the last seconds, not of the whole step.
func TestPaceForgets(t *testing.T) {
	start := time.Now()
	s := metertest.NewScript(snapshot.Size{})
	m := &Meter{}
	m.Take(s.Event(transfer.Event{Kind: transfer.StepBegun, Step: 1}), start)
	bytes := int64(0)
	for i := range 2000 { // 100 s at 100 MiB/s, then 100 s at 1 MiB/s
		if i < 1000 {
			bytes += 10 * mib
		} else {
			bytes += mib / 10
		}
		m.Take(s.Event(transfer.Event{Kind: transfer.Progress, Step: 1, Bytes: bytes}), start.Add(time.Duration(i+1)*100*time.Millisecond))
	}
	now := start.Add(200 * time.Second)
	for what, got := range map[string]string{"step": m.Flows[0].Text(now), "run": m.All(now)} {
		if !strings.Contains(got, " 1 MiB/s") && !strings.Contains(got, "1024 KiB/s") {
			t.Errorf("the pace of the %s: %q", what, got)
		}
	}
	if n := max(len(m.pace.marks), len(m.Flows[0].pace.marks)); n > 310 {
		t.Errorf("%d marks are kept", n)
	}
}

// Many streams at once do not make a rate take more memory.
func TestPaceIsBounded(t *testing.T) {
	p := Tempo{}
	start := time.Now()
	for i := range 100000 {
		p.Add(start.Add(time.Duration(i)*time.Millisecond), 1000)
	}
	if got := p.Rate(start.Add(100 * time.Second)); got < 950e3 || got > 1050e3 {
		t.Errorf("%v bytes a second, want about a million", got)
	}
	if len(p.marks) > 310 {
		t.Errorf("%d marks are kept", len(p.marks))
	}
}
