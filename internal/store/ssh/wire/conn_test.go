package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMaxCalls has a client wait for a call to be over, and for as long as its
// context.
func TestMaxCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := plain(t, Options{MaxCalls: 2})
		n.serve(t, func(k *Call, request []byte) {
			<-k.Context().Done()
			k.Cancel()
		})
		var open []*Call
		for range 2 {
			k, err := n.cl.Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, k)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := n.cl.Call(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third call of two: %v", err)
		}
		// As many as one likes, one after the other, while the server is slow to notice.
		for range 100 {
			open[0].Cancel()
			k, err := n.cl.Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			open[0] = k
		}
		n.end()
		if _, err := n.cl.Call(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a call after the end: %v", err)
		}
		time.Sleep(time.Minute)
	})
}

// TestBounds refuses what is too long, and what does not belong to a side.
func TestBounds(t *testing.T) {
	n := plain(t, Options{})
	n.serve(t, func(k *Call, request []byte) { _ = k.End(request) })
	largest := bytes.Repeat([]byte("x"), MaxRequest)
	k, err := n.cl.Call(t.Context(), largest)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Send(t.Context(), make([]byte, MaxMessage+1)); err == nil {
		t.Error("a message that is too long is sent")
	}
	if err := k.End(make([]byte, MaxRequest+1)); err == nil {
		t.Error("an end that is too long is sent")
	}
	if got, err := k.Receive(t.Context()); err != nil || !bytes.Equal(got, largest) {
		t.Errorf("the largest request comes back as %d bytes: %v", len(got), err)
	}
	if _, err := n.cl.Call(t.Context(), make([]byte, MaxRequest+1)); err == nil {
		t.Error("a request that is too long is sent")
	}
	if _, err := n.sv.Call(t.Context(), nil); err == nil {
		t.Error("a server makes a call")
	}
	if _, err := k.Write([]byte("x")); !errors.Is(err, ErrEnded) {
		t.Errorf("writing to an ended call: %v", err)
	}
	k.Cancel() // does nothing
	if n, err := k.Read(nil); n != 0 || err != nil {
		t.Errorf("reading nothing: %d, %v", n, err)
	}
}

// TestCloseSendsWhatWasEnded closes a server right behind its answers: they arrive,
// and a call that it has not ended is lost.
func TestCloseSendsWhatWasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := plain(t, Options{})
		var calls []*Call
		for range 10 {
			k, err := n.cl.Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, k)
		}
		want := content(1, 200<<10)
		for i := range calls {
			k, _, err := n.sv.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if i < 9 {
				if _, err := k.Write(want); err != nil {
					t.Fatal(err)
				}
				if err := k.End([]byte("done")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := n.sv.Close(); err != nil {
			t.Error(err)
		}
		<-n.cl.Done()
		if err := n.cl.Err(); !errors.Is(err, ErrHungUp) {
			t.Errorf("the connection ended with %v", err)
		}
		for _, k := range calls[:9] {
			got, err := io.ReadAll(k)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes: %v", len(got), err)
			}
			if got, err := k.Receive(t.Context()); err != nil || string(got) != "done" {
				t.Errorf("%q: %v", got, err)
			}
		}
		if _, err := calls[9].Receive(t.Context()); !errors.Is(err, ErrHungUp) {
			t.Errorf("the call that was not ended: %v", err)
		}
		if calls[9].Context().Err() == nil {
			t.Error("the context of a lost call goes on")
		}
		n.end()
		time.Sleep(time.Minute)
	})
}

// TestCloseOfFullWay closes a side of which nothing gets out any more.
func TestCloseOfFullWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := newWay(100), newWay(100)
		conn := NewClient(down, up, Options{})
		k, err := conn.Call(t.Context(), make([]byte, 1000))
		if err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() {
			_, err := k.Write(make([]byte, 10<<20))
			wrote <- err
		}()
		synctest.Wait()
		start := time.Now()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != farewell {
			t.Errorf("it took %s", took)
		}
		if err := <-wrote; !errors.Is(err, ErrClosed) {
			t.Errorf("writing: %v", err)
		}
		_ = up.Close()
		_ = down.Close()
		synctest.Wait()
	})
}

// TestGoodbyeSaysWhy shows the reason of the other side, and nothing in it that a
// terminal would obey.
func TestGoodbyeSaysWhy(t *testing.T) {
	conn := NewClient(bytes.NewReader(raw(typeGoodbye, 0, 0, []byte("no \x1b[2Jmore\n\xff"))), io.Discard, Options{})
	<-conn.Done()
	if err := conn.Err(); !errors.Is(err, ErrHungUp) || !strings.HasSuffix(err.Error(), ": no  [2Jmore ?") {
		t.Errorf("got %q", err)
	}
	<-conn.gone
}

// TestTurns has calls that send as much as they can, and one small call: it does
// not wait for more than a frame or two of each.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const big = 8
		up, down := newWay(64<<10), newWay(64<<10)
		up.delay = time.Millisecond // for each 32 KiB, since that is what is read at once
		n := newNetwork(t, up, down, Options{}, Options{})
		n.serve(t, func(k *Call, request []byte) {
			if string(request) == "small" {
				_ = k.End([]byte("answer"))
				return
			}
			_, _ = io.Copy(io.Discard, k)
			k.Cancel()
		})
		for range big {
			k, err := n.cl.Call(t.Context(), []byte("big"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := k.Write(make([]byte, MaxData)); err != nil {
						return
					}
				}
			}()
		}
		time.Sleep(time.Second)
		before := n.cl.Stats().WireOut
		k, err := n.cl.Call(t.Context(), []byte("small"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Receive(t.Context()); err != nil || string(got) != "answer" {
			t.Fatalf("%q: %v", got, err)
		}
		if between := n.cl.Stats().WireOut - before; between > (big+3)*MaxData {
			t.Errorf("%d bytes went before the answer", between)
		}
		n.end()
		time.Sleep(time.Minute)
	})
}

// TestWindowGrows has a reader keep up on a long way, and one that does not read
// at all: the one gets the whole window, the other the first.
func TestWindowGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := plain(t, Options{})
		release := make(chan struct{})
		n.serve(t, func(k *Call, request []byte) {
			if string(request) == "read" {
				_, _ = io.CopyN(io.Discard, k, 16<<20)
			}
			<-release
			k.Cancel()
		})
		sent := map[string]int{}
		for _, what := range []string{"read", "idle"} {
			k, err := n.cl.Call(t.Context(), []byte(what))
			if err != nil {
				t.Fatal(err)
			}
			before := n.cl.Stats().PlainOut
			go func() {
				for {
					if _, err := k.Write(make([]byte, 4<<10)); err != nil {
						return
					}
				}
			}()
			synctest.Wait()
			sent[what] = int(n.cl.Stats().PlainOut - before)
		}
		if got := sent["idle"]; got > firstWindow || got < firstWindow-piece-frameCost {
			t.Errorf("%d bytes went to where nobody reads", got)
		}
		if got := sent["read"] - 16<<20; got > 4<<20 || got < 2<<20 {
			t.Errorf("%d bytes went ahead of one who read before", got)
		}
		close(release)
		n.end()
		time.Sleep(time.Minute)
	})
}
