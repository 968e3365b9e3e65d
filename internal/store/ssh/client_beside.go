package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// newer says what to do about a server that is older than what it was asked for.
func (s *Store) newer(err error) error {
	if err != nil && strings.Contains(err.Error(), unknownCall) {
		return fmt.Errorf("%w: the buttersink on %s is older than this one: install this one there, too", err, s.host)
	}
	return err
}

// Origin asks for the UUID of the subvolume that Options.Of names.
func (s *Store) Origin(ctx context.Context) (snapshot.ID, error) {
	if s.opt.Of == "" {
		return snapshot.ID{}, fmt.Errorf("%s: %w", s.name, store.ErrNoOrigin)
	}
	a, err := s.learn(ctx, request{Call: callOrigin})
	if err != nil {
		return snapshot.ID{}, s.newer(err)
	}
	if a.ID.IsZero() {
		return snapshot.ID{}, fmt.Errorf("%s does not say which subvolume snapshots are made of", s.host)
	}
	return a.ID, nil
}

// Snapshot has the server make a snapshot of the subvolume that Options.Of names.
// Where the connection is lost meanwhile, it may have been made.
func (s *Store) Snapshot(ctx context.Context, p string) (snapshot.Snapshot, error) {
	if s.opt.Of == "" {
		return snapshot.Snapshot{}, fmt.Errorf("%s: %w", s.name, store.ErrNoOrigin)
	}
	n, err := s.current(ctx)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	a, err := n.change(ctx, request{Call: callSnapshot, Path: path(p)})
	if err != nil {
		return snapshot.Snapshot{}, s.newer(err)
	}
	if a.Snapshot == nil || string(a.Snapshot.Path) != p || a.Snapshot.Outside {
		return snapshot.Snapshot{}, fmt.Errorf("%s does not say what it has made at %s", s.host, p)
	}
	made, err := a.Snapshot.snapshot()
	if err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("%s: %w", s.host, err)
	}
	return made, nil
}

// ReadNote asks for a note.
func (s *Store) ReadNote(ctx context.Context, name string) (note []byte, err error) {
	err = s.again(ctx, func(n *session) (err error) {
		note, err = n.readNote(ctx, name)
		return err
	})
	return note, s.newer(err)
}

func (n *session) readNote(ctx context.Context, name string) ([]byte, error) {
	c, unwatch, err := n.call(ctx, request{Call: callReadNote, Name: name})
	if err != nil {
		return nil, err
	}
	defer c.Cancel()
	defer unwatch()
	note, bad := io.ReadAll(io.LimitReader(c, store.MaxNote+1))
	if bad != nil {
		return nil, n.unread(ctx, c, bad)
	}
	if len(note) > store.MaxNote {
		return nil, fmt.Errorf("%s: reading %s: it has more than %d bytes", n.host, name, store.MaxNote)
	}
	if _, err := n.answer(ctx, c); err != nil {
		return nil, err
	}
	if len(note) == 0 {
		return nil, nil
	}
	return note, nil
}

// WriteNote sends a note. Where the connection is lost meanwhile, it is looked at
// on a new one: what has been written then is written once more, since only an
// answer says that it is durable.
func (s *Store) WriteNote(ctx context.Context, name string, data, was []byte) error {
	if len(data) > store.MaxNote {
		return fmt.Errorf("writing %s to %s: it would have %d bytes, and may have %d", name, s.name, len(data), store.MaxNote)
	}
	if !s.opt.Mode.allows(services[callWriteNote].least) {
		// Who runs the server is told of what a client tries, and this was never asked for.
		return fmt.Errorf("writing %s to %s: %w", name, s.name, &ModeError{Mode: s.opt.Mode, Call: callWriteNote})
	}
	for try := 1; ; try++ {
		n, err := s.current(ctx)
		if err == nil && try > 1 {
			var now []byte
			if now, err = n.readNote(ctx, name); err == nil && bytes.Equal(now, data) {
				was = data
			}
		}
		if err == nil {
			if err = n.writeNote(ctx, name, data, was); err == nil || !n.over() {
				return s.newer(err)
			}
		}
		if try == tries || !store.Temporary(err) || ctx.Err() != nil {
			return err
		}
		s.log.Info("trying again", "store", s.name, "error", err)
		select {
		case <-time.After(s.opt.waits.between << (try - 1)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *session) writeNote(ctx context.Context, name string, data, was []byte) error {
	c, unwatch, err := n.call(ctx, request{Call: callWriteNote, Name: name, Was: noteDigest(was)})
	if err != nil {
		return err
	}
	defer c.Cancel()
	defer unwatch()
	commit, err := json.Marshal(instruction{Commit: true})
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = c.Write(data)
	}
	if err == nil {
		err = c.End(commit)
	}
	if err == nil || errors.Is(err, wire.ErrEnded) { // in which case the answer says why
		_, err = n.answer(ctx, c)
	} else {
		err = n.failed(ctx, err)
	}
	if err != nil && ctx.Err() != nil {
		n.settled()
	}
	return err
}

// Reclaim waits until the server's file system has freed what was removed.
func (s *Store) Reclaim(ctx context.Context) error {
	_, err := s.learn(ctx, request{Call: callReclaim})
	return s.newer(err)
}

// RemoveLeftover has the server delete what an interrupted receive left.
func (s *Store) RemoveLeftover(ctx context.Context, p string) error {
	return s.newer(s.change(ctx, request{Call: callRemoveLeftover, Path: path(p)}))
}
