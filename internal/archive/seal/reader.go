package seal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// DamagedError says that what is read is not what was sealed.
type DamagedError struct {
	Form Form
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("the stored stream is damaged: %v", e.Err) }

func (e *DamagedError) Unwrap() error { return e.Err }

// NewReader returns a reader of the stream that was sealed into src, in a form.
// It gives io.EOF only when everything is as it was sealed and src has ended;
// otherwise *DamagedError, *NoKeyError, or, as it is, what src returned. The
// last, and what reading plain streams gives, is up to src.
//
// Src is read by the goroutine that reads, except with gpg. Close ends what runs
// and does not close src. With gpg a Read of src that is under way may go on
// after it; it is the last one.
func NewReader(ctx context.Context, src io.Reader, f Form, k Keys) (io.ReadCloser, error) {
	s := &source{ctx: ctx, src: src}
	if f.Plain() {
		return io.NopCloser(s), nil
	}
	r := &reader{form: f, source: s, top: s}
	switch f.Cipher {
	case None:
	case Age:
		if err := r.openAge(k); err != nil {
			return nil, r.explain(err)
		}
	case GPG:
		g, err := openGPG(ctx, s)
		if err != nil {
			return nil, err
		}
		r.top, r.halt = g, g.end
	default:
		return nil, fmt.Errorf("opening a stream: there is no cipher %q", f.Cipher)
	}
	switch {
	case f.Compressed && f.Gzip:
		r.top = &gunzipper{src: r.top}
	case f.Compressed:
		d, err := newDecompressor(ctx, r.top)
		if err != nil {
			_ = r.Close()
			return nil, err
		}
		r.top = d
	}
	return r, nil
}

// reader puts right what the errors of the stages say.
type reader struct {
	form   Form
	source *source
	top    io.Reader
	halt   func()
	err    error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.top.Read(p)
	if err != nil && err != io.EOF { // io.EOF within another error is no end
		err = r.explain(err)
	}
	r.err = err
	return n, err
}

// explain finds out what is behind an error.
func (r *reader) explain(err error) error {
	if r.source.err != nil {
		return r.source.err
	}
	if e, ok := errors.AsType[*NoKeyError](err); ok {
		e.Form = r.form
		return e
	}
	if e, ok := errors.AsType[*toolError](err); ok {
		return e
	}
	if r.source.ctx.Err() != nil {
		return context.Cause(r.source.ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return &DamagedError{Form: r.form, Err: err}
}

// Close ends what runs.
func (r *reader) Close() error {
	if r.halt != nil {
		r.halt()
		r.halt = nil
	}
	r.err = errors.New("reading a stream that is closed")
	return nil
}

// openAge reads the header.
func (r *reader) openAge(k Keys) error {
	if len(k.age) == 0 {
		return &NoKeyError{}
	}
	head := &limited{src: r.source, left: maxHeader + 64<<10}
	plain, err := age.Decrypt(bufio.NewReaderSize(head, sealedChunk), k.age...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return &NoKeyError{Given: true}
	}
	if err != nil {
		return err
	}
	head.left = -1
	r.top = plain
	return nil
}

// limited fails when more than left bytes are read, until left is negative.
type limited struct {
	src  io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return l.src.Read(p)
	}
	if l.left == 0 {
		return 0, errors.New("the header is too long")
	}
	n, err := l.src.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// source keeps the error of a reader, so that it is told from what others make
// of it.
type source struct {
	ctx context.Context
	src io.Reader
	err error // not io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.src.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
