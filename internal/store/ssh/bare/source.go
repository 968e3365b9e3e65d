package bare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Open runs btrfs send. The kernel there puts in the identities, received ones
// too, but its own transaction numbers: where a received snapshot came with
// another, that is what the stream gets. Clone sources are not used, though they
// have to be there.
func (s *Store) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, err := s.lookup(r.Edge.To)
	if err != nil {
		return nil, err
	}
	words := []string{"btrfs", "send"}
	if s.opt.Protocol > 1 {
		words = append(words, "--proto", strconv.FormatUint(uint64(s.opt.Protocol), 10))
	}
	var from snapshot.Snapshot
	if !r.Edge.IsFull() {
		if from, err = s.lookup(r.Edge.From); err != nil {
			return nil, err
		}
		words = append(words, "-p", s.at(from.Path))
	}
	for _, id := range r.Clones {
		if _, err := s.lookup(id); err != nil {
			return nil, err
		}
	}
	var id stream.Identity
	if id.Transid, id.ParentTransid, err = s.transids(ctx, to, from); err != nil {
		return nil, fmt.Errorf("sending %s: %w", s.at(to.Path), err)
	}
	p, err := s.link.start(ctx, append(words, s.at(to.Path))...)
	if err != nil {
		return nil, fmt.Errorf("sending %s: %w", s.at(to.Path), failed(ctx, err, nil))
	}
	_ = p.Input().Close()
	sent := &sending{ctx: ctx, process: p, path: s.at(to.Path)}
	if sent.stream, err = stream.RewriteHead(s.opt.Limit.Reader(ctx, &output{sent}), id); err != nil {
		return nil, errors.Join(err, sent.Close())
	}
	return sent, nil
}

// transids returns the transaction numbers that came with snapshots, zero for
// those that were made there, and asks for those that the listing left out.
func (s *Store) transids(ctx context.Context, to, from snapshot.Snapshot) (uint64, uint64, error) {
	c := s.script()
	unknown := 0
	for name, snap := range map[string]snapshot.Snapshot{"to": to, "from": from} {
		if snap.Received && snap.Transid == 0 {
			unknown++
			c.section(name, c.words("btrfs", "subvolume", "show", s.at(snap.Path)))
		}
	}
	if unknown == 0 {
		return to.Transid, from.Transid, nil
	}
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	for name, snap := range map[string]*snapshot.Snapshot{"to": &to, "from": &from} {
		shown, ok := sections[name]
		if !ok {
			continue
		}
		if shown.status != 0 {
			return 0, 0, missing(&commandError{"btrfs subvolume show", shown, said})
		}
		d, err := parseShow(shown.out, s.fromTop(snap.Path))
		switch {
		case err != nil:
			s.opt.Log.Warn("the transaction number that came with a snapshot is not known", "snapshot", s.at(snap.Path), "error", err)
		case d.uuid != snap.UUID:
			return 0, 0, fmt.Errorf("%w: another one is at %s now", store.ErrNotFound, s.at(snap.Path))
		default:
			snap.Transid = d.transid
			s.mu.Lock()
			s.shown[d.uuid] = d.transid
			s.mu.Unlock()
		}
	}
	return to.Transid, from.Transid, nil
}

// missing tells that what was listed is not there any more.
func missing(err *commandError) error {
	if strings.Contains(err.said, "No such file or directory") {
		return fmt.Errorf("%w: it has been removed since it was listed: %w", store.ErrNotFound, err)
	}
	return err
}

// sending is a stream on its way.
type sending struct {
	ctx     context.Context
	process process
	path    string
	stream  io.Reader
	closed  bool
}

// output is what btrfs send prints. Its end is that of the process, which says
// whether it was the end of the stream.
type output struct{ *sending }

func (o *output) Read(p []byte) (int, error) {
	n, err := o.process.Output().Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		err = o.process.Wait()
	}
	if err == nil && o.ctx.Err() == nil {
		return n, io.EOF
	}
	return n, fmt.Errorf("sending %s: %w", o.path, errors.Join(failed(o.ctx, err, o.process), o.ctx.Err()))
}

func (s *sending) Read(p []byte) (int, error) {
	if s.closed {
		return 0, os.ErrClosed
	}
	return s.stream.Read(p)
}

// Close ends btrfs send, which hears of it when it writes on.
func (s *sending) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	_ = s.process.Close()
	return nil
}

// renamed returns the first commands of a stream with another name in the first.
func renamed(p []byte, name string) ([]byte, error) {
	r, err := stream.RewriteHead(bytes.NewReader(p), stream.Identity{Path: name})
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
