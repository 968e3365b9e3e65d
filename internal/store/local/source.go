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

// Open starts a kernel send. The first command of the stream gets the effective
// transaction numbers of both ends; the kernel itself puts in the effective
// UUIDs, but the numbers of this file system.
//
// Compressed extents are not passed on as they are stored, though protocol 2
// could: Linux 6.18 then leaves out the new size of a file that was allocated
// beyond a compressed inline extent, and no receiver can know it.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	x, err := s.ends(r.Edge)
	if err != nil {
		return nil, err
	}
	return s.send(ctx, x, btrfs.SendOptions{Parent: x.from.Handle, Protocol: s.protocol()})
}

// send starts a stream and gives it the identity of the edge. It takes over x.
func (s *Store) send(ctx context.Context, x *ends, o btrfs.SendOptions) (io.ReadCloser, error) {
	raw, err := btrfs.Send(ctx, x.toFile, o)
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
	estimate, err := btrfs.EstimateSend(x.toFile, x.fromFile)
	if err = errors.Join(err, x.Close()); err != nil {
		return snapshot.Size{}, fmt.Errorf("estimating %s: %w", x.to.Path, err)
	}
	return snapshot.AboutSize(estimate.Plain), nil
}

// Measure reads the edge's stream without its data, which tells its length to
// the byte. (In protocol 1 the kernel decides otherwise about a few TRUNCATE
// commands then, each less than a path and 30 bytes.)
func (s *Store) Measure(ctx context.Context, req store.Request) (snapshot.Size, error) {
	x, err := s.ends(req.Edge)
	if err != nil {
		return snapshot.Size{}, err
	}
	path := x.to.Path
	r, err := s.send(ctx, x, btrfs.SendOptions{Parent: x.from.Handle, Protocol: s.protocol(), MetadataOnly: true})
	if err != nil {
		return snapshot.Size{}, err
	}
	length, err := stream.MeasureMetadata(stream.NewReader(r))
	if err = errors.Join(err, r.Close()); err != nil {
		return snapshot.Size{}, fmt.Errorf("measuring %s: %w", path, err)
	}
	return snapshot.ExactSize(length), nil
}

// Form tells streams by protocol.
func (s *Store) Form(store.Request) string { return fmt.Sprintf("stream %d", s.protocol()) }

// Prove looks at the inodes of a snapshot that has changed after it was marked
// as received.
func (s *Store) Prove(ctx context.Context, snap snapshot.Snapshot) (snapshot.Trust, error) {
	if err := ctx.Err(); err != nil {
		return snap.Trust, err
	}
	if snap.Trust != snapshot.Doubtful {
		return snap.Trust, nil
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
