package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

func TestVerifyView(t *testing.T) {
	env, stdout, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if err := env.startLog(0, ""); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	env.Now = func() time.Time { return now }
	v := newVerifyView(env, false)
	edge := snapshot.Edge{To: snapshot.ID{1}}
	v.progress(0, 100<<20)
	v.found(store.Finding{Verdict: store.Sound, Edge: edge, Path: "a", Object: "a/1_None"})
	v.found(store.Finding{Verdict: store.Damaged, Edge: edge, Path: "b", Object: "b\x1b[2J/1_None", Why: "it is\ncut"})
	now = now.Add(plainEvery)
	v.progress(60<<20, 100<<20)
	v.found(store.Finding{Verdict: store.Unchecked, Edge: edge, Path: "b", Why: "no key"})
	v.close()
	r := &store.Verification{
		Streams:   map[store.Verdict]int{store.Sound: 1, store.Damaged: 1},
		Snapshots: map[store.Verdict]int{store.Unchecked: 1},
		Read:      1536, ReadWhole: 1, Described: 1, Undescribed: 2,
	}
	err := explainVerification(r)
	v.result(r, true, err)
	want := `damaged    b\x1b[2J/1_None: it is\ncut
unchecked  snapshot b: no key
2 streams: 1 sound, 1 damaged
1 snapshot: 1 unchecked
read 1.5 KiB, 1 stream from the first byte to the last
1 stream that had no description has got one
2 streams have no description: only what is in it speaks for each
`
	if diff := cmp.Diff(want, stdout.String()); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("  Read 60 MiB of 100 MiB (60%), 1 MiB/s, 0:00:40 left; 1 not sound\n", stderr.String()); diff != "" {
		t.Errorf("standard error (-want +got):\n%s", diff)
	}
	if got := v.rows(60); len(got) != 1 || columns(got[0]) > 60 || !strings.HasPrefix(got[0], "Read 60 MiB of 100 MiB (60%)") {
		t.Errorf("row: %q", got)
	}
}

func TestExplainVerification(t *testing.T) {
	counts := func(sound, damaged, unchecked int) map[store.Verdict]int {
		return map[store.Verdict]int{store.Sound: sound, store.Damaged: damaged, store.Unchecked: unchecked}
	}
	for _, tt := range []struct {
		streams, snapshots map[store.Verdict]int
		code               int
		text               string
	}{
		{counts(3, 0, 0), counts(2, 0, 0), exitDone, ""},
		{counts(3, 1, 0), counts(2, 0, 0), exitFailed, "damaged: 1 stream"},
		{counts(3, 0, 0), counts(2, 1, 0), exitFailed, "damaged: 1 snapshot"},
		{counts(3, 1, 1), counts(2, 2, 1), exitFailed, "damaged: 1 stream, 2 snapshots"},
		{counts(3, 0, 1), counts(2, 0, 0), exitPartly, "could not be checked: 1 stream"},
		{counts(3, 0, 0), counts(2, 0, 2), exitPartly, "could not be checked: 2 snapshots"},
	} {
		err := explainVerification(&store.Verification{Streams: tt.streams, Snapshots: tt.snapshots})
		if code := judge(err).code; code != tt.code || err != nil && err.Error() != tt.text {
			t.Errorf("%v %v: %d %v, want %d %q", tt.streams, tt.snapshots, code, err, tt.code, tt.text)
		}
	}
}

// What an interrupted upload has left is part of what is said: otherwise a step
// that takes a second would look like a mistake.
func TestSkippedIsTold(t *testing.T) {
	env, _, stderr := testEnv(t, "buttersink")
	env.console = &console{w: stderr}
	if err := env.startLog(0, ""); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	env.Now = func() time.Time { return now }
	p := env.newProgress(false)
	defer p.close()
	e := transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 1, Path: "a"}
	p.event(e)
	now = now.Add(plainEvery)
	e.Kind, e.Bytes, e.Skipped = transfer.Progress, 120<<20, 100<<20
	p.event(e)
	e.Kind = transfer.Committed
	p.event(e)
	want := "  a: 120 MiB, 2 MiB/s; 100 MiB of it were there already\n  a: 120 MiB in 0:01:00, 2 MiB/s; 100 MiB of it were there already\n"
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
