package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// Writer seals one stream. It is used by one goroutine.
type Writer struct {
	ctx    context.Context
	top    io.Writer // the first stage, or dst itself
	stages []io.Closer
	// halt ends what runs outside of the stages; nil if nothing does.
	halt func()

	repeatable bool
	secret     []byte
	envelope   *envelope
	err        error // what ended it
}

var errClosed = errors.New("writing to a sealed stream that is closed")

// NewWriter returns a Writer that puts a sealed stream into dst. Nothing is put
// out before the first Write or Close. With a secret of an earlier Writer the
// same stream makes the same bytes as then; if the secret does not belong to
// these options, the error is ErrSecret. It may be nil.
//
// A key that gpg cannot use is an error here. Dst is written to by the goroutine
// that calls the Writer, except with gpg, where another one does it; when Close
// or Abort has returned, none does any more.
//
// When ctx ends, so does writing, with its cause as the error.
func NewWriter(ctx context.Context, dst io.Writer, o Options, secret []byte) (*Writer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	w := &Writer{ctx: ctx, top: dst, repeatable: true}
	form := o.Form()
	if err := w.recall(o, form, secret); err != nil {
		return nil, err
	}
	switch form.Cipher {
	case Age:
		s, err := newEncrypter(ctx, w.top, w.envelope, o.workers())
		if err != nil {
			return nil, err
		}
		w.push(s)
	case GPG:
		s, err := startGPG(ctx, w.top, o.Recipients)
		if err != nil {
			return nil, err
		}
		w.halt = s.end
		w.push(s)
	}
	if form.Compressed {
		s, err := newStage(ctx, w.top, o)
		if err != nil {
			w.Abort()
			return nil, err
		}
		w.push(s)
	}
	return w, nil
}

// newStage returns the stage that compresses.
func newStage(ctx context.Context, dst io.Writer, o Options) (io.WriteCloser, error) {
	if o.Gzip {
		return newGzipWriter(dst, o)
	}
	return newCompressor(ctx, dst, o)
}

// Usable says why nothing can be sealed for the recipients, as with a key that gpg
// does not have.
func (o Options) Usable(ctx context.Context) error {
	if len(o.Recipients) == 0 {
		return nil
	}
	w, err := NewWriter(ctx, io.Discard, Options{Recipients: o.Recipients}, nil)
	if err != nil {
		return err
	}
	w.Abort()
	return nil
}

// recall takes the keys out of the secret, or makes new ones.
func (w *Writer) recall(o Options, form Form, secret []byte) (err error) {
	switch {
	case form.Cipher == GPG || form.Gzip || form.Plain():
		w.repeatable = form.Plain()
		if len(secret) > 0 {
			return ErrSecret
		}
		return nil
	case len(secret) > 0:
		w.envelope, err = decodeSecret(secret, o)
	case form.Cipher == Age:
		w.envelope, err = newEnvelope(o.Recipients)
	}
	if err != nil {
		return err
	}
	w.secret = encodeSecret(o, w.envelope)
	return nil
}

func (w *Writer) push(s io.WriteCloser) {
	w.top = s
	w.stages = append([]io.Closer{s}, w.stages...)
}

// Secret is what NewWriter needs to make the same bytes of the same stream again,
// for as long as the Writer is neither closed nor aborted. Whoever has it can
// read the stream. It is nil where nothing is needed, and where nothing helps.
func (w *Writer) Secret() []byte { return bytes.Clone(w.secret) }

// Repeatable reports whether the same stream makes the same bytes again, with
// the secret if there is one.
func (w *Writer) Repeatable() bool { return w.repeatable }

// Write seals p. What comes of it may be put out later. After an error all
// further calls fail.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.ctx.Err() != nil {
		return 0, w.end(context.Cause(w.ctx))
	}
	n, err := w.top.Write(p)
	if err != nil {
		return n, w.end(err)
	}
	return n, nil
}

// Close puts out everything that is left. Only if it returns nil is the sealed
// stream whole.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.ctx.Err() != nil {
		return w.end(context.Cause(w.ctx))
	}
	for _, s := range w.stages {
		if err := s.Close(); err != nil {
			return w.end(err)
		}
	}
	w.end(errClosed)
	return nil
}

// Abort gives the stream up: nothing more is put out. After Close, or a second
// time, it does nothing.
func (w *Writer) Abort() {
	if w.err == nil {
		w.end(errors.New("the stream has been given up"))
	}
}

// end wipes the keys, ends what is running, and returns the error that all
// further calls get.
func (w *Writer) end(err error) error {
	w.err = err
	clear(w.secret)
	w.secret = nil
	if w.envelope != nil {
		w.envelope.clear()
		w.envelope = nil
	}
	if w.halt != nil {
		w.halt()
	}
	w.top, w.stages = nil, nil
	return err
}
