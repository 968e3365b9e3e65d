// Package local is the store of snapshots in a btrfs directory of this machine.
//
// The directory is opened once; everything below it is reached through that
// handle, so it does not matter by which mount, bind mount or subvolume mount
// it was named, nor what is mounted elsewhere later. Snapshots are opened by
// their subvolume number, not by path. Who is not root is shown by the kernel only
// what he can reach, and opens by path (Options.Rootless).
//
// The store holds what lies inside of the directory, at any depth. It also
// knows the other snapshots of the same file system (snapshot.Snapshot.Outside):
// they serve as parents, and can be copied in.
//
// # What it owns
//
// In the directory: subvolumes whose names end in ".part" (snapshot.PartSuffix),
// what is being received and the checkpoint that it could be carried on from.
// At its top: the notes that package store names, and while one of them is being
// written, a file of its name with ".next" behind it. In /run/lock: one file per
// directory that says who holds its lock. Nothing else is written unless a
// snapshot is being created, copied or removed, and directories are made only
// where Options.Make asks for it, or a snapshot's path.
//
// # Memory
//
// A listing costs about 1 KiB for each subvolume of the file system. A transfer
// holds the buffers of btrfs.Send, of two stream.Readers and of the receiver: a
// few MiB, whatever the size.
//
//	st, err := local.Open("/mnt/a/snaps", local.Options{})
//	inv, err := st.List(ctx)
package local

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// ErrNotDirectory says that the path of a store is not an existing directory.
var ErrNotDirectory = errors.New("not an existing directory")

// Options say how a store works.
type Options struct {
	// Protocol is the version of the streams that the store makes: 1, 2, or 0
	// for the best that the kernel has.
	Protocol uint32
	// KernelSend leaves full streams to the kernel too, in place of making them
	// here (package compose).
	KernelSend bool
	// Plain sends all data as they read, also what is stored compressed.
	Plain bool
	// Origin is the path of the subvolume that Snapshot makes snapshots of; it is
	// on the file system of the directory. Empty is none.
	Origin string
	// Found says which subvolume Origin has been found to be, some time ago: the one
	// that is opened there has to be that one.
	Found Found
	// Rootless opens the directory also where the caller may not search the trees
	// of the file system. Then List shows what lies in the directory and can be
	// reached by the caller, snapshots can be made and removed as far as the kernel
	// lets him, and everything about streams fails with *btrfs.PermissionError.
	Rootless bool
	// Make makes the directory, and those above it, if they are missing: on btrfs
	// only, or nothing is made.
	Make bool
	// MakeWritable lets Remove make a snapshot writable where the kernel wants
	// that, as it does of who is not root. Should the removal fail all the same, the
	// snapshot is made read-only again.
	MakeWritable bool
	// Checkpoints says how often a receive makes a place from which it could be
	// carried on.
	Checkpoints replay.Checkpoints
	// Log gets what an operator may want to know; nil is silence.
	Log *slog.Logger
}

// Store is an opened directory. Its methods may be called at the same time.
type Store struct {
	path   string // as people know it
	dir    *os.File
	inode  uint64   // of the directory
	origin *os.File // what Options.Origin names; nil if nothing
	// denied is why trees cannot be searched (Options.Rootless); nil if they can.
	denied *btrfs.PermissionError
	fs     *btrfs.Filesystem
	opt    Options

	noteWait time.Duration // as the constant says

	mu      sync.Mutex
	removed []uint64 // numbers of what was removed since the last Reclaim

	subvol uint64                             // number of the subvolume that the directory is in
	prefix string                             // path of the directory from the top level
	known  map[snapshot.ID]*snapshot.Snapshot // of the last List, and what came since
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Source    = (*Store)(nil)
	_ store.Sink      = (*Store)(nil)
	_ store.Inspector = (*Store)(nil)
	_ store.Chooser   = (*Store)(nil)
	_ store.Copier    = (*Store)(nil)
	_ store.Remover   = (*Store)(nil)
	_ store.Measurer  = (*Store)(nil)
	_ store.Prover    = (*Store)(nil)
	_ store.Locker    = (*Store)(nil)
	_ store.Located   = (*Store)(nil)

	_ store.SizeKeeper  = (*Store)(nil)
	_ store.Snapshotter = (*Store)(nil)
	_ store.Changer     = (*Store)(nil)
	_ store.TakeLocker  = (*Store)(nil)
	_ store.Notebook    = (*Store)(nil)
	_ store.Reclaimer   = (*Store)(nil)
	_ store.Leftovers   = (*Store)(nil)
)

// Open opens the directory at path. It fails with ErrNotDirectory,
// btrfs.ErrNotBtrfs or *btrfs.PermissionError where that is the cause.
func Open(path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{path: abs, opt: o, noteWait: noteWait, known: map[snapshot.ID]*snapshot.Snapshot{}}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", abs, err), s.Close())
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if s.opt.Origin != "" {
		if s.origin, err = openOrigin(s.opt.Origin, s.opt.Found); err != nil {
			return err
		}
	}
	if s.dir, err = s.openDirectory(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.dir.Fd()), &st); err != nil {
		return err
	}
	s.inode = st.Ino
	// A handle of its own, because it is taken over.
	dir, err := s.within(".", false)
	if err != nil {
		return err
	}
	if s.fs, err = btrfs.Of(dir); err != nil {
		_ = dir.Close()
		if errors.Is(err, btrfs.ErrNotBtrfs) {
			return btrfs.ErrNotBtrfs
		}
		return err
	}
	if err := s.originHere(); err != nil {
		return err
	}
	err = s.locate()
	if denied, ok := errors.AsType[*btrfs.PermissionError](err); ok && s.opt.Rootless {
		return s.withoutTrees(denied)
	}
	return err
}

// openDirectory opens the store's directory, and makes it if asked for.
func (s *Store) openDirectory() (*os.File, error) {
	if rel, below := s.opt.Found.leadsTo(s.path); below {
		dir, err := openBeneath(s.opt.Found.Base, rel, s.opt.Make)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, ErrNotDirectory
		}
		return dir, err
	}
	if s.opt.Make {
		if err := makeDirectory(s.path); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
		return nil, ErrNotDirectory
	}
	if err != nil {
		return nil, err
	}
	return os.Open(s.path)
}

// withoutTrees sees to what locate does for who may search.
func (s *Store) withoutTrees(denied *btrfs.PermissionError) error {
	info, err := btrfs.Info(s.dir)
	s.subvol, s.denied = info.ID, denied
	return err
}

// needsTrees is why something cannot be done with streams, if it cannot.
func (s *Store) needsTrees(op string) error {
	if s.denied == nil {
		return nil
	}
	return &btrfs.PermissionError{Op: op, Capability: s.denied.Capability, Err: s.denied.Err}
}

// locate finds out where the directory is now: it may be moved while it is held.
func (s *Store) locate() error {
	subvol, prefix, err := btrfs.Locate(s.dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subvol, s.prefix = subvol, prefix
	return nil
}

// String names the store for people.
func (s *Store) String() string { return "btrfs " + s.path }

// Location identifies the directory, by whichever path it was opened, and by
// whomever.
func (s *Store) Location() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("btrfs %s %d %d", s.fs.UUID(), s.subvol, s.inode)
}

// Close releases the directory.
func (s *Store) Close() error {
	var errs []error
	if s.fs != nil {
		errs = append(errs, s.fs.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	if s.origin != nil {
		errs = append(errs, s.origin.Close())
	}
	s.fs, s.dir, s.origin = nil, nil, nil
	return errors.Join(errs...)
}

// Choose implements store.Chooser.
func (s *Store) Choose(id snapshot.ID, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap, ok := s.known[id]; ok {
		if chosen, ok := snap.Preferring(path); ok {
			s.known[id] = &chosen
			return nil
		}
	}
	return fmt.Errorf("%s: %w: %s at %s", s, store.ErrNotFound, id, path)
}

// lookup returns a snapshot of the last listing, or one that came since.
func (s *Store) lookup(id snapshot.ID) (snapshot.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, ok := s.known[id]
	if !ok {
		return snapshot.Snapshot{}, fmt.Errorf("%s: %w: %s", s, store.ErrNotFound, id)
	}
	return *snap, nil
}

// openSnapshot opens the subvolume of a snapshot, and makes sure that it is
// still the one that was listed.
func (s *Store) openSnapshot(snap snapshot.Snapshot) (*os.File, error) {
	f, err := s.openSubvolume(snap)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: it has been removed since it was listed", store.ErrNotFound)
		}
		return nil, fmt.Errorf("opening snapshot %s: %w", snap.Path, err)
	}
	now, err := btrfs.Info(f)
	switch {
	case err != nil:
	case identity(&now) != snap.ID || snapshot.ID(now.UUID) != snap.UUID:
		err = fmt.Errorf("%w: it has been replaced since it was listed", store.ErrNotFound)
	case !now.ReadOnly:
		err = errors.New("it has been made writable since it was listed")
	default:
		return f, nil
	}
	return nil, errors.Join(fmt.Errorf("opening snapshot %s: %w", snap.Path, err), f.Close())
}

// openSubvolume opens by number, which takes a capability, or else by path.
func (s *Store) openSubvolume(snap snapshot.Snapshot) (*os.File, error) {
	if s.denied == nil {
		return s.fs.OpenSubvolume(snap.Handle)
	}
	return s.within(snap.Path, false)
}
