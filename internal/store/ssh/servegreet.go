package ssh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// accepted is a client that can be served.
type accepted struct {
	store    store.Store
	mode     Mode // the client's own, never more than the server's
	compress bool
	in       io.Reader // what follows the client's greeting
}

// oldCommands are those with which a ButterSink that was written in Python may
// begin.
var oldCommands = []string{
	"version", "volumes", "edges", "measure", "send", "read", "receive", "write", "info", "keep",
	"listDelete", "delete", "listClean", "clean", "quit",
}

// oldAdvice is what the person in front of such a ButterSink reads.
const oldAdvice = "the buttersink on this machine does not speak the protocol of the ButterSink written in Python: install this one on the machine that began, too"

// greet hears the client's greeting, opens the store and answers.
func (o *ServeOptions) greet(ctx context.Context, in io.Reader, out io.Writer) (*accepted, error) {
	buffered := bufio.NewReaderSize(in, maxHello)
	asked, err := o.await(ctx, buffered, in)
	if none, ok := errors.AsType[*notHelloError](err); ok {
		return nil, o.turnAway(out, none)
	}
	if err != nil {
		return nil, err
	}
	a, err := o.accept(ctx, asked)
	answer := newGreeting(o.Program, true)
	if err != nil {
		answer.Error = failureOf(err)
	} else {
		a.in = behind(buffered, in)
		answer.describe(a.store)
	}
	text, bad := answer.hello()
	if bad == nil {
		_, bad = out.Write(text)
	}
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrRefused, err), bad)
	case bad != nil:
		return nil, errors.Join(bad, a.store.Close())
	}
	o.Log.Debug("serving", "client", printable(asked.Program), "mode", a.mode)
	return a, nil
}

// await waits for the client's greeting, but not for ever.
func (o *ServeOptions) await(ctx context.Context, buffered *bufio.Reader, in io.Reader) (greeting, error) {
	type heard struct {
		greeting
		error
	}
	line := make(chan heard, 1)
	go func() {
		g, err := readHello(buffered)
		line <- heard{g, err}
	}()
	late := time.NewTimer(o.Silence)
	defer late.Stop()
	var err error
	select {
	case h := <-line:
		if errors.Is(h.error, io.EOF) {
			h.error = errors.New("no client has greeted: this is the far side of a transfer, and is started by buttersink on another machine")
		}
		return h.greeting, h.error
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
		err = fmt.Errorf("no client has greeted within %s", o.Silence)
	}
	if c, ok := in.(io.Closer); ok {
		_ = c.Close() // or it would be read from for ever
	}
	return greeting{}, err
}

// behind returns what follows what has been read through a buffer.
func behind(buffered *bufio.Reader, in io.Reader) io.Reader {
	read, _ := buffered.Peek(buffered.Buffered())
	return io.MultiReader(bytes.NewReader(read), in)
}

// turnAway answers a client that has not greeted. An old ButterSink is told in
// its own way.
func (o *ServeOptions) turnAway(out io.Writer, none *notHelloError) error {
	word, _, _ := bytes.Cut(bytes.TrimSpace(none.line), []byte{' '})
	if !slices.Contains(oldCommands, string(word)) {
		return none
	}
	text, err := json.Marshal(struct {
		Error     string `json:"error"`
		ErrorType string `json:"errorType"`
		Command   string `json:"command"`
		Server    bool   `json:"server"`
		Traceback string `json:"traceback"`
	}{oldAdvice, "Exception", string(word), true, ""})
	if err == nil {
		_, err = out.Write(append(text, '\n'))
	}
	return errors.Join(fmt.Errorf("%w: %w", ErrRefused, errOldPeer), err)
}

// accept looks whether a client can be served, and opens the store for it.
func (o *ServeOptions) accept(ctx context.Context, asked greeting) (*accepted, error) {
	if _, err := asked.agree(); err != nil {
		return nil, err
	}
	if !sameDirectory(string(asked.Dir), o.Dir) {
		return nil, fmt.Errorf("only %s is served (is that a forced command?), and not %q", o.Dir, shortened(string(asked.Dir)))
	}
	if asked.Of != "" && o.Of != "" && !sameDirectory(string(asked.Of), o.Of) {
		return nil, fmt.Errorf("snapshots are made of %s only (is that a forced command?), and not of %q", o.Of, shortened(string(asked.Of)))
	}
	mode := asked.Mode
	if mode == "" {
		mode = Read
	}
	if _, err := ParseMode(string(mode)); err != nil {
		return nil, err
	}
	if !o.Mode.allows(mode) {
		return nil, fmt.Errorf("%s is served in mode %s, and mode %s was asked for: %w", o.Dir, o.Mode, mode, &ModeError{Mode: o.Mode, Call: "mode " + string(mode)})
	}
	asked.Wishes.Mode = mode
	st, err := o.Open(ctx, asked.Wishes)
	if err != nil {
		return nil, err
	}
	return &accepted{store: st, mode: mode, compress: asked.Compress}, nil
}

// sameDirectory reports whether what a client asks for is the directory that is
// served, whatever it calls it.
func sameDirectory(asked, served string) bool {
	if !filepath.IsAbs(asked) {
		return false
	}
	if filepath.Clean(asked) == filepath.Clean(served) {
		return true
	}
	a, err := os.Stat(asked)
	if err != nil {
		return false
	}
	b, err := os.Stat(served)
	return err == nil && os.SameFile(a, b)
}

// describe adds what a client needs to know of a store.
func (g *greeting) describe(st store.Store) {
	g.Name = st.String()
	if l, ok := st.(store.Located); ok {
		g.Location = path(l.Location())
	}
	if m, ok := st.(store.Measurer); ok {
		g.Forms = [2]string{m.Form(store.Request{}), m.Form(store.Request{Edge: snapshot.Edge{From: snapshot.ID{1}}})}
	}
}
