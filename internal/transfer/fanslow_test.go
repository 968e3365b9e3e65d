package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

// Who cannot keep up goes on alone, and hardly holds up who can: not while it is
// only slow, and not when it stands still.
func TestFanSlowOnes(t *testing.T) {
	const reads = 1_000
	for name, c := range map[string]struct {
		pauses []time.Duration // of each run, at each of its reads
		opens  int
		most   time.Duration // for the first
	}{
		"all equal":         {[]time.Duration{time.Second, time.Second, time.Second}, 1, reads * time.Second},
		"a little slower":   {[]time.Duration{time.Second, 1030 * time.Millisecond}, 1, reads * 1030 * time.Millisecond},
		"slower":            {[]time.Duration{time.Second, 3 * time.Second}, 2, reads*time.Second*20/19 + 3*time.Second},
		"two slower alike":  {[]time.Duration{time.Second, 3 * time.Second, 3 * time.Second}, 2, reads*time.Second*20/19 + 3*time.Second},
		"each slower":       {[]time.Duration{time.Second, 4 * time.Second, 16 * time.Second}, 3, reads*time.Second*20/19 + 4*time.Second},
		"one stands still":  {[]time.Duration{time.Millisecond, 100 * time.Hour}, 2, 5 * time.Second},
		"both much slower":  {[]time.Duration{time.Millisecond, time.Second, time.Second}, 2, 5 * time.Second},
		"the last is first": {[]time.Duration{time.Second, 10 * time.Millisecond}, 2, reads*time.Second + 4*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, q := &tapes{size: 32 * (reads - 1)}, request(1)
				smallFan(s).party(t, len(c.pauses), []store.Request{q}, func(i int, r *FanRun) {
					begun := time.Now()
					if got := consume(t, r, q, c.pauses[i]); !bytes.Equal(got, s.bytesOf(q)) {
						t.Errorf("run %d got %d bytes, not those of the source", i, len(got))
					}
					if d := time.Since(begun); i == 0 && d > c.most {
						t.Errorf("it took %v, want no more than %v", d, c.most)
					}
				})
				if len(s.opens) != c.opens {
					t.Errorf("the source was read %d times, want %d", len(s.opens), c.opens)
				}
			})
		})
	}
}

// Who has read along for long, and stands still, has more time than at first, but
// not in proportion; and who joins late does not wait for longer because of what
// was before.
func TestFanStandsStill(t *testing.T) {
	for name, c := range map[string]struct {
		pause       time.Duration // of both, at each read
		first       int           // the other stands still after so many
		joins       time.Duration
		least, most time.Duration // that the first loses
	}{
		"at the start":      {0, 0, 0, time.Second, 1100 * time.Millisecond},
		"after 100 seconds": {time.Second, 100, 0, 6 * time.Second, 8 * time.Second},
		"after 900 seconds": {time.Second, 900, 0, 10 * time.Second, 11 * time.Second},
		"before it joins":   {0, 1, 10 * time.Hour, time.Second, 1100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, q := &tapes{size: 32_000}, request(1)
				ctx, stop := context.WithCancel(t.Context())
				smallFan(s).party(t, 2, []store.Request{q}, func(i int, r *FanRun) {
					reads := c.first
					if i == 0 {
						time.Sleep(c.joins)
						reads = 1000
					}
					in, err := r.Open(ctx, q)
					if err != nil {
						t.Error(err)
						return
					}
					defer in.Close()
					begun := time.Now()
					for range reads {
						time.Sleep(c.pause)
						if _, err := io.ReadFull(in, make([]byte, 32)); err != nil {
							t.Error(err)
						}
					}
					if i == 1 {
						<-ctx.Done()
						return
					}
					if lost := time.Since(begun) - time.Duration(reads)*c.pause; lost < c.least || lost > c.most {
						t.Errorf("it lost %v, want %v to %v", lost, c.least, c.most)
					}
					stop()
				})
			})
		})
	}
}

// Who stands still holds no more of a stream that has ended than what it has to read.
func TestFanForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := &tapes{size: 5_000}, request(1)
		over := make(chan struct{})
		smallFan(s).party(t, 2, []store.Request{q}, func(i int, r *FanRun) {
			if i == 0 {
				defer close(over)
				consume(t, r, q, 0)
				return
			}
			in, err := r.Open(t.Context(), q)
			if err != nil {
				t.Error(err)
				return
			}
			defer in.Close()
			_, err = io.ReadFull(in, make([]byte, 10))
			<-over
			synctest.Wait()
			still := in.(*fanReader)
			r.fan.mu.Lock()
			if n := len(still.in.chunks); err != nil || still.next == nil || n > 0 {
				t.Errorf("it was cut loose: %v; and holds on to %d chunks (%v)", still.next != nil, n, err)
			}
			r.fan.mu.Unlock()
			if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, s.bytesOf(q)[10:]) {
				t.Errorf("it got %d bytes more, %v", len(rest), err)
			}
		})
	})
}

// A stream that is opened anew has to begin as the one before.
func TestFanAnother(t *testing.T) {
	errGone := errors.New("gone")
	for name, c := range map[string]struct {
		act  func(q store.Request, in io.Reader) (io.Reader, error)
		want error
	}{
		"other bytes": {func(_ store.Request, in io.Reader) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader([]byte{1}), in), nil
		}, store.ErrAnother},
		"a shorter one": {func(_ store.Request, in io.Reader) (io.Reader, error) { return io.LimitReader(in, 50), nil }, store.ErrAnother},
		"it breaks off": {func(_ store.Request, in io.Reader) (io.Reader, error) {
			return io.MultiReader(io.LimitReader(in, 50), failing{errGone}), nil
		}, errGone},
		"it is not opened": {func(store.Request, io.Reader) (io.Reader, error) { return nil, errGone }, errGone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, q := &tapes{size: 5_000}, request(1)
				s.act = func(n int, q store.Request, in io.Reader) (io.Reader, error) {
					if n == 1 {
						return in, nil
					}
					return c.act(q, in)
				}
				smallFan(s).party(t, 2, []store.Request{q}, func(i int, r *FanRun) {
					if i == 0 {
						if got := consume(t, r, q, 0); !bytes.Equal(got, s.bytesOf(q)) {
							t.Error("the first got something else")
						}
						return
					}
					in, err := r.Open(t.Context(), q)
					if err != nil {
						t.Error(err)
						return
					}
					defer in.Close()
					got, err := io.ReadAll(slowly{in, time.Minute})
					if !errors.Is(err, c.want) {
						t.Errorf("%v, want %v", err, c.want)
					}
					if !bytes.HasPrefix(s.bytesOf(q), got) {
						t.Error("what it got before is something else")
					}
					t.Log(err)
				})
			})
		})
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// However many streams are on their way, and however far some are behind, the
// windows are bounded; and what stands still when they are used up still holds up
// nobody for long.
func TestFanMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 20
		s := &tapes{size: 100_000}
		var all []store.Request
		for n := range uint64(streams) {
			all = append(all, request(n+1))
		}
		f := NewFan(s)
		f.chunk, f.window, f.ahead = 64, 40, 2
		ctx, stop := context.WithCancel(t.Context())
		most := 0
		f.party(t, 2, all, func(i int, r *FanRun) {
			var side sync.WaitGroup
			for n, q := range all {
				side.Go(func() {
					in, err := r.Open(ctx, q)
					if err != nil {
						t.Error(err)
						return
					}
					defer in.Close()
					if i == 1 {
						<-ctx.Done()
						return
					}
					time.Sleep(time.Duration(n) * 10 * time.Millisecond)
					for part := make([]byte, 50); err == nil; {
						time.Sleep(time.Millisecond)
						_, err = in.Read(part)
						f.mu.Lock()
						most = max(most, f.used)
						f.mu.Unlock()
					}
					if err != io.EOF {
						t.Error(err)
					}
				})
			}
			if i == 0 {
				begun := time.Now()
				side.Wait()
				if d := time.Since(begun); d > 8*time.Second {
					t.Errorf("it took %v", d)
				}
				stop()
			}
			side.Wait()
		})
		if limit := fanWindows*f.window + streams*fanLeast; most > limit || most < fanWindows*f.window {
			t.Errorf("%d chunks were in use, want %d at most", most, limit)
		}
	})
}

// Who is cut loose while it compares has given nothing of that stream, and goes on
// comparing with the next.
func TestFanCutWhileComparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := &tapes{size: 4000}, request(1)
		got := make([]byte, 700)
		smallFan(s).party(t, 2, []store.Request{q}, func(i int, run *FanRun) {
			in, err := run.Open(t.Context(), q)
			if err != nil {
				t.Error(err)
				return
			}
			defer in.Close()
			for at := 0; at < len(got); at += 50 { // both, at the same time
				time.Sleep(time.Millisecond)
				if _, err := io.ReadFull(in, make([]byte, 50)); err != nil {
					t.Error(err)
				}
			}
			if i == 1 {
				time.Sleep(time.Second)
				return
			}
			r, f := in.(*fanReader), run.fan
			next := func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				r.in.readers = slices.DeleteFunc(r.in.readers, func(x *fanReader) bool { return x == r })
				r.cutLoose(f.share(t.Context(), q))
			}
			next()
			f.mu.Lock()
			rest := r.rest
			r.rest = nil
			r.follow()
			old := r.in
			data := r.wait()
			r.use(len(data), func() { r.sum.Write(data) })
			f.mu.Unlock()
			next()
			f.mu.Lock()
			old.retire()
			f.mu.Unlock()
			more, err := io.ReadAll(in)
			if want := s.bytesOf(q)[len(got):]; err != nil || !bytes.Equal(append(rest, more...), want) {
				t.Errorf("%d and %d bytes, %v, want %d", len(rest), len(more), err, len(want))
			}
		})
	})
}
