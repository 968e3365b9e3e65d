package ssh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// session is one connection to one server.
type session struct {
	host     string
	log      *slog.Logger
	waits    waits
	link     io.ReadWriteCloser
	conn     *wire.Conn
	greeting greeting // the server's
	stop     context.CancelFunc

	closing sync.Once
	ending  sync.Once
	ended   error // why the link has ended; behind ending
}

// waiter is a link that knows why it has ended.
type waiter interface{ Wait() error }

// connect starts a server and exchanges greetings with it.
func (s *Store) connect(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The connection has to live on when ctx ends, since what is under way then has to
	// be abandoned in good order.
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	link, err := s.dial(lasting)
	if err != nil {
		stop()
		return nil, temporarily(err)
	}
	next := &session{host: s.host, log: s.log, waits: s.opt.waits, link: link, stop: stop}
	if err := s.greet(ctx, lasting, next); err != nil {
		_ = link.Close()
		stop()
		return nil, err
	}
	return next, nil
}

// temporarily marks the errors of dial that may go away.
func temporarily(err error) error {
	if errors.Is(err, dial.ErrUnreachable) {
		return store.MarkTemporary(err)
	}
	return err
}

// greet exchanges greetings, and begins the calls.
func (s *Store) greet(ctx, lasting context.Context, next *session) error {
	ours := newGreeting(s.opt.Program, s.opt.Compress)
	ours.Dir, ours.Mode, ours.Wishes, ours.Of = path(s.opt.Dir), s.opt.Mode, s.opt.Wishes, path(s.opt.Of)
	line, err := ours.hello()
	if err != nil {
		return err
	}
	// Only closing the link ends a read of it.
	limited, cancel := context.WithTimeout(ctx, s.opt.waits.greeting)
	defer cancel()
	unwatch := context.AfterFunc(limited, func() { _ = next.link.Close() })
	defer unwatch()

	out := s.opt.Limit.Writer(lasting, next.link)
	sent := make(chan error, 1)
	go func() {
		_, err := out.Write(line)
		sent <- err
	}()
	in := bufio.NewReaderSize(s.opt.Limit.Reader(lasting, next.link), 64<<10)
	theirs, banner, err := awaitHello(in, line)
	if err == nil {
		err = <-sent
	}
	if err != nil {
		if limited.Err() != nil {
			if ctx.Err() == nil {
				return store.MarkTemporary(fmt.Errorf("%s: no buttersink has answered within %s: %s", s.host, s.opt.waits.greeting, said(banner)))
			}
			return fmt.Errorf("connecting to %s: %w", s.host, ctx.Err())
		}
		return s.explain(next, banner, err)
	}
	if text := strings.TrimSpace(string(banner)); text != "" {
		s.log.Warn("something is printed before the server begins: is it the shell's start-up file, which should print nothing unless it is interactive?", "host", s.host, "printed", printable(text[:min(len(text), 200)]))
	}
	if theirs.Error != nil {
		return next.said(ctx, theirs.Error)
	}
	if _, err := theirs.agree(); err != nil {
		return fmt.Errorf("%s: %w", s.host, err)
	}
	if !unwatch() {
		return fmt.Errorf("connecting to %s: %w", s.host, limited.Err())
	}
	next.greeting = theirs
	next.conn = wire.NewClient(in, out, wire.Options{
		Log: s.log, Heartbeat: s.opt.Heartbeat, Silence: s.opt.Silence, Compress: s.opt.Compress && theirs.Compress,
	})
	s.log.Debug("connected", "store", s.name, "serves", theirs.Name, "program", theirs.Program)
	return nil
}

// explain returns why there was no greeting.
func (s *Store) explain(next *session, banner []byte, err error) error {
	switch {
	case errors.Is(err, errOldPeer):
		return fmt.Errorf("%s: %w: install this buttersink there, or say where it is if it stands beside the old one", s.host, err)
	case errors.Is(err, errEcho):
		return fmt.Errorf("%s: %w: is there a terminal in between (RequestTTY in ssh_config), or a forced command that is not buttersink?", s.host, err)
	}
	_, foreign := errors.AsType[*notHelloError](err)
	if !foreign && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: %w", s.host, err)
	}
	if foreign {
		return fmt.Errorf("%s: %w: is that a forced command, or a shell that prints something?", s.host, err)
	}
	// How the command ended says more.
	if why := next.reason(); why != nil {
		if strings.Contains(why.Error(), "unknown flag: --") {
			why = fmt.Errorf("%w: the buttersink there is older than this one: install this one there, too", why)
		}
		if text := said(banner); len(banner) > 0 {
			return fmt.Errorf("%w: %s", temporarily(why), text)
		}
		return temporarily(why)
	}
	return fmt.Errorf("%s: it ended without a word of buttersink's: %s", s.host, said(banner))
}

// said tells what was printed in place of a greeting.
func said(banner []byte) string {
	if text := strings.TrimSpace(string(banner)); text != "" {
		return "it printed " + quoteStart([]byte(text))
	}
	return "it printed nothing"
}

// reason is what the link knows of its end, which is here or close; nil if it
// knows nothing.
func (n *session) reason() error {
	n.ending.Do(func() {
		w, ok := n.link.(waiter)
		if !ok {
			return
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Wait() }()
		select {
		case n.ended = <-ended:
		case <-time.After(lingering):
			n.log.Debug("the server does not come to its end", "host", n.host)
			_ = n.link.Close()
			n.ended = <-ended
		}
	})
	return n.ended
}

// lingering is how long a far side may take to come to its end once it has said
// all.
const lingering = 5 * time.Second

// over reports whether the connection has ended.
func (n *session) over() bool {
	select {
	case <-n.conn.Done():
		return true
	default:
		return false
	}
}

// close ends the connection, if it has not ended, and waits a while for the server
// to come to its end.
func (n *session) close() {
	n.closing.Do(func() {
		if err := n.conn.Close(); err != nil {
			n.log.Debug("saying goodbye", "host", n.host, "error", err)
		}
		if errors.Is(n.conn.Err(), wire.ErrClosed) {
			// ssh does not end before it is rid of what has come.
			go func() { _, _ = io.Copy(io.Discard, n.link) }()
			if err := n.reason(); err != nil {
				n.log.Debug("the server has ended", "host", n.host, "error", err)
			}
		}
		carried := n.conn.Stats()
		n.log.Debug("the connection is closed", "host", n.host,
			"data sent", carried.PlainOut, "bytes sent", carried.WireOut, "data received", carried.PlainIn, "bytes received", carried.WireIn)
		if err := n.link.Close(); err != nil {
			n.log.Debug("the connection has ended", "host", n.host, "error", err)
		}
		n.stop()
	})
}

// lost returns what calls fail with that were under way when the connection
// ended.
func (n *session) lost() error {
	why := n.conn.Err()
	_, silent := errors.AsType[*wire.SilenceError](why)
	_, broken := errors.AsType[*wire.ProtocolError](why)
	if !silent && !broken && !errors.Is(why, wire.ErrClosed) {
		if reason := n.reason(); reason != nil {
			why = reason
		}
	}
	if strings.Contains(why.Error(), n.host) {
		return store.MarkTemporary(fmt.Errorf("the connection is lost: %w", why))
	}
	return store.MarkTemporary(fmt.Errorf("%s: the connection is lost: %w", n.host, why))
}

// failed returns the error of a call that did not come to its answer.
func (n *session) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case n.over():
		return n.lost()
	}
	return fmt.Errorf("%s: %w", n.host, err)
}

// call begins a call. It is cancelled when ctx ends, until the function that is
// returned is called.
func (n *session) call(ctx context.Context, r request) (c *wire.Call, unwatch func() bool, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, nil, fmt.Errorf("asking for %s: %w", r.Call, err)
	}
	c, err = n.conn.Call(ctx, text)
	if err != nil {
		return nil, nil, n.failed(ctx, err)
	}
	return c, context.AfterFunc(ctx, c.Cancel), nil
}

// answer takes the next answer of a call. The error is that of the answer, if it
// has one.
func (n *session) answer(ctx context.Context, c *wire.Call) (answer, error) {
	text, err := c.Receive(ctx)
	if err != nil {
		if errors.Is(err, io.EOF) && !n.over() {
			err = errors.New("a call ended without an answer")
		}
		return answer{}, n.failed(ctx, err)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return answer{}, fmt.Errorf("%s: reading an answer: %w", n.host, err)
	}
	return a, n.said(ctx, a.Error)
}

// said returns the error that the other side has answered.
func (n *session) said(ctx context.Context, f *failure) error {
	err := f.err(n.host)
	if err == nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	// It is being ended there, which is not to be taken for an end of ours.
	return store.MarkTemporary(fmt.Errorf("%s has given up: %s", n.host, printable(f.Text)))
}

// ask makes a call that has one answer.
func (n *session) ask(ctx context.Context, r request) (answer, error) {
	c, unwatch, err := n.call(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer c.Cancel()
	defer unwatch()
	return n.answer(ctx, c)
}

// change makes a call that changes something and has one answer. Where it is given
// up it returns when the other side is done with it, too.
func (n *session) change(ctx context.Context, r request) (answer, error) {
	a, err := n.ask(ctx, r)
	if err != nil && ctx.Err() != nil {
		n.settled()
	}
	return a, err
}

// settle waits until the other side has undone what it had begun for calls that
// were cancelled, as long as that is to be expected.
func (n *session) settle() error {
	if n.over() {
		return nil // and so it does, when it notices
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.waits.settle)
	defer cancel()
	_, err := n.ask(ctx, request{Call: callSettle})
	if err != nil && n.over() {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s has not said within %s that it has abandoned what was given up", n.host, n.waits.settle)
	}
	return err
}

// settled is settle where the error would be of no use.
func (n *session) settled() {
	if err := n.settle(); err != nil {
		n.log.Warn("giving up", "error", err)
	}
}

// list asks for an inventory.
func (n *session) list(ctx context.Context) (*snapshot.Inventory, error) {
	c, unwatch, err := n.call(ctx, request{Call: callList})
	if err != nil {
		return nil, err
	}
	defer c.Cancel()
	defer unwatch()
	inv, bad := readListing(&bounded{c, maxListing})
	if bad != nil {
		return nil, n.unread(ctx, c, bad)
	}
	if _, err = n.answer(ctx, c); err != nil {
		return nil, err
	}
	return inv, nil
}

// unread returns why data could not be read. Where they end too early the server
// says why in its answer, which follows them at once then.
func (n *session) unread(ctx context.Context, c *wire.Call, bad error) error {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	text, err := c.Receive(soon)
	var a answer
	switch {
	case ctx.Err() != nil || n.over():
		return n.failed(ctx, bad)
	case err == nil && json.Unmarshal(text, &a) == nil && a.Error != nil:
		return n.said(ctx, a.Error)
	}
	return fmt.Errorf("%s: %w", n.host, bad)
}

// maxListing is how much text of a listing is read.
const maxListing = 1 << 30

// bounded fails where more is read than it allows.
type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("it is too long")
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// sizes asks for what is noted about the streams of the snapshots at some paths.
func (n *session) sizes(ctx context.Context, paths []path) (map[snapshot.Edge]int64, error) {
	c, unwatch, err := n.call(ctx, request{Call: callKnownSizes, Paths: paths})
	if err != nil {
		return nil, err
	}
	defer c.Cancel()
	defer unwatch()
	sizes, bad := readSizes(&bounded{c, maxListing})
	if bad != nil {
		return nil, n.unread(ctx, c, bad)
	}
	if _, err = n.answer(ctx, c); err != nil {
		return nil, err
	}
	return sizes, nil
}
