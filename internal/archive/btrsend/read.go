package btrsend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Open starts the stream of a backup, with the identities of the edge in it. It
// fails with *archive.ColdError where the archive has not been thawed.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	b, err := s.of(r.Edge)
	if err != nil {
		return nil, err
	}
	in, err := s.open(ctx, b, r.Edge)
	if err != nil {
		return nil, fmt.Errorf("opening the backup of %s in %s: %w", b.path, s.vault, err)
	}
	return in, nil
}

func (s *Store) open(ctx context.Context, b *backup, as snapshot.Edge) (io.ReadCloser, error) {
	raw := &pieces{ctx: ctx, s: s, archive: b.Archive}
	head := bufio.NewReaderSize(raw, 4<<10)
	begin, err := head.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, raw.Close())
	}
	form := seal.Form{Compressed: true, Gzip: true, Cipher: seal.GPG}
	if string(begin) == "\x1f\x8b" { // who had left out gpg
		form.Cipher = seal.None
	}
	plain, err := seal.NewReader(ctx, head, form, s.o.Keys)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	o := &opened{plain: plain, raw: raw}
	commands := stream.NewReader(plain)
	id, err := commands.Identity()
	if err == nil {
		err = s.fits(b, id)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	o.Reader = stream.RewriteAll(commands, stream.UUID(as.To), stream.UUID(as.From))
	return o, nil
}

// unfitError says that a stream is not the one that there should be.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

func unfit(format string, args ...any) error { return &unfitError{fmt.Sprintf(format, args...)} }

// fits compares what a stream says of itself with what is known of the backup, and
// remembers it. As the UUIDs are replaced, nobody would notice later on.
func (s *Store) fits(b *backup, id stream.Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := snapshot.ID(id.UUID).String()
	parent := s.known.byID[b.from]
	switch {
	case id.HasParent && b.Parent == "":
		return unfit("it is said to be complete, and its stream builds on %s", snapshot.ID(id.Parent))
	case !id.HasParent && b.Parent != "":
		return unfit("it is said to build on that of %s, and its stream is complete", b.Parent)
	case b.Stream != "" && b.Stream != own:
		return unfit("its stream is of %s, and that of %s was stored", own, b.Stream)
	case parent != nil && parent.Stream != "" && parent.Stream != snapshot.ID(id.Parent).String():
		return unfit("it is said to build on that of %s, which is of %s, and its stream builds on %s", b.Parent, parent.Stream, snapshot.ID(id.Parent))
	}
	b.Stream = own
	return nil
}

// opened is a stream that is being read.
type opened struct {
	io.Reader
	plain, raw io.Closer
}

func (o *opened) Close() error { return errors.Join(o.plain.Close(), o.raw.Close()) }

// pieces reads an archive, a range after the other, and goes on where a connection
// has broken.
type pieces struct {
	ctx     context.Context //nolint:containedctx // of the one stream that this is
	s       *Store
	archive string
	offset  int64
	left    int64 // of the range
	body    io.ReadCloser
	broken  int // how many times in a row nothing has come
	err     error
}

const (
	// rangeSize is how much is asked for at a time: 1 MiB times a power of two, so
	// that the vault tells the hash of it.
	rangeSize = 64 << 20
	// patience is how many times in a row nothing may come.
	patience = 5
)

func (p *pieces) Read(b []byte) (int, error) {
	for p.err == nil {
		n, err := p.read(b)
		if n > 0 {
			p.broken = 0
		}
		p.err = p.again(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, p.err
}

// read reads something, or ends a range.
func (p *pieces) read(b []byte) (int, error) {
	if p.body == nil {
		p.left = rangeSize - p.offset%rangeSize
		body, err := p.s.vault.Get(p.ctx, p.archive, p.offset, p.left)
		if err != nil {
			return 0, err
		}
		p.body = body
	}
	n, err := p.body.Read(b)
	p.offset, p.left = p.offset+int64(n), p.left-int64(n)
	if err == io.EOF {
		_ = p.drop() // all of it has come
		if p.left == 0 {
			return n, nil
		}
	}
	return n, err
}

// again decides whether reading goes on after an error.
func (p *pieces) again(err error) error {
	if err == nil || !store.Temporary(err) || p.ctx.Err() != nil || p.broken >= patience {
		return err
	}
	p.broken++
	p.s.log.Debug("reading an archive again from where it broke off", "archive", p.archive, "offset", p.offset, "error", err)
	_ = p.drop() // it is broken
	select {
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	case <-time.After(time.Duration(p.broken-1) * time.Second):
	}
	return nil
}

func (p *pieces) drop() error {
	if p.body == nil {
		return nil
	}
	body := p.body
	p.body = nil
	return body.Close()
}

// Close ends it.
func (p *pieces) Close() error {
	if p.err == nil {
		p.err = errors.New("reading an archive that is closed")
	}
	return p.drop()
}
