package wire

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestBusySideIsAlive has a server that is busy for a day without a word.
func TestBusySideIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := plain(t, Options{})
		n.serve(t, func(k *Call, _ []byte) {
			time.Sleep(24 * time.Hour)
			_ = k.End([]byte("done"))
		})
		k, err := n.cl.Call(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Receive(t.Context()); err != nil || string(got) != "done" {
			t.Errorf("%q: %v", got, err)
		}
		n.end()
		time.Sleep(time.Minute)
	})
}

// TestFrozenReaderIsAlive has a side that does not read its call while the window
// is full.
func TestFrozenReaderIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := plain(t, Options{})
		n.serve(t, func(k *Call, _ []byte) {
			time.Sleep(24 * time.Hour)
			got, err := io.Copy(io.Discard, k)
			if err != nil || got != 2<<20 {
				t.Errorf("read %d bytes: %v", got, err)
			}
			_ = k.End(nil)
		})
		k, err := n.cl.Call(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Write(make([]byte, 2<<20)); err != nil {
			t.Error(err)
		}
		if err := k.End(nil); err != nil {
			t.Error(err)
		}
		if _, err := k.Receive(t.Context()); err != io.EOF {
			t.Error(err)
		}
		n.end()
		time.Sleep(time.Minute)
	})
}

// TestSilence has a network that swallows everything, in one direction or in both:
// both sides end, and say for how long they have heard nothing.
func TestSilence(t *testing.T) {
	for name, c := range map[string]struct {
		up, down  bool
		heartbeat time.Duration
	}{
		"both": {true, true, time.Second}, "up": {true, false, time.Second}, "down": {false, true, time.Second},
		"both, seldom asked": {true, true, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Heartbeat: c.heartbeat, Silence: 5 * time.Second}
				up, down := newWay(1<<20), newWay(1<<20)
				n := newNetwork(t, up, down, o, o)
				answered := make(chan error, 1)
				n.serve(t, func(k *Call, _ []byte) {
					_, err := k.Receive(k.Context())
					answered <- err
					k.Cancel()
				})
				k, err := n.cl.Call(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if err := n.cl.Err(); err != nil {
					t.Fatalf("ended while there was nothing wrong: %v", err)
				}
				for _, w := range []*way{up, down} {
					if w == up && c.up || w == down && c.down {
						w.mu.Lock()
						w.swallow = true
						w.mu.Unlock()
					}
				}
				start := time.Now()
				_, err = k.Receive(t.Context())
				atServer := <-answered
				lost := 0
				for _, err := range []error{err, atServer} {
					if e, ok := errors.AsType[*SilenceError](err); ok {
						lost++
						if e.For < o.Silence || e.For > o.Silence+10*time.Millisecond {
							t.Errorf("it says that it heard nothing for %s", e.For)
						}
					}
				}
				if lost == 0 || c.up == c.down && lost != 2 {
					t.Errorf("the client got %v, the server %v", err, atServer)
				}
				if took := time.Since(start); took > 2*(o.Silence+o.Heartbeat) {
					t.Errorf("that took %s", took)
				}
				n.end()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestSlowFrameIsAlive has a network on which one frame takes longer than a
// silence may.
func TestSlowFrameIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := newWay(1<<10), newWay(1<<10)
		up.delay = 2 * time.Second // for each KiB
		n := newNetwork(t, up, down, Options{}, Options{})
		n.serve(t, func(k *Call, _ []byte) {
			got, err := io.Copy(io.Discard, k)
			if err != nil || got != MaxData {
				t.Errorf("read %d bytes: %v", got, err)
			}
			_ = k.End([]byte("done"))
		})
		k, err := n.cl.Call(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Write(make([]byte, MaxData)); err != nil {
			t.Error(err)
		}
		if err := k.End(nil); err != nil {
			t.Error(err)
		}
		if got, err := k.Receive(t.Context()); err != nil || string(got) != "done" {
			t.Errorf("%q: %v", got, err)
		}
		n.end()
		time.Sleep(time.Minute)
	})
}
