package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// hearing notes when bytes come in, and how many.
type hearing struct {
	r io.Reader
	c *Conn
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.c.heard.Store(int64(time.Since(h.c.start)))
		h.c.wireIn.Add(int64(n))
	}
	return n, err
}

// reading takes frames in until the connection ends. It never waits for anything
// but the input.
func (c *Conn) reading() {
	for {
		if err := c.takeFrame(); err != nil {
			c.end(err)
			return
		}
	}
}

func (c *Conn) takeFrame() error {
	var raw [headerSize]byte
	if _, err := io.ReadFull(c.in, raw[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return ErrHungUp
		}
		return fmt.Errorf("reading from the other side: %w", err)
	}
	h, err := parseHeader(&raw)
	if err != nil {
		return err
	}
	b := c.pool.get(h.length)
	b.head = h
	b.b = b.b[:headerSize+h.length]
	if _, err := io.ReadFull(c.in, b.payload()); err != nil {
		c.pool.put(b)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading from the other side: %w", err)
	}
	if shapes[h.kind].call {
		return c.takeOfCall(b)
	}
	defer c.pool.put(b)
	switch h.kind {
	case typePing:
		c.mu.Lock()
		c.pong = append(c.pong[:0], b.payload()...)
		c.mu.Unlock()
		poke(c.wake)
	case typeGoodbye:
		if reason := printable(b.payload()); reason != "" {
			return fmt.Errorf("%w: %s", ErrHungUp, reason)
		}
		return ErrHungUp
	}
	return nil
}

// takeOfCall takes a frame that belongs to a call.
func (c *Conn) takeOfCall(b *buffer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := b.head
	if c.err != nil {
		c.pool.put(b)
		return c.err
	}
	if h.kind == typeRequest {
		return c.takeRequest(b)
	}
	if h.call > c.last {
		c.pool.put(b)
		return offence("%s for call %d, which has not begun", h, h.call)
	}
	k := c.calls[h.call]
	if k == nil {
		// What crossed the end of its call on the way is nobody's fault.
		c.pool.put(b)
		return nil
	}
	switch h.kind {
	case typeCancel:
		c.pool.put(b)
		k.in = nil
		c.settle(k, ErrCancelled)
		return nil
	case typeWindow:
		n := binary.LittleEndian.Uint32(b.payload())
		c.pool.put(b)
		if n == 0 || int64(n)+int64(k.credit) > maxWindow {
			return offence("a window of %d more bytes for call %d, which has %d", n, h.call, k.credit)
		}
		k.credit += int(n)
		poke(k.writable)
		return nil
	}
	if k.peerEnded {
		c.pool.put(b)
		return offence("%s for call %d after its END", h, h.call)
	}
	if h.kind == typeEnd {
		k.peerEnded = true
		k.in = append(k.in, item{b, 0})
		poke(k.readable)
		if c.client {
			c.settle(k, nil)
		}
		return nil
	}
	cost, err := costOf(b)
	if err != nil {
		c.pool.put(b)
		return err
	}
	if k.room -= cost; k.room < 0 {
		c.pool.put(b)
		return offence("%d bytes more for call %d than its window", -k.room, h.call)
	}
	k.in = append(k.in, item{b, cost})
	poke(k.readable)
	return nil
}

// takeRequest takes the frame that begins a call.
func (c *Conn) takeRequest(b *buffer) error {
	defer c.pool.put(b)
	n := b.head.call
	switch {
	case c.client:
		return offence("a REQUEST from a server")
	case n <= c.last:
		return offence("a REQUEST for call %d after that for call %d", n, c.last)
	case len(c.calls) >= c.opt.MaxCalls:
		return offence("more than %d calls at once", c.opt.MaxCalls)
	}
	c.last = n
	k := c.newCall(n)
	k.request = append([]byte{}, b.payload()...)
	c.pending = append(c.pending, k)
	poke(c.arrived)
	return nil
}

// costOf says what a frame takes of the window.
func costOf(b *buffer) (int, error) {
	n := len(b.payload())
	if b.head.flags&flagZstd != 0 {
		plain := binary.LittleEndian.Uint32(b.payload())
		if plain == 0 || plain > MaxData {
			return 0, offence("compressed data of %d plain bytes: from 1 to %d are allowed", plain, MaxData)
		}
		// They are kept as they came, and the window has to cover that.
		if n > int(plain) {
			return 0, offence("compressed data of %d bytes for %d plain ones", n, plain)
		}
		n = int(plain)
	}
	return n + frameCost, nil
}

// consumed gives the other side back what an item took of the window of a call.
func (c *Conn) consumed(k *Call, cost int) {
	if k.over || k.peerEnded {
		return
	}
	k.freed += cost
	if k.freed < k.window/4 {
		return
	}
	// Somebody reads: more on the way does no harm, and a link with a long way needs it.
	grow := min(k.window, c.opt.Window-k.window, growth*c.opt.Window-c.grown)
	k.window += grow
	c.grown += grow
	k.grant += k.freed + grow
	k.room += k.freed + grow
	k.freed = 0
	c.urge(k)
}

// printable is a text of the other side as it can be shown.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
}
