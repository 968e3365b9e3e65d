package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// tapes is a source of streams of any bytes.
type tapes struct {
	size int64
	pace time.Duration // for each read
	// act, if set, makes the stream of the nth opening different.
	act func(n int, q store.Request, in io.Reader) (io.Reader, error)

	mu    sync.Mutex
	opens []store.Request
	open  int
	asked int64 // bytes that were read, of all
}

// bytesOf is what the stream of an edge has in it.
func (s *tapes) bytesOf(q store.Request) []byte {
	data := make([]byte, s.size)
	key := sha256.Sum256(append(q.Edge.To[:], q.Edge.From[:]...))
	_, _ = rand.NewChaCha8(key).Read(data)
	return data
}

func (s *tapes) Open(ctx context.Context, q store.Request) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens = append(s.opens, q)
	t := &tape{from: s, ctx: ctx, in: bytes.NewReader(s.bytesOf(q))}
	if s.act != nil {
		in, err := s.act(len(s.opens), q, t.in)
		if err != nil {
			return nil, err
		}
		t.in = in
	}
	s.open++
	return t, nil
}

type tape struct {
	from   *tapes
	ctx    context.Context
	in     io.Reader
	closed bool
}

func (t *tape) Length() snapshot.Size { return snapshot.ExactSize(t.from.size) }

func (t *tape) Read(p []byte) (int, error) {
	if t.from.pace > 0 && !sleep(t.ctx, t.from.pace) {
		return 0, context.Cause(t.ctx)
	}
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := t.in.Read(p)
	t.from.mu.Lock()
	defer t.from.mu.Unlock()
	t.from.asked += int64(n)
	return n, err
}

func (t *tape) Close() error {
	t.from.mu.Lock()
	defer t.from.mu.Unlock()
	if t.closed {
		return os.ErrClosed
	}
	t.closed = true
	t.from.open--
	return nil
}

// times is how often the stream of a request was opened.
func (s *tapes) times(q store.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, x := range s.opens {
		if keyOf(x) == keyOf(q) {
			n++
		}
	}
	return n
}

// hangs is a stream of which nothing comes any more.
type hangs struct{ ctx context.Context }

func (h hangs) Read([]byte) (int, error) {
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

// smallFan has chunks of 64 bytes, and eight of them in a window.
func smallFan(from store.Source) *Fan {
	f := NewFan(from)
	f.chunk, f.window, f.ahead = 64, 8, 2
	return f
}

func request(n uint64) store.Request {
	return store.Request{Edge: snapshot.Edge{To: storetest.IDOf("fan", n), From: storetest.IDOf("fan", n-1)}}
}

// consume reads a stream to its end, with a pause before each read.
func consume(t *testing.T, r store.Source, q store.Request, pause time.Duration) []byte {
	in, err := r.Open(t.Context(), q)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}()
	data, err := io.ReadAll(slowly{in, pause})
	if err != nil {
		t.Error(err)
	}
	return data
}

type slowly struct {
	io.Reader
	pause time.Duration
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.Reader.Read(p[:min(len(p), 32)])
}

// nothingLeft expects a fan whose runs are closed to hold nothing.
func (f *Fan) nothingLeft(t tester) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.runs) > 0 || len(f.shared) > 0 || f.used != 0 {
		t.Errorf("the fan still has %d runs, %d streams and %d chunks", len(f.runs), len(f.shared), f.used)
	}
	if s, ok := f.from.(*tapes); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open > 0 {
			t.Errorf("%d streams are open", s.open)
		}
	}
}

// party has some runs expect a request, and does something with each at the same
// time.
func (f *Fan) party(t *testing.T, n int, expect []store.Request, do func(i int, r *FanRun)) {
	var runs []*FanRun
	for range n {
		runs = append(runs, f.Run())
	}
	var all sync.WaitGroup
	for i, r := range runs {
		r.Expect(expect)
		all.Go(func() {
			defer r.Close()
			do(i, r)
		})
	}
	all.Wait()
	f.nothingLeft(t)
}

func TestFanReadsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tapes{size: 10_000, pace: time.Millisecond}
		want := []store.Request{request(1), request(2), request(3)}
		smallFan(s).party(t, 3, want, func(i int, r *FanRun) {
			time.Sleep(time.Duration(i) * 900 * time.Millisecond)
			for _, q := range want {
				if got := consume(t, r, q, time.Duration(i)*time.Microsecond); !bytes.Equal(got, s.bytesOf(q)) {
					t.Errorf("run %d got %d bytes, not those of the source", i, len(got))
				}
			}
		})
		if len(s.opens) != 3 {
			t.Errorf("the source was read %d times, want once for each of 3 streams", len(s.opens))
		}
	})
}

// Nobody waits who need not, or longer than two seconds, or twice for the same.
func TestFanWaits(t *testing.T) {
	q, other := request(1), request(9)
	for name, c := range map[string]struct {
		second func(t *testing.T, r *FanRun)
		want   []time.Duration
		opens  int
	}{
		"for nobody":            {func(_ *testing.T, r *FanRun) { r.Close() }, []time.Duration{0, 0}, 2},
		"for who wants another": {func(_ *testing.T, r *FanRun) { r.Expect([]store.Request{other}) }, []time.Duration{0, 0}, 2},
		"for who wants it":      {func(_ *testing.T, r *FanRun) { r.Expect([]store.Request{q}) }, []time.Duration{2 * time.Second, 0}, 2},
		"for who is yet to say": {func(*testing.T, *FanRun) {}, []time.Duration{2 * time.Second, 0}, 2},
		"until he wants it no more": {func(_ *testing.T, r *FanRun) {
			r.Expect([]store.Request{q})
			time.Sleep(500 * time.Millisecond)
			r.Expect(nil)
		}, []time.Duration{500 * time.Millisecond, 0}, 2},
		"until he goes": {func(_ *testing.T, r *FanRun) {
			time.Sleep(500 * time.Millisecond)
			r.Close()
		}, []time.Duration{500 * time.Millisecond, 0}, 2},
		"until he is busy": {func(t *testing.T, r *FanRun) {
			r.Expect([]store.Request{q, other})
			time.Sleep(time.Second)
			consume(t, r, other, 10*time.Second)
		}, []time.Duration{time.Second, 0}, 3},
		"until he comes": {func(t *testing.T, r *FanRun) {
			r.Expect([]store.Request{q})
			time.Sleep(time.Second)
			consume(t, r, q, 0)
		}, []time.Duration{time.Second, 0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &tapes{size: 300}
				f := smallFan(s)
				first, second := f.Run(), f.Run()
				first.Expect([]store.Request{q, q})
				var done sync.WaitGroup
				done.Go(func() { c.second(t, second) })
				synctest.Wait()
				for i, want := range c.want {
					begun := time.Now()
					consume(t, first, q, 0)
					if d := time.Since(begun); d != want {
						t.Errorf("opening number %d took %v, want %v", i+1, d, want)
					}
				}
				first.Close()
				done.Wait()
				second.Close()
				f.nothingLeft(t)
				if len(s.opens) != c.opens {
					t.Errorf("%d streams were opened, want %d", len(s.opens), c.opens)
				}
			})
		})
	}
}

// Who comes later joins while the start is there, and gets a stream of its own
// after that.
func TestFanLateComers(t *testing.T) {
	for name, c := range map[string]struct {
		size  int64
		read  int64 // by the first, before the second comes
		opens int
	}{
		"at the start":               {10_000, 0, 1},
		"in the window":              {10_000, 300, 1},
		"beyond it":                  {10_000, 2000, 2},
		"when a short one has ended": {400, 400, 1},
		"when a long one has ended":  {2000, 2000, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, q := &tapes{size: c.size}, request(1)
				f := smallFan(s)
				first, second := f.Run(), f.Run()
				first.Expect([]store.Request{q})
				second.Expect([]store.Request{q})
				in, err := first.Open(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				begin := make([]byte, c.read)
				if _, err := io.ReadFull(in, begin); err != nil {
					t.Fatal(err)
				}
				var rest []byte
				finish := func() {
					if rest, err = io.ReadAll(in); err != nil {
						t.Error(err)
					}
					if err := in.Close(); err != nil {
						t.Error(err)
					}
				}
				var done sync.WaitGroup
				if c.read == c.size {
					finish()
				} else {
					done.Go(func() { time.Sleep(time.Millisecond); finish() })
				}
				if got := consume(t, second, q, 0); !bytes.Equal(got, s.bytesOf(q)) {
					t.Error("the second got something else")
				}
				done.Wait()
				if !bytes.Equal(append(begin, rest...), s.bytesOf(q)) {
					t.Error("the first got something else")
				}
				if n := s.times(q); n != c.opens {
					t.Errorf("the stream was opened %d times, want %d", n, c.opens)
				}
				first.Close()
				second.Close()
				f.nothingLeft(t)
			})
		})
	}
}

// Streams that have ended are kept for those that are to ask for them, but no
// more than a window of them, the oldest first.
func TestFanKeepsShortOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tapes{size: 100} // 2 chunks
		var all []store.Request
		for n := range uint64(7) {
			all = append(all, request(n+1))
		}
		f := smallFan(s)
		first, second := f.Run(), f.Run()
		first.Expect(all)
		second.Expect(all)
		for _, q := range all {
			consume(t, first, q, 0)
		}
		first.Close()
		f.mu.Lock()
		kept := len(f.shared)
		f.mu.Unlock()
		if kept != 4 {
			t.Errorf("%d streams are kept, want 4", kept)
		}
		for _, q := range all {
			if got := consume(t, second, q, 0); !bytes.Equal(got, s.bytesOf(q)) {
				t.Error("the second got something else")
			}
		}
		if len(s.opens) != 7+3 {
			t.Errorf("%d streams were opened, want 10", len(s.opens))
		}
		second.Close()
		f.nothingLeft(t)
	})
}

// What the source has to say reaches all; and who asks again is not given the same
// again.
func TestFanErrors(t *testing.T) {
	errBad := store.MarkTemporary(errors.New("bad"))
	for name, act := range map[string]func(in io.Reader) (io.Reader, error){
		"opening": func(io.Reader) (io.Reader, error) { return nil, errBad },
		"reading": func(in io.Reader) (io.Reader, error) {
			return io.MultiReader(io.LimitReader(in, 1000), failing{errBad}), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, q := &tapes{size: 5_000}, request(1)
				s.act = func(n int, _ store.Request, in io.Reader) (io.Reader, error) {
					if n == 1 {
						return act(in)
					}
					return in, nil
				}
				smallFan(s).party(t, 3, []store.Request{q}, func(i int, r *FanRun) {
					in, err := r.Open(t.Context(), q)
					if err == nil {
						_, err = io.ReadAll(slowly{in, time.Millisecond})
						if err := in.Close(); err != nil {
							t.Error(err)
						}
					}
					if !errors.Is(err, errBad) || !store.Temporary(err) {
						t.Errorf("run %d: %v, want %v", i, err, errBad)
					}
					time.Sleep(time.Duration(i+1) * 500 * time.Millisecond)
					if got := consume(t, r, q, 0); !bytes.Equal(got, s.bytesOf(q)) {
						t.Errorf("run %d got something else at last", i)
					}
				})
				if len(s.opens) != 2 {
					t.Errorf("the stream was opened %d times, want 2", len(s.opens))
				}
			})
		})
	}
}

// The end of one run's context ends what that run does, at once, and nothing else:
// while it waits for others, for the source to open and to send, and for nothing.
func TestFanContexts(t *testing.T) {
	for name, c := range map[string]struct {
		act   func(ctx context.Context, in io.Reader) (io.Reader, error)
		alone bool
	}{
		"gathering": {act: func(_ context.Context, in io.Reader) (io.Reader, error) { return in, nil }, alone: true},
		"opening":   {act: func(ctx context.Context, _ io.Reader) (io.Reader, error) { <-ctx.Done(); return nil, ctx.Err() }},
		"waiting":   {act: func(ctx context.Context, _ io.Reader) (io.Reader, error) { return hangs{ctx}, nil }},
		"in the middle": {act: func(ctx context.Context, in io.Reader) (io.Reader, error) {
			return io.MultiReader(io.LimitReader(in, 100), hangs{ctx}), nil
		}},
		"with no others": {act: func(ctx context.Context, _ io.Reader) (io.Reader, error) { return hangs{ctx}, nil }, alone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				why := errors.New("enough")
				q := request(1)
				s := &opening{act: c.act}
				f := smallFan(s)
				var runs []*FanRun
				for range 2 {
					r := f.Run()
					r.Expect([]store.Request{q})
					runs = append(runs, r)
				}
				read := func(ctx context.Context, r *FanRun) error {
					in, err := r.Open(ctx, q)
					if err != nil {
						return err
					}
					defer in.Close()
					_, err = io.Copy(io.Discard, in)
					return err
				}
				var all sync.WaitGroup
				for i, r := range runs {
					if i == 1 && c.alone {
						break
					}
					all.Go(func() {
						ctx, end := context.WithCancelCause(t.Context())
						after := time.Second + time.Duration(i)*time.Hour
						time.AfterFunc(after, func() { end(why) })
						begun := time.Now()
						if err := read(ctx, r); !errors.Is(err, why) {
							t.Errorf("run %d: %v, want %v", i, err, why)
						}
						if d := time.Since(begun); d != after {
							t.Errorf("run %d ended after %v, want %v", i, d, after)
						}
					})
				}
				all.Wait()
				for _, r := range runs {
					r.Close()
				}
				f.nothingLeft(t)
			})
		})
	}
}

// opening is a source that does what act does.
type opening struct {
	act func(ctx context.Context, in io.Reader) (io.Reader, error)
}

func (o *opening) Open(ctx context.Context, _ store.Request) (io.ReadCloser, error) {
	in, err := o.act(ctx, bytes.NewReader(make([]byte, 5_000)))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(in), nil
}

// Who closes early touches nobody, and the last one ends the source's stream.
func TestFanClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := &tapes{size: 100_000}, request(1)
		smallFan(s).party(t, 3, []store.Request{q}, func(i int, r *FanRun) {
			in, err := r.Open(t.Context(), q)
			if err != nil {
				t.Error(err)
				return
			}
			if l, ok := in.(store.Lengthy); !ok || l.Length() != snapshot.ExactSize(100_000) {
				t.Error("it does not say how long it is")
			}
			if _, err := io.ReadFull(in, make([]byte, 1000*(i+1))); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := in.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after closing: %v", err)
			}
		})
		if s.asked > 10_000 {
			t.Errorf("%d bytes were read, of which 3000 were wanted", s.asked)
		}
	})
}

// Requests are the same whatever the order of their clone sources, and not without
// them.
func TestFanKeys(t *testing.T) {
	a, b := storetest.IDOf("x", 1), storetest.IDOf("x", 2)
	plain, both := request(1), request(1)
	both.Clones = []snapshot.ID{a, b}
	turned := both
	turned.Clones = slices.Clone(both.Clones)
	slices.Reverse(turned.Clones)
	if keyOf(both) != keyOf(turned) || keyOf(both) == keyOf(plain) || keyOf(plain) == keyOf(request(2)) {
		t.Error("requests are told apart wrongly")
	}
}
