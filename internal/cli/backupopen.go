package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/store/ssh/bare"
)

// open opens a destination.
func (r *backupRun) open(ctx context.Context, t *target) (store.Store, error) {
	if t.early != nil {
		return t.early.take(ctx)
	}
	return r.openNow(ctx, t)
}

func (r *backupRun) openNow(ctx context.Context, t *target) (store.Store, error) {
	if t.unusable != nil {
		return nil, t.unusable
	}
	if err := t.mounted(t.o.mount); err != nil { // also where nothing would be written
		return nil, err
	}
	if r.o.dryRun && t.Here() {
		if _, err := os.Lstat(t.Dir); errors.Is(err, fs.ErrNotExist) {
			return absent{t.Dir}, nil
		}
	}
	with := r.opening(t.site, t.o)
	with.limit = t.limit
	with.local.Checkpoints, with.local.Make = t.o.checkpoints().Checkpoints, !r.o.dryRun
	with.needsProgram, with.again, with.mount = t.o.ofDestination(), t.o.again, t.o.mount
	switch {
	case r.o.dryRun:
		with.mode = ssh.Read
	case t.rules.None():
		with.mode = ssh.Append
	default:
		with.mode = ssh.Write
	}
	if t.Archive() {
		with.archive.Seal, with.archive.RequireEncryption = t.seal, t.o.requireEncryption
		with.archive.PartSize = int64(t.o.partSize) << 20
	}
	st, err := r.env.open(ctx, r.command, t.site, with)
	if err == nil && r.o.dryRun {
		// Of what needs no program over there only a listing tells.
		if b, ok := st.Store.(*bare.Store); ok {
			if _, err = b.List(ctx); err != nil {
				err = errors.Join(err, st.Close())
			}
		}
	}
	if r.o.dryRun && (errors.Is(err, ssh.ErrNoDirectory) || errors.Is(err, bare.ErrNotDirectory)) {
		return absent{t.Dir}, nil
	}
	if err != nil {
		return nil, err
	}
	if a, ok := st.Store.(*archive.Store); ok {
		if err := a.Writable(ctx); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	return st.Store, nil
}

// earlyOpen is a destination that is opened before its turn: which streams the
// source has to make depends on what is over there.
type earlyOpen struct {
	done  chan struct{}
	st    store.Store
	err   error
	taken bool // by the engine, which closes it
	stop  context.CancelFunc
}

// take returns the store when it is open.
func (e *earlyOpen) take(ctx context.Context) (store.Store, error) {
	select {
	case <-e.done:
		e.taken = e.err == nil
		return e.st, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// openEarly begins to open the destinations of which it is not known yet what
// carries streams out there.
func (r *backupRun) openEarly(ctx context.Context) {
	if r.o.noTransfer {
		return
	}
	for _, t := range r.targets {
		if t.Scheme != "ssh" {
			continue
		}
		e := &earlyOpen{done: make(chan struct{})}
		ctx, stop := context.WithCancel(ctx)
		e.stop = stop
		t.early = e
		r.early = append(r.early, e)
		go func() {
			defer close(e.done)
			e.st, e.err = r.openNow(ctx, t)
		}()
	}
}

// patience is how long a machine may take to answer before a snapshot is made
// without knowing what it can do.
const patience = 10 * time.Second

// plain reports whether the source has to make streams that every btrfs receive
// carries out.
func (r *backupRun) plain(ctx context.Context) bool {
	if r.o.lockedDests || slices.ContainsFunc(r.targets, func(t *target) bool { return t.KeepsStreams() || t.Scheme == "ssh+btrfs" }) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, e := range r.early {
		select {
		case <-e.done:
			if _, ok := e.st.(*bare.Store); ok {
				return true
			}
		case <-ctx.Done():
			return true
		}
	}
	return false
}

// close closes what was opened and not used. It comes before ctx ends. What is still
// being opened is given up, and not waited for.
func (r *backupRun) close() {
	for _, e := range r.early {
		select {
		case <-e.done:
			if e.err == nil && !e.taken {
				e.st.Close()
			}
			e.stop()
		default:
			e.stop()
			go func() {
				if <-e.done; e.err == nil {
					e.st.Close()
				}
			}()
		}
	}
}

// absent is a directory that a run would make, for one that makes nothing.
type absent struct{ dir string }

var _ store.Sink = absent{}

func (a absent) String() string { return "btrfs " + a.dir }
func (a absent) Close() error   { return nil }

func (a absent) List(context.Context) (*snapshot.Inventory, error) {
	return &snapshot.Inventory{Dir: a.dir}, nil
}

func (a absent) Create(context.Context, store.Want) (store.Writer, error) {
	return nil, fmt.Errorf("'%s': %w", a.dir, local.ErrNotDirectory)
}
