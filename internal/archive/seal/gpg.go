package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// gpgWriter is the stage that encrypts by running gpg.
type gpgWriter struct {
	*tool
	ctx  context.Context
	dst  io.Writer
	made bool // something has come of it
}

// encryptArgs has gpg encrypt for keys. What it compresses by itself, and how it
// dresses up its output, is not left to the user's settings.
func encryptArgs(to []Recipient) []string {
	args := []string{"--no-armor", "--no-textmode", "--no-for-your-eyes-only", "-z", "0", "--set-filename", "", "--output", "-"}
	for _, r := range to {
		args = append(args, "--recipient", r.name)
	}
	return append(args, "--encrypt")
}

// startGPG starts encryption, if gpg can use all the keys.
func startGPG(ctx context.Context, dst io.Writer, to []Recipient) (*gpgWriter, error) {
	for _, r := range to {
		if err := tryGPG(ctx, r); err != nil {
			return nil, err
		}
	}
	t, err := runGPG(ctx, encryptArgs(to)...)
	if err != nil {
		return nil, err
	}
	return &gpgWriter{tool: t, ctx: ctx, dst: dst}, nil
}

// tryGPG encrypts nothing for one key, which says more surely than any listing
// whether the key can be used.
func tryGPG(ctx context.Context, r Recipient) error {
	t, err := runGPG(ctx, encryptArgs([]Recipient{r})...)
	if err != nil {
		return err
	}
	w := &gpgWriter{tool: t, ctx: ctx, dst: io.Discard}
	err = w.Close()
	if err == nil || ctx.Err() != nil {
		return err
	}
	why := fmt.Errorf("it cannot be used: %s", t.words())
	switch s := &t.status; {
	case t.err == nil:
		return err
	case s.revoked || s.reason == "4":
		why = errors.New("it is revoked: use another one")
	case s.expired || s.reason == "5":
		why = errors.New("it has expired: renew it (gpg --quick-set-expire) or use another one")
	case s.reason == "1":
		why = errors.New("it is not in gpg's keyring: put it there (gpg --import FILE)")
	case s.reason == "10":
		why = errors.New("gpg does not trust that it belongs to whom it names: check its fingerprint and sign it (gpg --quick-lsign-key FINGERPRINT)")
	}
	return &toolError{fmt.Errorf("encrypting for the gpg key %q: %w", r.name, why)}
}

func (w *gpgWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m := min(toolBuffer, len(p)-n)
		select {
		case w.feed <- p[n : n+m]:
		case b, ok := <-w.outs:
			if err := w.pass(b, ok); err != nil {
				return n, err
			}
			continue
		}
		for taken := false; !taken; {
			select {
			case err := <-w.fed:
				if err != nil {
					return n, w.ended()
				}
				taken = true
			case b, ok := <-w.outs:
				if err := w.pass(b, ok); err != nil {
					w.stop()
					<-w.fed // p is the caller's again
					return n, err
				}
			}
		}
		n += m
	}
	return n, nil
}

// pass puts out what gpg has made; that it has ended is an error.
func (w *gpgWriter) pass(b []byte, ok bool) error {
	if !ok {
		return w.failed()
	}
	w.made = true
	_, err := w.dst.Write(b)
	w.back <- b
	return err
}

// ended waits for a gpg that does not want its input any more, to see why.
func (w *gpgWriter) ended() error {
	for b := range w.outs {
		w.back <- b
	}
	return w.failed()
}

// failed says why gpg ended before it should have.
func (w *gpgWriter) failed() error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return &toolError{fmt.Errorf("encrypting with gpg: %s", w.words())}
}

// Close ends the input and puts out what is left.
func (w *gpgWriter) Close() error {
	close(w.feed)
	for b := range w.outs {
		if err := w.pass(b, true); err != nil {
			return err
		}
	}
	if w.err != nil {
		return w.failed()
	}
	if !w.made { // which gpg calls a success with dry-run in its settings
		return &toolError{errors.New("encrypting with gpg: it makes nothing; look for dry-run in its gpg.conf")}
	}
	if w.status.exposed {
		return &toolError{errors.New("encrypting with gpg: it would not protect the stream against changes; look for rfc2440 in its gpg.conf")}
	}
	return nil
}

// gpgBound is the longest a stream of n bytes can get: gpg cuts it into pieces
// of 8 KiB with a length each, twice over.
func gpgBound(n int64, to []Recipient) int64 {
	return n + n/512 + 64<<10 + int64(len(to))*maxStanza
}

// gpgReader is the stage that decrypts by running gpg.
type gpgReader struct {
	*tool
	ctx context.Context
	src io.Reader
	// input is where it goes; nil when gpg has all of it, or wants no more.
	input chan<- []byte
	room  []byte // for what is read of src
	in    []byte // in room, and not handed to gpg yet
	busy  bool   // gpg has not taken in what it was handed
	out   []byte // of gpg, and not given out yet
	lent  []byte // what out is in
	left  bool   // gpg ended before the end of its input
}

func openGPG(ctx context.Context, src io.Reader) (*gpgReader, error) {
	t, err := runGPG(ctx, "--output", "-", "--decrypt")
	if err != nil {
		return nil, err
	}
	return &gpgReader{tool: t, ctx: ctx, src: src, input: t.feed, room: make([]byte, toolBuffer)}, nil
}

func (r *gpgReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.lent != nil {
			r.back <- r.lent
			r.lent = nil
		}
		b, ok, err := r.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, r.verdict()
		}
		r.out, r.lent = b, b
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next feeds gpg until it has something to say, or, if not ok, has ended.
func (r *gpgReader) next() (b []byte, ok bool, err error) {
	for {
		select {
		case b, ok := <-r.outs:
			return b, ok, nil
		default:
		}
		if r.input != nil && !r.busy && len(r.in) == 0 {
			n, err := r.src.Read(r.room)
			switch {
			case err != nil && err != io.EOF:
				return nil, false, err
			case n == 0 && err != nil:
				close(r.input)
				r.input = nil
			case n == 0:
				continue
			}
			r.in = r.room[:n]
		}
		var input chan<- []byte
		if !r.busy && len(r.in) > 0 {
			input = r.input
		}
		select {
		case b, ok := <-r.outs:
			return b, ok, nil
		case input <- r.in:
			r.in, r.busy = nil, true
		case err := <-r.fed:
			r.busy = false
			if err != nil { // it wants no more, and ends
				r.left = true
				close(r.input)
				r.input = nil
			}
		}
	}
}

// verdict says, when gpg has ended, whether what it gave is right.
func (r *gpgReader) verdict() error {
	s := &r.status
	switch {
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx)
	case r.err == nil && s.okay && s.intact && !s.manipulated:
		if r.left || r.input != nil {
			return errors.New("something follows its end")
		}
		return io.EOF
	case s.okay || s.manipulated || s.plain:
		return fmt.Errorf("gpg: %s", r.words())
	case s.locked:
		return &NoKeyError{Given: true}
	case s.noKey:
		return &NoKeyError{}
	case s.begun || s.noData:
		return fmt.Errorf("gpg: %s", r.words())
	}
	return &toolError{fmt.Errorf("decrypting with gpg: %s", r.words())}
}
