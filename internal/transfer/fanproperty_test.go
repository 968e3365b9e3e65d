package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/store"
)

// fanRead is what one run does with one stream.
type fanRead struct {
	request uint64
	before  time.Duration // it pauses
	pause   time.Duration // before each read
	stop    int           // closes after so many bytes; 0 is never
	timeout time.Duration
	hang    int // stands still for an hour after so many bytes; 0 is never
}

// fanFault is what becomes of one opening of the source.
type fanFault struct {
	kind string
	at   int64
}

func drawRead(t *rapid.T) fanRead {
	pauses := rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 30 * time.Millisecond, 500 * time.Millisecond})
	x := fanRead{
		request: rapid.Uint64Range(1, 3).Draw(t, "request"),
		before:  rapid.SampledFrom([]time.Duration{0, 0, time.Second, 10 * time.Second}).Draw(t, "before"),
		pause:   pauses.Draw(t, "pause"),
		timeout: 1000 * time.Hour,
	}
	switch rapid.IntRange(0, 9).Draw(t, "whim") {
	case 0:
		x.stop = rapid.IntRange(1, 3000).Draw(t, "stop")
	case 1:
		x.timeout = time.Duration(rapid.IntRange(0, 20_000).Draw(t, "timeout")) * time.Millisecond
	case 2:
		x.hang = rapid.IntRange(1, 3000).Draw(t, "hang")
	}
	return x
}

var errSource = errors.New("the source is bad")

// TestFanWhateverHappens: any number of runs read streams of any length at any
// speed, stop, stand still and are cut off, while the source fails. Each gets what
// it would have got alone, or the reason why not; nobody waits long for others; and
// nothing is left.
func TestFanWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var plans [][]fanRead
		for range rapid.IntRange(1, 4).Draw(r, "runs") {
			plans = append(plans, rapid.SliceOfN(rapid.Custom(drawRead), 1, 4).Draw(r, "reads"))
		}
		tells := rapid.SliceOfN(rapid.Bool(), len(plans), len(plans)).Draw(r, "tells what it expects")
		s := &tapes{
			size: rapid.SampledFrom([]int64{0, 1, 63, 64, 500, 512, 4000}).Draw(r, "size"),
			pace: rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond}).Draw(r, "pace"),
		}
		faults := map[int]fanFault{}
		for range rapid.IntRange(0, 2).Draw(r, "faults") {
			faults[rapid.IntRange(1, 10).Draw(r, "opening")] = fanFault{
				rapid.SampledFrom([]string{"open", "read", "other", "short"}).Draw(r, "fault"), rapid.Int64Range(0, s.size).Draw(r, "at"),
			}
		}
		s.act = func(n int, _ store.Request, in io.Reader) (io.Reader, error) {
			f, ok := faults[n]
			switch {
			case !ok:
				return in, nil
			case f.kind == "open":
				return nil, errSource
			case f.kind == "read":
				return io.MultiReader(io.LimitReader(in, f.at), failing{errSource}), nil
			case f.kind == "short":
				return io.LimitReader(in, f.at), nil
			}
			return io.MultiReader(io.LimitReader(in, f.at), bytes.NewReader([]byte{'!'}), in), nil
		}
		altered := false // the bytes of some stream
		for _, f := range faults {
			altered = altered || f.kind == "other" || f.kind == "short"
		}
		complaints := bubble(t, func(t tester) {
			f := smallFan(s)
			var mu sync.Mutex
			var all sync.WaitGroup
			complain := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				t.Errorf(format, args...)
			}
			var runs []*FanRun
			for i, reads := range plans {
				run := f.Run()
				runs = append(runs, run)
				if tells[i] {
					var want []store.Request
					for _, x := range reads {
						want = append(want, request(x.request))
					}
					run.Expect(want)
				}
			}
			for i, reads := range plans {
				all.Go(func() {
					defer runs[i].Close()
					for n, x := range reads {
						if err := x.carryOut(runs[i], s, altered, len(plans)); err != nil {
							complain("run %d, stream %d: %v", i, n, err)
						}
					}
				})
			}
			all.Wait()
			f.nothingLeft(t)
		})
		for _, c := range complaints {
			r.Error(c)
		}
	})
}

func (x fanRead) carryOut(run *FanRun, s *tapes, altered bool, runs int) error {
	time.Sleep(x.before)
	ctx, stop := context.WithTimeout(context.Background(), x.timeout)
	defer stop()
	begun, idle := time.Now(), time.Duration(0)
	q := request(x.request)
	var got []byte
	err := func() error {
		in, err := run.Open(ctx, q)
		if err != nil {
			return err
		}
		defer in.Close()
		for part := make([]byte, 48); x.stop == 0 || len(got) < x.stop; {
			before := time.Now()
			time.Sleep(x.pause)
			if x.hang > 0 && len(got) >= x.hang {
				x.hang = 0
				time.Sleep(time.Hour)
			}
			idle += time.Since(before)
			n, err := in.Read(part)
			got = append(got, part[:n]...)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return io.ErrShortWrite // it stopped by itself
	}()
	want := s.bytesOf(q)
	switch {
	case err == nil && !altered && !bytes.Equal(got, want):
		return fmt.Errorf("it got %d bytes, which are not those of the source", len(got))
	case !altered && !bytes.HasPrefix(want, got):
		return fmt.Errorf("it got %d bytes, which are not the first of the source, before %w", len(got), err)
	case errors.Is(err, store.ErrAnother) && !altered, err != nil && !errors.Is(err, store.ErrAnother) &&
		!errors.Is(err, errSource) && !errors.Is(err, io.ErrShortWrite) && !errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("its time has not ended: %w", err)
	}
	// What the source takes for a stream, and the twentieth, for each stream that it
	// may be led to; what is waited for others at the start; and for those that are
	// behind.
	alone := s.pace*time.Duration(s.size/32+10) + idle
	if took, most := time.Since(begun), (alone+alone/10+4*time.Second)*time.Duration(runs); took > most {
		return fmt.Errorf("it took %v, of which %v are its own doing", took, idle)
	}
	return nil
}

// The same on the machine's own clock, for the race detector.
func TestFanRaces(t *testing.T) {
	s := &tapes{size: 100_000}
	var all []store.Request
	for n := range uint64(20) {
		all = append(all, request(n+1))
	}
	smallFan(s).party(t, 4, all, func(i int, r *FanRun) {
		var side sync.WaitGroup
		defer side.Wait()
		for n, q := range all {
			ctx, stop := context.WithCancel(t.Context())
			in, err := r.Open(ctx, q)
			if err != nil {
				t.Error(err)
				stop()
				continue
			}
			switch (n + i) % 5 {
			case 0: // ends while it reads
				side.Go(stop)
			case 1:
				side.Go(func() { _ = in.Close() })
			}
			got, err := io.ReadAll(in)
			if (n+i)%5 > 1 && err != nil || !bytes.HasPrefix(s.bytesOf(q), got) {
				t.Errorf("run %d, stream %d: %d bytes, %v", i, n, len(got), err)
			}
			side.Go(func() { r.Expect(all[n:]) })
			_ = in.Close()
			stop()
		}
	})
}
