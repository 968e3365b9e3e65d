package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// The server believes nothing that it is told. The mode and the directory are its
// own command line's; a client can ask for less than the mode, not for more. What
// a call may do is looked up in one table (services) before anything else
// happens. Paths are checked here and again by the store; which snapshot is to be
// removed or looked at closer is found in the server's own listing, and nothing
// that lies outside of the directory is served (confine.go). A stream is
// taken apart on its way in (incoming.go), and only whole commands with the right
// checksums go on to the store, of the identity that was announced. The store sees
// the end of it as a commit only when the client has said so and END has come.
//
// Each call is served by a goroutine of its own, which ends what it has begun
// before the call's last message leaves: who has the answer finds things settled.
// A call that the client gives up has no answer, so the calls that come after it
// wait until it is over. When the client is gone, all calls end: writers are
// closed, which keeps what a later run can carry on from, and locks are released.
//
// In memory are the last listing (about 1 KiB for each snapshot), and for each
// open stream the buffers of the store and at most 1 MiB; a client cannot have
// more than wire.Options.MaxCalls of them. One note at a time takes up to three times
// store.MaxNote.

// ServeOptions say what a server serves, and to whom.
type ServeOptions struct {
	// Mode is what the client may do at most.
	Mode Mode
	// Dir is the directory that is served: an absolute path.
	Dir string
	// Of is the absolute path of the subvolume that the store makes snapshots of, if
	// it makes any. A client that means another one is refused.
	Of string
	// Open opens the store in Dir. It is called once, when the client has said
	// what it wishes; the server closes what it gets.
	Open func(ctx context.Context, w Wishes) (store.Store, error)
	// Program is the version of the program, for people.
	Program string
	// Log gets what an operator of this machine may want to know: every change
	// that a client has made, and what it was refused. Nil is silence.
	Log *slog.Logger
	// Heartbeat and Silence are those of wire.Options. The client has to greet
	// within Silence, too.
	Heartbeat, Silence time.Duration
}

// ErrRefused is wrapped by errors of Serve of which the client has been told:
// nothing has been served.
var ErrRefused = errors.New("the client was refused")

// defaultSilence is that of wire.Options.
const defaultSilence = time.Minute

// Serve serves one client, which speaks on in and is answered on out, until it
// says goodbye or in ends. It returns an error if there was no client that could
// be served (ErrRefused, if it has been told), or if the connection broke. It
// does not close in and out, but where it gives up waiting for a greeting it closes
// an in that can be closed.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o ServeOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Silence <= 0 {
		o.Silence = defaultSilence
	}
	accepted, err := o.greet(ctx, in, out)
	if err != nil {
		return fmt.Errorf("serving %s: %w", o.Dir, err)
	}
	s := &server{
		st: accepted.store, mode: accepted.mode, log: o.Log,
		running: map[*wire.Call]*running{}, made: map[string]snapshot.ID{}, fresh: map[snapshot.ID]bool{}, chosen: map[snapshot.ID]string{}, warned: map[string]bool{},
		noting: make(chan struct{}, 1),
	}
	conn := wire.NewServer(accepted.in, out, wire.Options{
		Log: o.Log, Heartbeat: o.Heartbeat, Silence: o.Silence, Compress: accepted.compress,
	})
	err = errors.Join(s.serve(ctx, conn), s.st.Close())
	if err != nil {
		return fmt.Errorf("serving %s: %w", o.Dir, err)
	}
	return nil
}

// server serves one client.
type server struct {
	st   store.Store
	mode Mode
	log  *slog.Logger

	work  sync.WaitGroup
	ended <-chan struct{} // closed when the client is gone

	noting  chan struct{} // has room for who has a note in memory
	listing sync.Mutex    // held while the store is listed: what it knows is what is noted here

	mu      sync.Mutex
	running map[*wire.Call]*running
	listed  *listing               // of the last list; nil before
	made    map[string]snapshot.ID // what this client has made, by path
	fresh   map[snapshot.ID]bool   // of that, what the last list may have missed
	chosen  map[snapshot.ID]string // since the client's last list
	warned  map[string]bool        // calls that were refused
}

// running is a call that is being served.
type running struct {
	over  chan struct{} // closed when it is over
	locks bool          // it is there to hold a lock of the store
}

// serve serves calls until the connection ends, and then until all of them have
// ended.
func (s *server) serve(ctx context.Context, conn *wire.Conn) error {
	var err error
	s.ended = conn.Done()
	for {
		call, raw, failed := conn.Accept(ctx)
		if failed != nil {
			err = failed
			break
		}
		// One after the other, since one may take a multiple of its length meanwhile.
		q, bad := parseRequest(raw)
		r := &running{over: make(chan struct{})}
		s.mu.Lock()
		s.running[call] = r
		s.mu.Unlock()
		s.work.Go(func() {
			s.handle(call, q, bad)
			s.mu.Lock()
			delete(s.running, call)
			s.mu.Unlock()
			close(r.over)
		})
	}
	_ = conn.Close() // which ends the calls
	s.work.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// handle serves one call and ends it. Bad is why its request cannot be read.
func (s *server) handle(call *wire.Call, q *request, bad error) {
	ctx := call.Context()
	name := "?"
	last, err := func() (answer, error) {
		if bad != nil {
			return answer{}, bad
		}
		name = shortened(q.Call)
		what, err := s.mode.permits(q.Call)
		if err != nil {
			s.refused(err)
			return answer{}, err
		}
		if err := s.settle(ctx); err != nil {
			return answer{}, err
		}
		return what.serve(s, ctx, call, q)
	}()
	if last.Error = failureOf(err); err != nil {
		s.log.Debug("failed", "call", name, "error", err)
	}
	if err := call.End(encode(last)); err != nil {
		s.log.Debug("the answer could not be sent", "call", name, "error", err)
	}
}

// refused tells the operator that a client has tried what it may not, once for each
// call.
func (s *server) refused(err error) {
	mode, ok := errors.AsType[*ModeError](err)
	if !ok {
		return // it is no call at all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.warned[mode.Call] {
		s.warned[mode.Call] = true
		s.log.Warn("refused", "call", mode.Call, "mode", s.mode)
	}
}

// settle waits until the calls are over that the client has given up: what they
// have begun could be in the way.
func (s *server) settle(ctx context.Context) error {
	return s.wait(ctx, func(call *wire.Call, _ *running) bool { return call.Context().Err() != nil })
}

// settleAll does so when the client is gone, which is when all of them are given
// up. Until then the store stays locked: who comes next finds it in order.
func (s *server) settleAll() {
	select {
	case <-s.ended:
		_ = s.wait(context.Background(), func(_ *wire.Call, r *running) bool { return !r.locks })
	default:
	}
}

// wait waits until some of the calls are over.
func (s *server) wait(ctx context.Context, which func(*wire.Call, *running) bool) error {
	s.mu.Lock()
	var waits []chan struct{}
	for call, r := range s.running {
		if which(call, r) {
			waits = append(waits, r.over)
		}
	}
	s.mu.Unlock()
	for _, over := range waits {
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tell sends a message that is not the last one.
func tell(ctx context.Context, call *wire.Call, a answer) error {
	if err := call.Send(ctx, encode(a)); err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	return nil
}

// hear waits for the client's next message.
func hear(ctx context.Context, call *wire.Call) (instruction, error) {
	raw, err := call.Receive(ctx)
	if err != nil {
		return instruction{}, err
	}
	var i instruction
	if err := json.Unmarshal(raw, &i); err != nil {
		return instruction{}, fmt.Errorf("reading an instruction: %w", err)
	}
	return i, nil
}

// encode returns an answer as it is sent, or one that says why it cannot be sent.
func encode(a answer) []byte {
	raw, err := json.Marshal(a)
	if err == nil && len(raw) > wire.MaxRequest {
		err = fmt.Errorf("the answer has %d bytes, and may have %d: ask for less at once", len(raw), wire.MaxRequest)
	}
	if err != nil {
		raw, _ = json.Marshal(answer{Error: failureOf(fmt.Errorf("answering: %w", err))})
	}
	return raw
}
