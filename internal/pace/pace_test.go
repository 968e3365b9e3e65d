package pace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// steps is a reader and writer that notes how much went through at once.
type steps struct{ sizes []int }

func (s *steps) Write(p []byte) (int, error) {
	s.sizes = append(s.sizes, len(p))
	return len(p), nil
}

func (s *steps) Read(p []byte) (int, error) {
	s.sizes = append(s.sizes, len(p))
	return len(p), nil
}

func TestNone(t *testing.T) {
	var buf bytes.Buffer
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, rate := range []int64{0, -1} {
		limit := New(rate)
		if limit.Reader(t.Context(), &buf) != io.Reader(&buf) || limit.Writer(t.Context(), &buf) != io.Writer(&buf) || limit.Conn(a) != a {
			t.Errorf("a rate of %d changes something", rate)
		}
		if limit.Rate() != 0 {
			t.Errorf("a rate of %d is %d", rate, limit.Rate())
		}
	}
}

// TestRate sends and receives side by side, and looks at how long it takes.
func TestRate(t *testing.T) {
	for _, rate := range []int64{1, 7, 1000, 100 << 10, 20 << 20, 3 << 30} {
		synctest.Test(t, func(t *testing.T) {
			limit := New(rate)
			if limit.Rate() != rate {
				t.Errorf("a rate of %d is %d", rate, limit.Rate())
			}
			var wrote, read steps
			amount := int(min(rate*10, 64<<20))
			start := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() {
				if n, err := limit.Writer(t.Context(), &wrote).Write(make([]byte, amount)); n != amount || err != nil {
					t.Errorf("wrote %d of %d: %v", n, amount, err)
				}
			})
			wg.Go(func() {
				if n, err := io.ReadFull(limit.Reader(t.Context(), &read), make([]byte, amount)); n != amount || err != nil {
					t.Errorf("read %d of %d: %v", n, amount, err)
				}
			})
			wg.Wait()
			ideal := time.Duration(float64(2*amount) / float64(rate) * float64(time.Second))
			took, head := time.Since(start), ideal/50+time.Second/time.Duration(min(rate, 10))
			if took > ideal+head || took < ideal-head {
				t.Errorf("at %d bytes a second, 2 × %d bytes took %s, want %s", rate, amount, took, ideal)
			}
			for _, n := range append(wrote.sizes, read.sizes...) {
				if n > largest || int64(n) > max(rate/10, 1) {
					t.Fatalf("at %d bytes a second, %d went through at once", rate, n)
				}
			}
		})
	}
}

// TestWaitEnds checks that nobody waits on after the end of a context, or of a
// connection.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := New(10)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel(why)
		}()
		if n, err := limit.Writer(ctx, io.Discard).Write(make([]byte, 1000)); !errors.Is(err, why) || n == 0 || n > 20 {
			t.Errorf("wrote %d: %v", n, err)
		}
		if _, err := io.ReadAll(limit.Reader(ctx, &steps{})); !errors.Is(err, why) {
			t.Errorf("read: %v", err)
		}
		soon, cancelSoon := context.WithTimeout(t.Context(), time.Second)
		defer cancelSoon()
		if _, err := limit.Writer(soon, io.Discard).Write(make([]byte, 1000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wrote with a deadline: %v", err)
		}

		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		conn := New(10).Conn(a)
		go func() {
			time.Sleep(1050 * time.Millisecond) // between two bytes
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := conn.Write(make([]byte, 1000)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("wrote to a closed connection: %v", err)
		}
		b.Close()
	})
}

// failing is a writer and reader that gets so far.
type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	if f.left -= n; n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (f *failing) Read(p []byte) (int, error) { return f.Write(p) }

// TestErrors checks that what fails below says so, and how far it got.
func TestErrors(t *testing.T) {
	limit := New(100 << 20)
	if n, err := limit.Writer(t.Context(), &failing{1000}).Write(make([]byte, 2000)); n != 1000 || !errors.Is(err, errFull) {
		t.Errorf("wrote %d: %v", n, err)
	}
	if got, err := io.ReadAll(limit.Reader(t.Context(), &failing{1000})); len(got) != 1000 || !errors.Is(err, errFull) {
		t.Errorf("read %d: %v", len(got), err)
	}
}
