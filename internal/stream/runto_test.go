package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A run ends at the place that was asked for, where a command ends there, and
// else behind the command that goes past it; nothing is lost in between.
func TestNextRunTo(t *testing.T) {
	for name, data := range corpus(t) {
		var ends []int64
		one := NewReader(bytes.NewReader(data))
		for {
			if _, err := one.Next(); err != nil {
				break
			}
			ends = append(ends, one.Mark().Offset)
		}
		if len(ends) == 0 {
			continue
		}
		for range 20 {
			limit := rand.Int64N(ends[len(ends)-1]) + 1
			i := 0
			for ends[i] < limit {
				i++
			}
			r := NewReader(&slow{data: data, rng: rand.New(rand.NewPCG(3, 4))})
			var got []byte
			for r.Stats().Bytes < limit {
				run, err := r.NextRunTo(limit)
				if err != nil {
					t.Fatalf("%s: to %d: %v", name, limit, err)
				}
				got = append(got, run...)
			}
			if m := r.Mark(); m.Offset != ends[i] || m.Commands != int64(i+1) {
				t.Fatalf("%s: reading to %d came to %+v, want %d after %d commands", name, limit, m, ends[i], i+1)
			}
			for {
				run, err := r.NextRun()
				if err != nil {
					break
				}
				got = append(got, run...)
			}
			if want := data[:ends[len(ends)-1]]; !bytes.Equal(got, want) {
				t.Fatalf("%s: to %d: %d bytes in all, want %d", name, limit, len(got), len(want))
			}
		}
	}
}
