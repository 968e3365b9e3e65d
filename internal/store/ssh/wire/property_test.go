package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// script is what both sides of a call do, as its request has it.
type script struct {
	Up, Down []act
	// Early has the server end the call without reading on after so many acts of Up.
	Early int
	// Cancel has the client (1) or the server (2) give the call up after CancelAt of
	// its acts.
	Cancel, CancelAt int
	Last             int // length of the last message
}

// act is a message of a length, or data that are written in pieces.
type act struct {
	Message bool
	Size    int
	Piece   int
	Rest    time.Duration // before it
}

// content is what an act sends: it depends on the act's place, and shrinks to a
// half or so.
func content(seed, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	b := make([]byte, size)
	for i := 0; i < size; i += 8 {
		word := r.Uint64()
		for j := i; j < min(i+4, size); j++ {
			b[j] = byte(word >> (8 * (j - i)))
		}
	}
	return b
}

var errEarly = errors.New("ended early")

// play sends acts, up to one at which it stops.
func play(k *Call, seed int, acts []act, stop int) error {
	for i, a := range acts {
		if i == stop {
			return errEarly
		}
		time.Sleep(a.Rest)
		b := content(seed+i, a.Size)
		if a.Message {
			if err := k.Send(k.Context(), b); err != nil {
				return err
			}
			continue
		}
		for len(b) > 0 {
			n, err := k.Write(b[:min(len(b), a.Piece)])
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

// hear reads what acts send, up to one at which it stops, and compares it. The
// data of acts that follow one another are one.
func hear(k *Call, seed int, acts []act, stop int) error {
	var data []byte
	check := func() error {
		got, err := io.ReadAll(k)
		if !bytes.HasPrefix(data, got) || err == nil && len(got) != len(data) {
			return fmt.Errorf("read %d bytes of data that differ from the %d that were sent", len(got), len(data))
		}
		data = nil
		return err
	}
	for i, a := range acts {
		if i == stop {
			return errEarly
		}
		b := content(seed+i, a.Size)
		if !a.Message {
			data = append(data, b...)
			continue
		}
		if err := check(); err != nil {
			return err
		}
		got, err := k.Receive(k.Context())
		if err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return fmt.Errorf("message %d of %d bytes differs from the one sent, of %d bytes", i, len(got), len(b))
		}
	}
	return check()
}

// acts are what one side does in a call.
func acts(t *rapid.T, label string) []act {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		a := act{Message: rapid.Bool().Draw(t, "message")}
		most := MaxMessage
		if !a.Message {
			most = rapid.SampledFrom([]int{100, 10_000, 700_000}).Draw(t, "most")
		}
		a.Size = rapid.IntRange(0, most).Draw(t, "size")
		a.Piece = rapid.SampledFrom([]int{7, 1000, 40_000, 1 << 20}).Draw(t, "piece")
		if a.Size/a.Piece > 1000 {
			a.Piece = 1000
		}
		a.Rest = time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 3000}).Draw(t, "rest")) * time.Millisecond
		return a
	}), 0, 6).Draw(t, label)
}

func scripts(t *rapid.T) []script {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) script {
		s := script{Up: acts(t, "up"), Down: acts(t, "down"), Early: -1, Last: rapid.IntRange(0, 3000).Draw(t, "last")}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			s.Early = rapid.IntRange(0, 5).Draw(t, "early")
		case 1, 2:
			s.Cancel = rapid.IntRange(1, 2).Draw(t, "cancel")
			s.CancelAt = rapid.IntRange(0, 5).Draw(t, "cancelAt")
		}
		return s
	}), 1, 8).Draw(t, "calls")
}

func options(t *rapid.T, label string, calls int) Options {
	return Options{
		Compress: rapid.Bool().Draw(t, label+" compresses"),
		Window:   rapid.SampledFrom([]int{1, 1 << 20, 4 << 20}).Draw(t, label+" window"),
		MaxCalls: calls,
	}
}

func drawWay(t *rapid.T, label string) *way {
	w := newWay(rapid.SampledFrom([]int{1 << 10, 64 << 10, 1 << 20}).Draw(t, label+" holds"))
	if rapid.Bool().Draw(t, label+" crumbles") {
		w.rnd = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, label+" seed"), 2))
	}
	w.delay = time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20}).Draw(t, label+" delay")) * time.Millisecond
	return w
}

// TestCalls makes random calls side by side over random networks, and compares
// everything that is sent with what arrives. Nothing hangs, since all of it is in
// a bubble that would say so.
func TestCalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := scripts(rt)
		calls := rapid.IntRange(1, 8).Draw(rt, "at once")
		co, so := options(rt, "client", calls), options(rt, "server", calls)
		up, down := drawWay(rt, "up"), drawWay(rt, "down")
		synctest.Test(t, func(t *testing.T) {
			for _, err := range talk(t, up, down, co, so, all) {
				rt.Error(err)
			}
		})
	})
}

// TestCutCalls does the same while the network is cut at any byte of either
// direction, with an error or with an end. All calls come to an end, with what
// arrived before unharmed, and an error that says that the connection is lost.
func TestCutCalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := scripts(rt)
		co, so := options(rt, "client", 8), options(rt, "server", 8)
		up, down := drawWay(rt, "up"), drawWay(rt, "down")
		cut := rapid.SampledFrom([]*way{up, down}).Draw(rt, "cut")
		cut.cutAfter = rapid.IntRange(0, rapid.SampledFrom([]int{30, 1000, 100_000, 1_000_000}).Draw(rt, "far")).Draw(rt, "at")
		if rapid.Bool().Draw(rt, "clean") {
			cut.broken = io.EOF
		}
		co.Silence = 30 * time.Second // one direction may be cut alone
		so.Silence = 30 * time.Second
		synctest.Test(t, func(t *testing.T) {
			for _, err := range talk(t, up, down, co, so, all) {
				if _, lost := errors.AsType[*lostError](err); !lost {
					rt.Error(err)
				}
			}
		})
	})
}

// talk has a client and a server play scripts, and answers what went wrong.
func talk(t *testing.T, up, down *way, co, so Options, all []script) []error {
	// They were drawn outside of the bubble, and what is waited for has to be inside.
	up.changed, down.changed = make(chan struct{}), make(chan struct{})
	n := &network{up: up, down: down}
	n.cl, n.sv = NewClient(down, up, co), NewServer(up, down, so)
	var mu sync.Mutex
	var wrong []error
	report := func(side string, i int, err error) {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, fmt.Errorf("%s of call %d: %w", side, i, err))
		}
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			k, request, err := n.sv.Accept(t.Context())
			if err != nil {
				return
			}
			handlers.Go(func() {
				var s struct {
					Number int
					script
				}
				if err := json.Unmarshal(request, &s); err != nil {
					report("server", -1, err)
					k.Cancel()
					return
				}
				report("server", s.Number, answerScript(k, s.script))
			})
		}
	})
	var callers sync.WaitGroup
	for i, s := range all {
		callers.Go(func() {
			request, err := json.Marshal(struct {
				Number int
				script
			}{i, s})
			if err != nil {
				t.Error(err)
				return
			}
			k, err := n.cl.Call(t.Context(), request)
			if err != nil {
				report("client", i, err)
				return
			}
			report("client", i, callScript(k, s))
		})
	}
	callers.Wait()
	if err := n.cl.Close(); err != nil {
		report("end", 0, lostBy(err))
	}
	<-n.sv.Done()
	handlers.Wait()
	n.end()
	time.Sleep(time.Second) // for those who wait for a way that is slow
	for side, c := range map[string]*Conn{"client": n.cl, "server": n.sv} {
		if e, ok := errors.AsType[*ProtocolError](c.Err()); ok {
			wrong = append(wrong, fmt.Errorf("the %s blames the other side: %w", side, e))
		}
	}
	return wrong
}

// answerScript is what the server does in a call.
func answerScript(k *Call, s script) error {
	downs, stop := make(chan error, 1), -1
	if s.Cancel == 2 {
		stop = s.CancelAt
	}
	go func() { downs <- play(k, 1000, s.Down, stop) }()
	heard := hear(k, 0, s.Up, s.Early)
	if errors.Is(heard, errEarly) {
		_ = k.End(content(7, s.Last))
		<-downs
		return nil
	}
	if heard == nil {
		if _, heard = k.Receive(k.Context()); heard == io.EOF {
			heard = nil
		} else if heard == nil {
			heard = errors.New("a message where the end should be")
		}
	}
	sent := <-downs
	if errors.Is(sent, errEarly) {
		k.Cancel()
		return nil
	}
	if heard == nil && sent == nil {
		return k.End(content(7, s.Last))
	}
	k.Cancel()
	return quiet(s.Cancel == 1, heard, sent)
}

// callScript is what the client does in a call.
func callScript(k *Call, s script) error {
	ups, stop := make(chan error, 1), -1
	if s.Cancel == 1 {
		stop = s.CancelAt
	}
	go func() {
		err := play(k, 0, s.Up, stop)
		switch {
		case errors.Is(err, errEarly):
			k.Cancel()
		case err == nil:
			err = k.End(nil)
		}
		ups <- err
	}()
	heard := hear(k, 1000, s.Down, -1)
	if heard == nil && s.Last > 0 {
		var last []byte
		if last, heard = k.Receive(k.Context()); heard == nil && !bytes.Equal(last, content(7, s.Last)) {
			heard = fmt.Errorf("the last message differs, it has %d bytes in place of %d", len(last), s.Last)
		}
	}
	if heard == nil {
		if _, heard = k.Receive(k.Context()); heard == io.EOF {
			heard = nil
		} else if heard == nil {
			heard = errors.New("a message after the last")
		}
	}
	if s.Early >= 0 {
		// Whatever of Down was not sent is missing; the last message comes all the same.
		<-ups
		if _, lost := errors.AsType[*lostError](heard); lost {
			return heard
		}
		return nil
	}
	sent := <-ups
	if errors.Is(sent, ErrEnded) {
		sent = nil
	}
	return quiet(s.Cancel > 0, heard, sent)
}

// quiet answers the first error that is not what a cancelled call ends with.
func quiet(cancelled bool, errs ...error) error {
	for _, err := range errs {
		if err != nil && (!cancelled || !errors.Is(err, ErrCancelled) && !errors.Is(err, errEarly)) {
			return err
		}
	}
	return nil
}
