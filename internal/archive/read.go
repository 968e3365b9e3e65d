package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// DigestError says that what was read is not what was stored.
type DigestError struct {
	Key, Path string // of the object, of the snapshot
	// What differs: "the object", "the stream".
	What      string
	Want, Got Content
}

func (e *DigestError) Error() string {
	if e.Want.Bytes != e.Got.Bytes {
		return fmt.Sprintf("%s, of snapshot %s: %s is damaged: it has %d bytes in place of %d", printable(e.Key), printable(e.Path), e.What, e.Got.Bytes, e.Want.Bytes)
	}
	return fmt.Sprintf("%s, of snapshot %s: %s is damaged: its SHA-256 is %s, and was %s", printable(e.Key), printable(e.Path), e.What, e.Got.SHA256, e.Want.SHA256)
}

// Open starts the stream of an edge. It takes the smallest object that can be
// opened now, whatever the last listing has said: what was cold may have been
// thawed since.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	all := s.of(r.Edge)
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no stream of %s: %w", s, edgeText(r.Edge), store.ErrNotFound)
	}
	slices.SortStableFunc(all, func(a, b *stored) int {
		return cmp.Or(ordered(a.Cold, b.Cold), cmp.Compare(a.Size, b.Size))
	})
	var why error
	for _, o := range all {
		in, err := s.open(ctx, o)
		if err == nil {
			return in, nil
		}
		// What is wrong with the best one is told, if none is better.
		why = cmp.Or(why, err)
		if ctx.Err() != nil {
			break
		}
		if store.Temporary(err) {
			return nil, err
		}
	}
	return nil, why
}

func ordered(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func edgeText(e snapshot.Edge) string {
	if e.IsFull() {
		return e.To.String()
	}
	return fmt.Sprintf("%s from %s", e.To, e.From)
}

// open opens one object.
func (s *Store) open(ctx context.Context, o *stored) (io.ReadCloser, error) {
	there, err := s.bucket.Stat(ctx, o.Key)
	if err != nil {
		if errors.Is(err, ErrNoObject) {
			err = fmt.Errorf("%w: it has been removed since the archive was listed", store.ErrNotFound)
		}
		return nil, fmt.Errorf("opening %s: %w", printable(o.Key), err)
	}
	if there.Cold {
		return nil, &ColdError{Key: o.Key, Class: there.Class}
	}
	now := *o
	now.Object = there
	o = &now
	raw := s.rawOf(ctx, o.Object)
	in, err := s.plain(ctx, o, raw)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	p := in.(*plainStream)
	p.under = raw
	raw.last = p.want == nil
	return p, nil
}

// plain is the stream that an object holds, which is read from raw: opened, and
// at its end compared with its manifest. What is not as it was stored is an error
// in place of io.EOF. Closing it does not close raw.
func (s *Store) plain(ctx context.Context, o *stored, raw io.Reader) (io.ReadCloser, error) {
	p := &plainStream{o: o, length: snapshot.Size{}}
	if o.Form.Plain() {
		p.length = snapshot.ExactSize(o.Size)
	}
	if o.Described {
		m, err := s.manifest(ctx, o)
		switch {
		case err == nil:
			p.want = m
			if m.Plain.Bytes > 0 {
				p.length = snapshot.ExactSize(m.Plain.Bytes)
			}
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			s.log.Warn("the manifest of a stream cannot be used; what is read is checked by the sums in the stream alone",
				"object", printable(o.Key), "error", err)
		}
	}
	p.stored = &counted{r: raw}
	if p.want != nil && !p.want.Object.SHA256.IsZero() {
		p.stored.sum = sha256.New()
		if a, ok := raw.(*ahead); ok {
			a.sum, p.stored.elsewhere = p.stored.sum, true
		}
	}
	in, err := seal.NewReader(ctx, p.stored, o.Form, s.o.Keys)
	if err != nil {
		return nil, fmt.Errorf("opening %s, of snapshot %s: %w", printable(o.Key), printable(o.Path), err)
	}
	p.in = in
	p.plain = &counted{r: in}
	if !o.Form.Plain() && p.want != nil && !p.want.Plain.SHA256.IsZero() {
		p.plain.sum = sha256.New()
		p.plain.beside = &sideSum{sum: p.plain.sum}
	}
	return p, nil
}

// plainStream is a stream that is being read from an object.
type plainStream struct {
	o      *stored
	want   *Manifest // nil if there is none
	length snapshot.Size
	in     io.ReadCloser // what opens it
	under  io.Closer     // what it reads from, if that is its own
	stored *counted      // the object
	plain  *counted      // what is in it
	err    error
}

// Length is how many bytes reading to the end gives.
func (p *plainStream) Length() snapshot.Size { return p.length }

// Read implements io.Reader.
func (p *plainStream) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.plain.Read(b)
	if errors.Is(err, io.EOF) {
		err = p.compare()
	} else if damage, ok := errors.AsType[*seal.DamagedError](err); ok {
		err = fmt.Errorf("%s, of snapshot %s: %w", printable(p.o.Key), printable(p.o.Path), damage)
	}
	p.err = err
	return n, err
}

// compare compares what was read with what was stored; io.EOF if all is well.
func (p *plainStream) compare() error {
	if p.want == nil {
		return io.EOF
	}
	object, plain := p.stored.content(), p.plain.content()
	if p.o.Form.Plain() {
		plain.SHA256 = object.SHA256
	}
	for _, c := range []struct {
		what      string
		want, got Content
	}{
		{"the object", Content{p.want.Object.Bytes, p.want.Object.SHA256}, object},
		{"the stream", p.want.Plain, plain},
	} {
		if c.want.SHA256.IsZero() {
			c.got.SHA256 = Hash{}
		}
		if c.want != (Content{}) && c.want != c.got {
			return &DigestError{Key: p.o.Key, Path: p.o.Path, What: c.what, Want: c.want, Got: c.got}
		}
	}
	return io.EOF
}

// Close stops reading.
func (p *plainStream) Close() error {
	if p.err == nil {
		p.err = errClosed
	}
	p.plain.beside.end()
	err := p.in.Close()
	if p.under != nil {
		err = errors.Join(err, p.under.Close())
	}
	return err
}

// counted counts what is read, and sums it where there is something to compare
// with.
type counted struct {
	r io.Reader
	n int64
	digest
}

// digest is the SHA-256 of what is read, where it is wanted.
type digest struct {
	sum hash.Hash // nil where it is not
	// elsewhere is set where the source itself does the summing, beside where that
	// is done while the stream is read on.
	elsewhere bool
	beside    *sideSum
}

func (d *digest) add(p []byte) {
	switch {
	case d.beside != nil:
		d.beside.Write(p)
	case d.sum != nil && !d.elsewhere:
		d.sum.Write(p) // hashes never fail
	}
}

// hash is that of all that was added; zero where it is not wanted.
func (d *digest) hash() (h Hash) {
	d.beside.end()
	if d.sum != nil {
		d.sum.Sum(h[:0])
	}
	return h
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.add(p[:n])
	return n, err //nolint:wrapcheck // io.EOF among them
}

func (c *counted) content() Content {
	return Content{Bytes: c.n, SHA256: c.hash()}
}
