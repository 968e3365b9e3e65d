package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// enlist puts a call in the row of those that have something to send.
func (c *Conn) enlist(k *Call) {
	if !k.listed {
		k.listed = true
		c.ring = append(c.ring, k)
	}
	poke(c.wake)
}

// urge puts a call in the row of those whose CANCEL or WINDOW is to be sent.
func (c *Conn) urge(k *Call) {
	if !k.urged {
		k.urged = true
		c.urgent = append(c.urgent, k)
	}
	poke(c.wake)
}

// writing sends what there is until the connection ends.
func (c *Conn) writing() {
	defer close(c.gone)
	var small []byte
	for {
		c.mu.Lock()
		last := c.err != nil
		small = c.takeUrgent(small[:0])
		var b *buffer
		var early *Call // whose frame this is, if it leaves before it is full
		if !last || errors.Is(c.err, ErrClosed) {
			b, early = c.takeTurn()
		}
		if last && b == nil {
			small = c.takeGoodbye(small)
		}
		c.mu.Unlock()
		if len(small) > 0 {
			if err := c.write(small); err != nil {
				return
			}
		}
		switch {
		case b != nil:
			if early != nil && len(b.payload()) >= worthTrying {
				b = c.pack(b, &early.late)
			}
			b.head.length = len(b.b) - headerSize
			b.head.put(b.b)
			err := c.write(b.b)
			c.pool.put(b)
			if err != nil {
				return
			}
		case last:
			return
		case len(small) == 0:
			select {
			case <-c.wake:
			case <-c.done:
			}
		}
	}
}

func (c *Conn) write(p []byte) error {
	start := time.Now()
	n, err := c.out.Write(p)
	c.wireOut.Add(int64(n))
	c.said.Store(int64(time.Since(c.start)))
	if c.press != nil && n >= telling {
		c.press.sent(n, time.Since(start))
	}
	if err != nil {
		err = fmt.Errorf("writing to the other side: %w", err)
		// What the other side said before it hung up tells more than that nothing can
		// be written any more, and may not have been read yet.
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C:
			c.end(err)
		}
	}
	return err
}

// takeUrgent appends the frames that go before all others.
func (c *Conn) takeUrgent(out []byte) []byte {
	if len(c.pong) > 0 {
		out = appendFrame(out, typePong, 0, c.pong)
		c.pong = c.pong[:0]
	}
	if c.ping {
		out = appendFrame(out, typePing, 0, make([]byte, 8))
		c.ping = false
	}
	for _, k := range c.urgent {
		k.urged = false
		switch {
		case k.sayCancel:
			k.sayCancel = false
			out = appendFrame(out, typeCancel, k.number, nil)
			c.finish(k)
		case k.grant > 0 && !k.over:
			out = appendFrame(out, typeWindow, k.number, binary.LittleEndian.AppendUint32(nil, uint32(k.grant)))
		}
		k.grant = 0
	}
	clear(c.urgent)
	c.urgent = c.urgent[:0]
	return out
}

// takeTurn answers a frame of the call whose turn it is, and the call if the frame
// would have taken more data.
func (c *Conn) takeTurn() (b *buffer, early *Call) {
	for len(c.ring) > 0 {
		k := c.ring[0]
		c.ring[0] = nil
		c.ring = c.ring[1:]
		k.listed = false
		b, early = nil, nil
		switch {
		case len(k.queue) > 0:
			b = k.queue[0]
			k.queue[0] = nil
			k.queue = k.queue[1:]
		case k.fill != nil:
			b, k.fill = k.fill, nil
			early = k
		default:
			continue
		}
		if len(k.queue) > 0 || k.fill != nil {
			c.enlist(k)
		}
		poke(k.writable)
		switch b.head.kind {
		case typeRequest:
			k.introduced = true
		case typeEnd:
			if !c.client {
				c.settle(k, nil)
				c.finish(k)
			}
		}
		return b, early
	}
	return nil, nil
}

// takeGoodbye appends the last frame of the connection, if there is any use in it.
func (c *Conn) takeGoodbye(out []byte) []byte {
	var reason string
	if e, ok := errors.AsType[*ProtocolError](c.err); ok {
		reason = e.Error()
	} else if !errors.Is(c.err, ErrClosed) {
		return out
	}
	return appendFrame(out, typeGoodbye, 0, []byte(reason)[:min(len(reason), maxReason)])
}

// appendFrame appends a small frame.
func appendFrame(out []byte, kind byte, call uint32, payload []byte) []byte {
	var raw [headerSize]byte
	header{kind: kind, call: call, length: len(payload)}.put(raw[:])
	return append(append(out, raw[:]...), payload...)
}
