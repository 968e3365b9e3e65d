// Package wire carries calls over one stream of bytes in each direction: frames,
// flow control, fairness, heartbeats and compression. The bytes are in
// docs/protocol.md, from "Frames" to "Heartbeats and endings".
//
// It knows a reader and a writer, and nothing of ssh, of what the messages say,
// or of what the data are. It opens and closes nothing: who made the reader and
// the writer closes them once [Conn.Done] is closed, which is also what frees the
// goroutines that are still blocked in them.
//
// A call is a request of the client, then messages and data in both directions,
// in order within the call and its direction. The [Call.End] of the server is the
// end of the call; that of the client only says that no more comes from it.
//
// Calls do not stand in each other's way: each may send only as much as the other
// side has room for, those that have something to send take turns frame by frame,
// and what concerns the connection (room, cancelled calls, heartbeats) goes before
// any of that. The reading side never waits for who reads a call, and heartbeats
// have a goroutine of their own, so a side that is busy answers all the same.
//
// Data are compressed, each frame by itself, where that brings them across
// sooner: only full frames, only while compressing is measured to be faster than
// the way out, and only while the data shrink; compress.go has the rule.
//
// The other side is not trusted. Whatever it does that the protocol does not
// allow ends the connection with a [ProtocolError] that names it. Memory is
// bounded whatever it does: for each of MaxCalls calls a request and a last message
// of [MaxRequest] and a window that begins with 320 KiB; on top of that, windows
// grow where they are being read, by at most eight times Options.Window for the
// whole connection. In frames made for it, what fills a window takes two and a half
// times as much; that makes some 260 MiB for a side that does its worst, with the
// options as they are. What is to be sent takes at most 1 MiB a call, besides the
// last message.
//
//	conn := wire.NewClient(stdout, stdin, wire.Options{Log: log})
//	call, err := conn.Call(ctx, request)
//	answer, err := call.Receive(ctx)
package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options change how a connection works. The zero value is good.
type Options struct {
	// Log takes what is worth knowing when something goes wrong; nil is none.
	Log *slog.Logger
	// Heartbeat is after how long without a byte in either direction the other side
	// is asked for one; 0 is 10 s.
	Heartbeat time.Duration
	// Silence is after how long without a byte from the other side the connection
	// ends with a [SilenceError]; 0 is 60 s.
	Silence time.Duration
	// Window is how many bytes of a call may be on their way to this side or wait
	// to be read, at most; 0 is 4 MiB, and it is never less than 320 KiB.
	Window int
	// Compress lets this side compress what it sends. The other side has to
	// understand that, which its greeting says.
	Compress bool
	// MaxCalls is how many calls there may be at once; 0 is 64. A client waits in
	// [Conn.Call] for one to be over; for a server, more are an offence.
	MaxCalls int
}

// Limits of the protocol.
const (
	// MaxRequest is the longest request, and the longest last message of a side.
	MaxRequest = 1 << 20
	// MaxMessage is the longest of the other messages.
	MaxMessage = 64 << 10
	// MaxData is how many bytes of plain data a frame may have.
	MaxData = 256 << 10
)

const (
	// firstWindow is what each side may send in a new call. It has room for the
	// largest frame, and for a message while a quarter of it is not yet given back.
	firstWindow = 256<<10 + 64<<10
	// maxWindow is what credit may add up to.
	maxWindow = 256 << 20
	// frameCost is what a frame takes of the window besides its plain bytes, so that
	// many small ones cannot take much more memory than the window says.
	frameCost = 64
	// growth is how many Options.Window all windows may grow by together.
	growth = 8
	// farewell is how long Close lets the last frames take.
	farewell = 2 * time.Second
	// lastWords is how long the reason why nothing can be written any more may take to
	// come in.
	lastWords = time.Second
)

// Conn is one side of a connection. Its methods may be called concurrently.
type Conn struct {
	client  bool
	opt     Options
	log     *slog.Logger
	pool    pool
	press   *press // nil: nothing is compressed
	unpress unpress
	in      *bufio.Reader
	out     io.Writer

	heard    atomic.Int64 // when the last byte came in, in ns since start
	said     atomic.Int64 // when the last frame has left, in the same way
	start    time.Time
	plainIn  atomic.Int64
	wireIn   atomic.Int64
	plainOut atomic.Int64
	wireOut  atomic.Int64

	done    chan struct{} // closed when err is set
	gone    chan struct{} // closed when nothing is written any more
	wake    chan struct{} // the writing goroutine has something to look at
	arrived chan struct{} // a request, or room for one
	slots   chan struct{} // of the client: one for each call that is open

	mu      sync.Mutex // guards what is below, and the state of calls
	err     error
	calls   map[uint32]*Call // open, by number
	last    uint32           // the highest number of a request
	pending []*Call          // requests that nobody has accepted
	live    int              // accepted, and not ended with the END on its way
	ring    []*Call          // have something to send, each once
	urgent  []*Call          // have a CANCEL or a WINDOW to send, each once
	ping    bool
	pong    []byte // answers the last ping that is not answered
	grown   int    // what windows have grown by
}

// NewClient begins the side of a connection that makes calls.
func NewClient(r io.Reader, w io.Writer, o Options) *Conn { return newConn(r, w, o, true) }

// NewServer begins the side of a connection that takes calls.
func NewServer(r io.Reader, w io.Writer, o Options) *Conn { return newConn(r, w, o, false) }

func newConn(r io.Reader, w io.Writer, o Options, client bool) *Conn {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = 60 * time.Second
	}
	if o.Window <= 0 {
		o.Window = 4 << 20
	}
	o.Window = min(max(o.Window, firstWindow), maxWindow/2)
	if o.MaxCalls <= 0 {
		o.MaxCalls = 64
	}
	c := &Conn{
		client:  client,
		opt:     o,
		log:     o.Log,
		out:     w,
		start:   time.Now(),
		done:    make(chan struct{}),
		gone:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		arrived: make(chan struct{}, 1),
		slots:   make(chan struct{}, o.MaxCalls),
		calls:   make(map[uint32]*Call),
	}
	if o.Compress {
		c.press = newPress()
	}
	c.in = bufio.NewReaderSize(&hearing{r, c}, 32<<10)
	go c.reading()
	go c.writing()
	go c.beating()
	return c
}

// Done is closed when the connection has ended, from whichever side or cause.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended, or nil while it has not: [ErrClosed] after
// Close, [ErrHungUp] after the goodbye of the other side or a clean end of the
// input, a [SilenceError], a [ProtocolError], or what reading or writing failed
// with.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats is what has crossed so far.
type Stats struct {
	// PlainIn and PlainOut are bytes of data, as they were before compressing.
	PlainIn, PlainOut int64
	// WireIn and WireOut are all bytes, with messages and frame headers.
	WireIn, WireOut int64
}

// Stats says what has crossed so far.
func (c *Conn) Stats() Stats {
	return Stats{PlainIn: c.plainIn.Load(), PlainOut: c.plainOut.Load(), WireIn: c.wireIn.Load(), WireOut: c.wireOut.Load()}
}

// Call begins a call with a request of at most [MaxRequest] bytes. While there are
// MaxCalls others it waits for one to be over. The context counts for that only:
// who has a call reads it to its end or cancels it.
func (c *Conn) Call(ctx context.Context, request []byte) (*Call, error) {
	if !c.client {
		return nil, errors.New("only a client makes calls")
	}
	if len(request) > MaxRequest {
		return nil, fmt.Errorf("a request of %d bytes is longer than %d", len(request), MaxRequest)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
		return nil, c.lost()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, lostBy(c.err)
	}
	if c.last == 1<<32-1 {
		<-c.slots
		return nil, errors.New("the connection has no more numbers for calls: a new one is needed")
	}
	c.last++
	k := c.newCall(c.last)
	k.queue = append(k.queue, c.frame(typeRequest, k.number, request))
	c.enlist(k)
	return k, nil
}

// Accept waits for a call, and answers it and its request. It waits, too, while
// MaxCalls calls that it gave out have not been ended or cancelled: each has to be.
// After the goodbye of the client, or a clean end of the input, it answers io.EOF.
func (c *Conn) Accept(ctx context.Context) (*Call, []byte, error) {
	for {
		c.mu.Lock()
		if err := c.err; err != nil {
			c.mu.Unlock()
			if errors.Is(err, ErrHungUp) {
				err = io.EOF
			}
			return nil, nil, err
		}
		if len(c.pending) > 0 && c.live < c.opt.MaxCalls {
			k := c.pending[0]
			c.pending = c.pending[1:]
			c.live++
			k.accepted = true
			request := k.request
			k.request = nil
			if len(c.pending) > 0 {
				poke(c.arrived)
			}
			c.mu.Unlock()
			return k, request, nil
		}
		c.mu.Unlock()
		select {
		case <-c.arrived:
		case <-c.done:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// Close ends the connection: it cancels the calls that are open, sends what is
// queued of those that are ended, and says goodbye. It waits for no answer, and at
// most two seconds for the last bytes to leave. The reader and the writer are left
// open.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-c.gone:
	case <-timer.C:
	}
	if err := c.Err(); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrHungUp) {
		return err
	}
	return nil
}

// end ends the connection for a reason; only the first counts.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	for _, k := range c.calls {
		c.settle(k, lostBy(err))
	}
	c.log.Debug("the connection has ended", "why", err)
}

// lost is what calls say when the connection is gone.
func (c *Conn) lost() error { return lostBy(c.Err()) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
