package wire

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestUrgent fills the way out, and looks at what leaves first then: what concerns
// the connection goes before the data of calls, wherever it comes from.
func TestUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		sent, out := io.Pipe()
		conn := NewClient(in, out, Options{Heartbeat: time.Hour, Silence: 3 * time.Hour})
		var calls []*Call
		for range 3 {
			k, err := conn.Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, k)
		}
		requests := make([]byte, 3*headerSize)
		if _, err := io.ReadFull(sent, requests); err != nil {
			t.Fatal(err)
		}
		for _, k := range calls[:2] {
			go func() { _, _ = k.Write(make([]byte, MaxData)) }()
		}
		synctest.Wait() // the first of them is on its way, and the way is full
		if _, err := feed.Write(raw(typePing, 0, 0, []byte("pingping"))); err != nil {
			t.Fatal(err)
		}
		if _, err := feed.Write(raw(typeData, 0, 2, make([]byte, 100<<10))); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, calls[1], 100<<10); err != nil {
			t.Fatal(err)
		}
		calls[2].Cancel()
		synctest.Wait()
		var got []byte
		for range 5 {
			var h [headerSize]byte
			if _, err := io.ReadFull(sent, h[:]); err != nil {
				t.Fatal(err)
			}
			head, err := parseHeader(&h)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, head.kind)
			if _, err := io.CopyN(io.Discard, sent, int64(head.length)); err != nil {
				t.Fatal(err)
			}
		}
		if want := []byte{typeData, typePong, typeWindow, typeCancel, typeData}; !bytes.Equal(got, want) {
			t.Errorf("frames of type %v, want %v", got, want)
		}
		sent.Close()
		feed.Close()
		synctest.Wait()
	})
}

// TestAcceptWaits has a client begin and cancel calls faster than the server is
// done with them: it gets no more of them at a time than it has said.
func TestAcceptWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		n := plain(t, Options{MaxCalls: most})
		accepted := make(chan *Call, 1000)
		n.serve(t, func(k *Call, _ []byte) { accepted <- k })
		begin := func() {
			var calls []*Call
			for range most {
				k, err := n.cl.Call(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				calls = append(calls, k)
			}
			synctest.Wait()
			for _, k := range calls {
				k.Cancel()
			}
			synctest.Wait()
		}
		for range 20 {
			begin()
			if len(accepted) != most {
				t.Fatalf("the server has %d calls at a time", len(accepted))
			}
		}
		for range most {
			k := <-accepted
			if err := k.End(nil); err == nil {
				t.Error("a cancelled call is ended without an error")
			}
		}
		begin()
		if len(accepted) != most {
			t.Errorf("the server has %d calls where it has done with the others", len(accepted))
		}
		for range most {
			(<-accepted).Cancel()
		}
		n.end()
		time.Sleep(time.Minute)
	})
}

// TestWindowsGrowTogether reads many calls at once: their windows stay below what
// they may grow by together, and what was given comes back.
func TestWindowsGrowTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, calls = 1 << 20, 20
		n := plain(t, Options{Window: window})
		n.serve(t, func(k *Call, _ []byte) {
			_, _ = io.CopyN(io.Discard, k, 2<<20)
			<-k.Context().Done()
			k.Cancel()
		})
		var open []*Call
		for range calls {
			k, err := n.cl.Call(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, k)
			go func() { _, _ = k.Write(make([]byte, 2<<20)) }()
		}
		synctest.Wait()
		grown := func() int {
			n.sv.mu.Lock()
			defer n.sv.mu.Unlock()
			return n.sv.grown
		}
		if got := grown(); got != growth*window {
			t.Errorf("windows have grown by %d, want %d", got, growth*window)
		}
		for _, k := range open {
			k.Cancel()
		}
		synctest.Wait()
		if got := grown(); got != 0 {
			t.Errorf("windows are still grown by %d", got)
		}
		n.end()
		time.Sleep(time.Minute)
	})
}
