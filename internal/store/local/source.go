package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/compose"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// ends are the opened snapshots of an edge.
type ends struct {
	to, from         snapshot.Snapshot
	toFile, fromFile *os.File // fromFile is nil for a full edge
}

func (e *ends) Close() error {
	var errs []error
	for _, f := range []*os.File{e.toFile, e.fromFile} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// ends opens both ends of an edge.
func (s *Store) ends(e snapshot.Edge) (_ *ends, err error) {
	if err := s.needsTrees("sending from " + s.path); err != nil {
		return nil, err
	}
	var x ends
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	if x.to, err = s.lookup(e.To); err != nil {
		return nil, err
	}
	if x.toFile, err = s.openSnapshot(x.to); err != nil {
		return nil, err
	}
	if e.IsFull() {
		return &x, nil
	}
	if x.from, err = s.lookup(e.From); err != nil {
		return nil, err
	}
	x.fromFile, err = s.openSnapshot(x.from)
	return &x, err
}

// Open starts a stream: a full one is made here (package compose), an increment
// by the kernel. Its first command gets the effective transaction numbers of both
// ends; the kernel itself puts in the effective UUIDs, but the numbers of this
// file system.
//
// The kernel is not asked to pass compressed extents on as they are stored,
// though protocol 2 could: Linux 6.18 then leaves out the new size of a file that
// was allocated beyond a compressed inline extent, and no receiver can know it.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	x, err := s.ends(r.Edge)
	if err != nil {
		return nil, err
	}
	o, err := s.kernelSend(x, r)
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	if s.composes(r) {
		raw, err := compose.Send(ctx, x.toFile, s.composition())
		return s.identified(x, raw, err)
	}
	raw, err := btrfs.Send(ctx, x.toFile, o)
	if err == nil && x.fromFile != nil {
		raw = completed(ctx, x, raw, o.Protocol, false)
	}
	return s.identified(x, raw, err)
}

// composes reports whether a stream is made here.
func (s *Store) composes(r store.Request) bool { return r.Edge.IsFull() && !s.opt.KernelSend }

// composition says how streams are made here.
func (s *Store) composition() compose.Options {
	protocol := s.protocol()
	return compose.Options{Protocol: protocol, Compressed: protocol > 1 && !s.opt.Plain}
}

// kernelSend says how the kernel is to make a stream.
func (s *Store) kernelSend(x *ends, r store.Request) (btrfs.SendOptions, error) {
	o := btrfs.SendOptions{Parent: x.from.Handle, Protocol: s.protocol()}
	for _, id := range r.Clones {
		snap, err := s.lookup(id)
		if err != nil {
			return o, err
		}
		if snap.Handle != x.from.Handle && snap.Handle != x.to.Handle {
			o.CloneSources = append(o.CloneSources, snap.Handle)
		}
	}
	return o, nil
}

// Form tells streams by who makes them, by protocol, and by what else they may
// refer to.
func (s *Store) Form(r store.Request) string {
	if s.composes(r) {
		c := s.composition()
		form := fmt.Sprintf("composed %d", c.Protocol)
		if c.Compressed {
			form += " compressed"
		}
		return form
	}
	return store.FormWithClones(fmt.Sprintf("kernel %d", s.protocol()), r.Clones)
}

// identified gives a stream that has been started the identity of the edge. It
// takes over x, and err is why there is no stream.
func (s *Store) identified(x *ends, raw io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sending %s: %w", x.to.Path, retryable(err)), x.Close())
	}
	sent := &sending{ends: x, raw: raw}
	id := stream.Identity{UUID: stream.UUID(x.to.ID), Transid: x.to.Transid}
	if x.fromFile != nil {
		id.HasParent, id.Parent, id.ParentTransid = true, stream.UUID(x.from.ID), x.from.Transid
	}
	if sent.stream, err = stream.RewriteHead(sent.raw, id); err != nil {
		return nil, errors.Join(fmt.Errorf("sending %s: %w", x.to.Path, retryable(err)), sent.Close())
	}
	return sent, nil
}

// sending is a stream on its way, with what it keeps open.
type sending struct {
	stream io.Reader
	raw    io.ReadCloser
	ends   *ends
	closed bool
}

func (s *sending) Read(p []byte) (int, error) {
	if s.closed {
		return 0, os.ErrClosed
	}
	n, err := s.stream.Read(p)
	return n, retryable(err)
}

func (s *sending) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.raw.Close(), s.ends.Close())
}

// retryable marks what goes away by itself: extents that are being deduplicated.
func retryable(err error) error {
	if errors.Is(err, btrfs.ErrBusy) {
		return store.MarkTemporary(err)
	}
	return err
}

// protocol is the version of the streams that the store makes.
func (s *Store) protocol() uint32 {
	if s.opt.Protocol != 0 {
		return s.opt.Protocol
	}
	text, err := os.ReadFile("/sys/fs/btrfs/features/send_stream_version")
	if err != nil {
		return 1
	}
	version, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || version < 2 {
		return 1
	}
	return 2
}

// Estimate searches the snapshot's tree for extents and inodes that the edge's
// stream has to carry.
func (s *Store) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Size{}, err
	}
	x, err := s.ends(r.Edge)
	if err != nil {
		return snapshot.Size{}, err
	}
	estimate, err := btrfs.EstimateSend(ctx, x.toFile, x.fromFile)
	if err = errors.Join(err, x.Close()); err != nil {
		return snapshot.Size{}, fmt.Errorf("estimating %s: %w", x.to.Path, err)
	}
	if s.composes(r) && s.composition().Compressed {
		return snapshot.AboutSize(estimate.Compressed), nil
	}
	return snapshot.AboutSize(estimate.Plain), nil
}

// Measure reads the edge's stream without its data, which tells its length to
// the byte. (In protocol 1 the kernel decides otherwise about a few TRUNCATE
// commands then, each less than a path and 30 bytes.)
func (s *Store) Measure(ctx context.Context, req store.Request) (snapshot.Size, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Size{}, err
	}
	x, err := s.ends(req.Edge)
	if err != nil {
		return snapshot.Size{}, err
	}
	path := x.to.Path
	if s.composes(req) {
		length, err := compose.Measure(ctx, x.toFile, s.composition())
		if err = errors.Join(err, x.Close()); err != nil {
			return snapshot.Size{}, fmt.Errorf("measuring %s: %w", path, err)
		}
		return snapshot.ExactSize(length), nil
	}
	o, err := s.kernelSend(x, req)
	if err != nil {
		return snapshot.Size{}, errors.Join(err, x.Close())
	}
	o.MetadataOnly = true
	raw, err := btrfs.Send(ctx, x.toFile, o)
	if err == nil && x.fromFile != nil {
		raw = completed(ctx, x, raw, o.Protocol, true)
	}
	r, err := s.identified(x, raw, err)
	if err != nil {
		return snapshot.Size{}, err
	}
	length, err := stream.MeasureMetadata(stream.NewReader(r))
	if err = errors.Join(err, r.Close()); err != nil {
		return snapshot.Size{}, fmt.Errorf("measuring %s: %w", path, err)
	}
	return snapshot.ExactSize(length), nil
}

// Prove looks at the inodes of a snapshot that has changed after it was marked
// as received.
func (s *Store) Prove(ctx context.Context, snap snapshot.Snapshot) (snapshot.Trust, error) {
	if err := ctx.Err(); err != nil {
		return snap.Trust, err
	}
	if snap.Trust != snapshot.Doubtful {
		return snap.Trust, nil
	}
	if err := s.needsTrees("examining " + snap.Path); err != nil {
		return snap.Trust, err
	}
	f, err := s.openSnapshot(snap)
	if err != nil {
		return snap.Trust, err
	}
	untouched, err := btrfs.Untouched(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return snap.Trust, fmt.Errorf("examining %s: %w", snap.Path, err)
	}
	if untouched {
		return snapshot.Intact, nil
	}
	return snapshot.Touched, nil
}
