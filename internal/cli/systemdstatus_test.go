package cli

import (
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/transfer"
)

func TestUnderway(t *testing.T) {
	var u underway
	at := time.Unix(1_800_000_000, 0)
	const mib = 1 << 20
	for i, c := range []struct {
		after       time.Duration
		destination string
		event       transfer.Event
		want        string
	}{
		{0, "/bk", transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 1, Path: "a", Expected: 4 * mib}, "/bk: a: 0 bytes of ~4 MiB (0%)"},
		{time.Second, "/bk", transfer.Event{Kind: transfer.Progress, Step: 1, Steps: 1, Path: "a", Bytes: mib, Expected: 4 * mib}, "/bk: a: 1 MiB of ~4 MiB (25%), 1 MiB/s"},
		{time.Second, "nas", transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 2, Path: "b"}, "/bk: a: 1 MiB of ~4 MiB (25%), 1 MiB/s; nas: 0 of 2 done, 0 bytes"},
		{2 * time.Second, "/bk", transfer.Event{Kind: transfer.Committed, Step: 1, Steps: 1, Path: "a", Bytes: 4 * mib}, "nas: 0 of 2 done, 0 bytes"},
		{2 * time.Second, "/bk", transfer.Event{Kind: transfer.Done, Steps: 1, Bytes: 4 * mib}, "nas: 0 of 2 done, 0 bytes"},
		{3 * time.Second, "nas", transfer.Event{Kind: transfer.Failed, Step: 1, Steps: 2, Path: "b"}, "nothing is being sent"},
		{3 * time.Second, "nas", transfer.Event{Kind: transfer.Done, Steps: 2}, "nothing is being sent"},
		{3 * time.Second, "never seen", transfer.Event{Kind: transfer.Done}, "nothing is being sent"},
		{4 * time.Second, "/bk", transfer.Event{Kind: transfer.StepBegun, Step: 1, Steps: 2, Path: "c"}, "/bk: 0 of 2 done, 0 bytes"},
	} {
		u.take(c.destination, c.event, at.Add(c.after), func(got string) {
			if got != c.want {
				t.Errorf("%d: %q, want %q", i, got, c.want)
			}
		})
	}
}
