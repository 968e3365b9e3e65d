package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// lock is one of the store's locks, held by a call of a connection.
type lock struct {
	by      string // the call: callLock or callLockTaking
	who     string
	session *session
	call    *wire.Call
}

// Lock takes the lock of the server's directory. When the connection is lost, so
// is the lock; the next connection takes it again before anything else is done on
// it.
func (s *Store) Lock(ctx context.Context, who string) (func() error, error) {
	return s.lockBy(ctx, callLock, who)
}

// LockTaking takes the lock of who makes snapshots in the server's directory, with
// which it is the same.
func (s *Store) LockTaking(ctx context.Context, who string) (func() error, error) {
	unlock, err := s.lockBy(ctx, callLockTaking, who)
	if err != nil && strings.Contains(err.Error(), unknownCall) {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return unlock, err
}

// lockBy takes one of the locks.
func (s *Store) lockBy(ctx context.Context, by, who string) (func() error, error) {
	n, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if len(who) > mostWho {
		who = strings.ToValidUTF8(who[:mostWho], "")
	}
	held := &lock{by: by, who: who}
	if err := s.take(ctx, n, held); err != nil {
		return nil, err
	}
	if err := s.hold(held); err != nil {
		return nil, err
	}
	return func() error { return s.unlock(held) }, nil
}

// hold has a lock that was taken be taken again by every connection to come. One
// that has come already has not done so.
func (s *Store) hold(held *lock) error {
	s.mu.Lock()
	closed, lost := s.closed, s.session != held.session
	if !closed && !lost {
		s.locks[held.by] = held
	}
	s.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("locking %s: %w", s.name, errClosed)
	case lost:
		return held.session.lost()
	}
	return nil
}

// take makes a connection hold the lock.
func (s *Store) take(ctx context.Context, n *session, held *lock) error {
	c, unwatch, err := n.call(ctx, request{Call: held.by, Who: held.who})
	if err != nil {
		return err
	}
	_, err = n.answer(ctx, c)
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		held.session, held.call = n, c
		return nil
	}
	c.Cancel()
	if ctx.Err() != nil {
		n.settled()
	}
	if other, ok := errors.AsType[*store.LockedError](err); ok {
		return &store.LockedError{Store: s.name, Holder: other.Holder}
	}
	return err
}

// relock takes the lock again on a new connection. What is left of the one before
// it may still hold it: it takes a while until the server there notices that nobody
// is left.
func (s *Store) relock(ctx context.Context, n *session, held *lock) error {
	deadline := time.Now().Add(s.opt.Silence + s.opt.waits.lock)
	for told := false; ; told = true {
		again := &lock{by: held.by, who: held.who}
		err := s.take(ctx, n, again)
		if err == nil {
			s.mu.Lock()
			wanted := s.locks[held.by] == held
			if wanted {
				held.session, held.call = again.session, again.call
			}
			s.mu.Unlock()
			if !wanted { // it has been given back meanwhile
				again.call.Cancel()
			}
			return nil
		}
		if _, locked := errors.AsType[*store.LockedError](err); !locked || time.Now().After(deadline) {
			return err
		}
		if !told {
			s.log.Info("waiting for the lock: the server of the broken connection may not know yet that it is broken", "store", s.name, "until", deadline.Format(time.TimeOnly))
		}
		select {
		case <-time.After(s.opt.waits.between):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unlock gives the lock back, and returns when the server has done so. With a
// connection that is lost the lock is lost, too.
func (s *Store) unlock(held *lock) error {
	s.mu.Lock()
	mine := s.locks[held.by] == held
	if mine {
		delete(s.locks, held.by)
	}
	n, c := held.session, held.call
	s.mu.Unlock()
	if !mine || n.over() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.waits.settle)
	defer cancel()
	defer c.Cancel()
	text, err := json.Marshal(instruction{Commit: true})
	if err == nil {
		if err = c.End(text); err == nil {
			_, err = n.answer(ctx, c)
		}
	}
	if err != nil && !n.over() {
		return err
	}
	return nil
}
