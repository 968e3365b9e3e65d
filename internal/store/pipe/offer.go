package pipe

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"regexp"
	"sync"
	"syscall"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// OfferOptions say which program is offered a snapshot.
type OfferOptions struct {
	// Program is its file, and Args are its arguments.
	Program string
	Args    []string
	// Dir is where it runs; empty is the directory of this process. Env is its
	// environment.
	Dir string
	Env []string
	// As is whom it runs as; nil is the user of this process.
	As *syscall.Credential
	// Log gets what it prints beside its answer, the first 64 KiB; nil drops it.
	Log *slog.Logger
}

// Offer is a program that is told of one snapshot and says itself what it wants of
// it: the other side of what btrsend does. It is run with the snapshot's name among
// its arguments, answers with one line, and is given one stream on its standard
// input if it asks for one:
//
//	(nothing)      it wants no backup
//	c              it wants the snapshot in full
//	i 2014-01-01   it wants the increment from the snapshot of that name
//
// It may end before it has answered, and wants nothing then; what its exit status
// says counts either way. As with a Store, it never sees the end of an input that
// is not whole: it is ended with all that it has started.
//
// It is the destination of one stream: a store.Sink of which Create works once.
type Offer struct {
	o      OfferOptions
	answer *answer
	run    *run

	mu     sync.Mutex
	given  bool // Create has been called
	taken  bool
	failed error // what the first stream has come to
}

// BeginOffer runs a program. When ctx ends, so does the program.
func BeginOffer(ctx context.Context, o OfferOptions) (*Offer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cmd := exec.Command(o.Program, o.Args...)
	cmd.Dir, cmd.Env = o.Dir, o.Env
	share := &allowance{left: mostSaid}
	rest, errs := &lines{log: o.Log, what: o.Program, share: share}, &lines{log: o.Log, what: o.Program, share: share}
	f := &Offer{o: o, answer: &answer{rest: rest, whole: make(chan struct{})}}
	var err error
	if f.run, err = startCommand(ctx, cmd, f.answer, errs, o.As); err != nil {
		return nil, err
	}
	return f, nil
}

// String names the program.
func (f *Offer) String() string { return printable(f.o.Program) }

// List says that nothing is known of what the program has.
func (f *Offer) List(ctx context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{Archive: true, Dir: "/"}, ctx.Err()
}

// Wish waits for the program's answer: whether it wants the snapshot, and on top of
// which other one, by its name; in full if that is empty. It is an error if the
// program ends badly without an answer, or says what cannot be understood.
func (f *Offer) Wish(ctx context.Context) (wanted bool, parent string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking %s what it wants: %w", f, err)
		}
	}()
	select {
	case <-f.answer.whole:
		return f.answer.wish()
	case <-f.run.done:
	case <-ctx.Done():
		return false, "", context.Cause(ctx)
	}
	select {
	case <-f.answer.whole: // and then it has ended: whoever gives it the stream finds that out
		return f.answer.wish()
	default:
	}
	if f.run.status != nil {
		return false, "", f.run.status
	}
	return false, "", f.answer.unfinished()
}

// Create makes ready for the one stream.
func (f *Offer) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.given {
		return nil, cmp.Or(f.failed, fmt.Errorf("giving %s to %s: a program is given one stream", printable(want.Path), f))
	}
	f.given = true
	return &offerWriter{f: f, ctx: ctx, want: want}, nil
}

// Done waits for a program that wants nothing to end.
func (f *Offer) Done(ctx context.Context) error {
	if err := f.run.finish(ctx); err != nil {
		return fmt.Errorf("waiting for %s: %w", f, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = true
	return nil
}

// Close ends the program, unless it has taken what it wanted, and ended.
func (f *Offer) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run == nil {
		return nil
	}
	err := f.run.close(f.taken)
	f.run = nil
	return err
}

// offerWriter gives a program its stream.
type offerWriter struct {
	f     *Offer
	ctx   context.Context
	want  store.Want
	tally stream.Tally
	begun bool
	err   error
}

func (w *offerWriter) fail(err error) error {
	if w.err == nil {
		w.err = fmt.Errorf("giving %s to %s: %w", printable(w.want.Path), w.f, err)
		w.f.mu.Lock()
		w.f.failed = w.err
		w.f.mu.Unlock()
	}
	return w.err
}

// Write takes whole commands.
func (w *offerWriter) Write(p []byte) (int, error) {
	if w.err != nil || len(p) == 0 {
		return 0, w.err
	}
	if w.ctx.Err() != nil {
		return 0, w.fail(context.Cause(w.ctx))
	}
	if _, err := w.tally.Write(p); err != nil {
		return 0, w.fail(err)
	}
	if !w.begun {
		if err := announced(&w.tally, w.want); err != nil {
			return 0, w.fail(err)
		}
		w.begun = true
	}
	n, err := w.f.run.Write(p)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

// Commit ends the program's input and waits until it has ended too.
func (w *offerWriter) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	if err := w.tally.Whole(); err != nil {
		return w.fail(err)
	}
	if err := w.f.Done(ctx); err != nil {
		return w.fail(errors.Unwrap(err))
	}
	return nil
}

// Close leaves the ending to the Offer: until that is closed, the program's input
// is open, and what it has of a stream that was cut does not look whole.
func (w *offerWriter) Close() error { return nil }

// mostSaid is how much of what a program prints is shown, in bytes: whose programs
// they are may fill no log of ours.
const mostSaid = 64 << 10

// longestAnswer is how long an answer may be, in bytes: names of snapshots are
// dates there.
const longestAnswer = 64

// answer is what a program prints: its first line is the answer.
type answer struct {
	rest  *lines
	whole chan struct{} // closed when the line is there, or can be none
	line  []byte
	ended bool
}

func (a *answer) Write(p []byte) (int, error) {
	n := len(p)
	if !a.ended {
		end := bytes.IndexByte(p, '\n')
		take := p
		if end >= 0 {
			take = p[:end]
		}
		take = take[:min(len(take), longestAnswer+1-len(a.line))]
		a.line = append(a.line, take...)
		if end < 0 && len(a.line) <= longestAnswer {
			return n, nil
		}
		a.ended = true
		close(a.whole)
		if end < 0 {
			return n, nil
		}
		p = p[end+1:]
	}
	_, err := a.rest.Write(p)
	return n, err
}

// end tells what the program has said last.
func (a *answer) end() { a.rest.end() }

var increment = regexp.MustCompile(`^i ([0-9]{4}-[0-9]{2}-[0-9]{2})$`)

// wish reads the answer once it is whole.
func (a *answer) wish() (wanted bool, parent string, err error) {
	switch m := increment.FindSubmatch(a.line); {
	case m != nil:
		return true, string(m[1]), nil
	case string(a.line) == "c":
		return true, "", nil
	case len(a.line) == 0:
		return false, "", nil
	}
	return false, "", fmt.Errorf("%s is no answer: want nothing, or \"c\", or \"i YYYY-MM-DD\"", printable(string(a.line[:min(len(a.line), longestAnswer)])))
}

// unfinished is what is wrong with the answer of a program that has ended well
// within its first line.
func (a *answer) unfinished() error {
	if len(a.line) == 0 {
		return nil
	}
	return fmt.Errorf("the answer %s has no line end: the program has ended within it", printable(string(a.line)))
}
