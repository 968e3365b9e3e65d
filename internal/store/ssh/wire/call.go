package wire

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Call is one side of a call. One goroutine may read (Read, Receive) and another
// one write (Write, Send, End) at the same time; Cancel may be called by anybody.
//
// On the server each call has to be ended or cancelled. On the client it ends with
// the END of the server, and a call that is not read to its end is to be cancelled.
type Call struct {
	c      *Conn
	number uint32

	ctx    context.Context
	cancel context.CancelCauseFunc

	readable chan struct{} // in, or what ends reading, has changed
	writable chan struct{} // credit, queue, or what ends writing, has changed

	// Guarded by Conn.mu.
	request   []byte
	accepted  bool
	over      bool  // the connection knows it no more
	why       error // why it is over; nil after the END of the server
	ended     bool  // this side has queued its END
	peerEnded bool

	in     []item // what has come in and waits to be read
	window int    // what the other side may send before any of it is read
	room   int    // what of it is left
	freed  int    // what has been read, and not yet given back

	shrink     shrink    // of full frames; of the goroutine that writes
	late       shrink    // of frames that leave before they are full; of Conn.writing
	credit     int       // what this side may send
	fill       *buffer   // data that more may be added to, or that leave as they are
	queue      []*buffer // frames that are ready to leave, before fill
	listed     bool      // in Conn.ring
	urged      bool      // in Conn.urgent
	grant      int       // to be sent as WINDOW
	sayCancel  bool      // to be sent as CANCEL
	introduced bool      // the REQUEST has been written, or has come
}

// item is a frame that waits to be read.
type item struct {
	b    *buffer
	cost int
}

// maxQueued is how many frames of a call wait to leave, besides one that is filled.
const maxQueued = 2

// piece is what is waited for before data are sent into a window that is nearly
// used up, so that it is not cut into crumbs.
const piece = 32 << 10

func (c *Conn) newCall(number uint32) *Call {
	k := &Call{
		c: c, number: number,
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		window: firstWindow, room: firstWindow, credit: firstWindow,
		introduced: !c.client,
	}
	k.ctx, k.cancel = context.WithCancelCause(context.Background())
	c.calls[number] = k
	return k
}

// settle takes a call out of the connection: it is over, for a reason, or for none
// if it came to its end.
func (c *Conn) settle(k *Call, why error) {
	if k.over {
		return
	}
	k.over, k.why = true, why
	delete(c.calls, k.number)
	c.grown -= k.window - firstWindow
	if c.client {
		<-c.slots
	}
	if !k.accepted {
		for i, p := range c.pending {
			if p == k {
				c.pending = append(c.pending[:i], c.pending[i+1:]...)
				break
			}
		}
	}
	// The END of this side still leaves, with what is before it, unless the other
	// side has given the call up.
	if why != nil && !(k.ended && c.err == ErrClosed) || c.client {
		c.drop(k)
	}
	if why != nil {
		k.cancel(why)
		if k.ended {
			c.finish(k)
		}
	}
	poke(k.readable)
	poke(k.writable)
}

// drop forgets what is to be sent, and the call's place in the rows: while nothing
// leaves, there could be more and more of them.
func (c *Conn) drop(k *Call) {
	for _, b := range k.queue {
		c.pool.put(b)
	}
	c.pool.put(k.fill)
	k.queue, k.fill = nil, nil
	is := func(other *Call) bool { return other == k }
	if k.listed {
		k.listed = false
		c.ring = slices.DeleteFunc(c.ring, is)
	}
	if k.urged {
		k.urged, k.grant = false, 0
		c.urgent = slices.DeleteFunc(c.urgent, is)
	}
}

// finish notes that the server is done with a call that it accepted.
func (c *Conn) finish(k *Call) {
	if k.accepted {
		k.accepted = false
		c.live--
		poke(c.arrived)
	}
}

// Context ends when the call is cancelled by either side or the connection ends;
// on the server also when the call has ended.
func (k *Call) Context() context.Context { return k.ctx }

// readErr is what reading ends with; nil while there is nothing to end it.
func (k *Call) readErr() error {
	switch {
	case k.why != nil:
		return k.why
	case k.peerEnded:
		return io.EOF
	case k.over:
		return ErrEnded
	}
	return nil
}

// writeErr is what writing ends with.
func (k *Call) writeErr() error {
	switch {
	case k.why != nil:
		return k.why
	case k.ended:
		return errSaid
	case k.over:
		return ErrEnded
	}
	return nil
}

// next waits for something to be read, and answers it, still queued.
func (k *Call) next(ctx context.Context) (*buffer, error) {
	for {
		k.c.mu.Lock()
		if len(k.in) > 0 {
			b := k.in[0].b
			k.c.mu.Unlock()
			return b, nil
		}
		err := k.readErr()
		k.c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-k.readable:
		case <-ctx.Done():
			return nil, k.ending(ctx, k.readErr)
		}
	}
}

// pop takes the first item out.
func (k *Call) pop() {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if len(k.in) == 0 {
		return
	}
	it := k.in[0]
	k.in[0] = item{}
	if k.in = k.in[1:]; len(k.in) == 0 {
		k.in = nil
	}
	k.c.consumed(k, it.cost)
	k.c.pool.put(it.b)
}

// Receive waits for the next message and answers it. Data before it that have not
// been read are passed over. After the last message of the other side, or its end
// without one, it answers io.EOF.
func (k *Call) Receive(ctx context.Context) ([]byte, error) {
	for {
		b, err := k.next(ctx)
		if err != nil {
			return nil, err
		}
		kind := b.head.kind
		if kind == typeData {
			k.pop()
			continue
		}
		message := append([]byte{}, b.payload()...)
		k.pop()
		if kind == typeEnd && len(message) == 0 {
			continue
		}
		return message, nil
	}
}

// Read reads data. It answers io.EOF where the next message is, which Receive then
// gives, and at the end.
func (k *Call) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := k.next(context.Background())
	if err != nil {
		return 0, err
	}
	if b.head.kind != typeData {
		return 0, io.EOF
	}
	if b.head.flags&flagZstd != 0 {
		if b, err = k.unpack(b); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.payload())
	if b.read += n; len(b.payload()) == 0 {
		k.pop()
	}
	k.c.plainIn.Add(int64(n))
	return n, nil
}

// unpack puts the plain data in the place of the compressed ones that are first.
func (k *Call) unpack(b *buffer) (*buffer, error) {
	plain, err := k.c.unpack(b)
	if err != nil {
		k.c.end(err)
		return nil, lostBy(err)
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if len(k.in) > 0 {
		k.in[0].b = plain
		k.c.pool.put(b)
	}
	return plain, nil
}

// Send sends a message of at most [MaxMessage] bytes, after the data written
// before. It waits until the other side has room for it.
func (k *Call) Send(ctx context.Context, message []byte) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("a message of %d bytes is longer than %d", len(message), MaxMessage)
	}
	cost := len(message) + frameCost
	if err := k.await(ctx, func() bool { return k.credit >= cost && k.closeFill() && len(k.queue) < maxQueued }); err != nil {
		return err
	}
	c := k.c
	defer c.mu.Unlock()
	k.credit -= cost
	k.queue = append(k.queue, c.frame(typeMessage, k.number, message))
	c.enlist(k)
	return nil
}

// await waits for a condition, and answers with Conn.mu locked; not so with an
// error.
func (k *Call) await(ctx context.Context, ready func() bool) error {
	for {
		k.c.mu.Lock()
		if err := k.writeErr(); err != nil {
			k.c.mu.Unlock()
			return err
		}
		if ready() {
			return nil
		}
		k.c.mu.Unlock()
		select {
		case <-k.writable:
		case <-ctx.Done():
			return k.ending(ctx, k.writeErr)
		}
	}
}

// ending says why a wait is over that its context has ended: if that was the
// call's own, the call knows better.
func (k *Call) ending(ctx context.Context, known func() error) error {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if err := known(); err != nil {
		return err
	}
	return ctx.Err()
}

// closeFill moves what is being filled to the queue, if that has room.
func (k *Call) closeFill() bool {
	if k.fill == nil {
		return true
	}
	if len(k.queue) >= maxQueued {
		return false
	}
	k.queue = append(k.queue, k.fill)
	k.fill = nil
	return true
}

// Write sends data. It waits while the other side has no room, or too much waits
// to leave here. When it returns, the data may still wait here; [Call.Send] and
// [Call.End] come after them. On the client it fails with [ErrEnded] once the
// server has ended the call.
func (k *Call) Write(p []byte) (written int, err error) {
	c := k.c
	for len(p) > 0 {
		want := min(len(p), piece) + frameCost
		if err := k.await(context.Background(), func() bool { return k.credit >= want }); err != nil {
			return written, err
		}
		b := k.fill
		k.fill = nil // nobody sends it meanwhile
		if b == nil {
			b = c.pool.get(min(max(len(p), piece), MaxData))
			b.head = header{kind: typeData, call: k.number}
			k.credit -= frameCost
		}
		n := min(len(p), b.room(), k.credit)
		k.credit -= n
		waiting := len(k.queue) > 0
		c.mu.Unlock()
		b.b = append(b.b, p[:n]...)
		written += n
		p = p[n:]
		c.plainOut.Add(int64(n))
		if b.room() == 0 && waiting && len(b.payload()) < MaxData {
			b = c.widen(b)
		}
		if b.room() == 0 {
			err = k.push(c.pack(b, &k.shrink))
		} else {
			err = k.keep(b)
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// widen answers a buffer with the same data that has room for the longest frame.
func (c *Conn) widen(b *buffer) *buffer {
	wide := c.pool.get(MaxData)
	wide.head = b.head
	wide.b = append(wide.b, b.payload()...)
	c.pool.put(b)
	return wide
}

// push queues a frame when the queue has room.
func (k *Call) push(b *buffer) error {
	if err := k.await(context.Background(), func() bool { return len(k.queue) < maxQueued }); err != nil {
		k.c.pool.put(b)
		return err
	}
	defer k.c.mu.Unlock()
	k.queue = append(k.queue, b)
	k.c.enlist(k)
	return nil
}

// keep leaves a frame to be filled further, or to be sent as it is if there is
// nothing else to send.
func (k *Call) keep(b *buffer) error {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if err := k.writeErr(); err != nil {
		k.c.pool.put(b)
		return err
	}
	k.fill = b
	k.c.enlist(k)
	return nil
}

// End ends what this side says, with a last message of at most [MaxRequest] bytes
// if it is not empty. It comes after everything sent before, and does not wait. The
// end of the server is that of the call. To end a call again is an error.
func (k *Call) End(final []byte) error {
	if len(final) > MaxRequest {
		return fmt.Errorf("a last message of %d bytes is longer than %d", len(final), MaxRequest)
	}
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := k.writeErr(); err != nil {
		if k.over {
			c.finish(k)
		}
		return err
	}
	if k.fill != nil {
		k.queue = append(k.queue, k.fill)
		k.fill = nil
	}
	k.queue = append(k.queue, c.frame(typeEnd, k.number, final))
	k.ended = true
	c.enlist(k)
	poke(k.writable)
	if !c.client {
		k.cancel(ErrEnded)
	}
	return nil
}

// Cancel gives the call up on both sides. After its end it does nothing.
func (k *Call) Cancel() {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	// What a reader may be copying out of at this moment is not used again.
	k.in = nil
	if k.over {
		c.finish(k)
		return
	}
	if k.ended && !c.client {
		return
	}
	c.settle(k, ErrCancelled)
	if k.introduced {
		k.sayCancel = true
		c.urge(k)
	}
}
