package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// openOrigin opens a subvolume. That comes before the directory of the snapshots
// is made: it may lie in the subvolume, and would be made in what is none.
func openOrigin(path string, found Found) (*os.File, error) {
	var f *os.File
	var err error
	if rel, below := found.leadsTo(path); below {
		f, err = OpenBeneath(found.Base, rel)
	} else {
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the subvolume of which snapshots are made: %w", err)
	}
	if err = checkOrigin(f); err == nil {
		err = found.same(f)
	}
	if err != nil {
		return nil, errors.Join(noOrigin(path, err), f.Close())
	}
	return f, nil
}

func noOrigin(path string, err error) error {
	return fmt.Errorf("%s: no snapshots can be made of it: %w", path, err)
}

func checkOrigin(f *os.File) error {
	if _, err := btrfs.FilesystemUUID(f); err != nil {
		return err
	}
	subvolume, err := btrfs.IsSubvolume(f)
	if err == nil && !subvolume {
		err = errors.New("it is not a subvolume, but a directory in one")
	}
	return err
}

// originHere fails where the origin is on another file system than the directory.
func (s *Store) originHere() error {
	if s.origin == nil {
		return nil
	}
	id, err := btrfs.FilesystemUUID(s.origin)
	if err == nil && id != s.fs.UUID() {
		err = errors.New("it is on another file system than the directory of the snapshots")
	}
	if err != nil {
		return noOrigin(s.opt.Origin, err)
	}
	return nil
}

// Origin implements store.Snapshotter.
func (s *Store) Origin(ctx context.Context) (snapshot.ID, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.ID{}, err
	}
	info, err := s.originInfo()
	return snapshot.ID(info.UUID), err
}

func (s *Store) originInfo() (btrfs.Subvolume, error) {
	if s.origin == nil {
		return btrfs.Subvolume{}, fmt.Errorf("%s: %w", s, store.ErrNoOrigin)
	}
	return btrfs.Info(s.origin)
}

// Snapshot implements store.Snapshotter. The kernel writes out the data of the
// origin first, and has committed the snapshot when it answers. A snapshot of a
// received one that is read-only would have the same identity, so there is none;
// one of a received one that is writable is made anew (snapshotAnew).
func (s *Store) Snapshot(ctx context.Context, p string) (snapshot.Snapshot, error) {
	fail := func(err error) (snapshot.Snapshot, error) {
		return snapshot.Snapshot{}, fmt.Errorf("making snapshot %s: %w", filepath.Join(s.path, p), err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	origin, err := s.originInfo()
	if err != nil {
		return fail(err)
	}
	if origin.ReadOnly && !origin.ReceivedUUID.IsZero() {
		return fail(fmt.Errorf("%s is received and read-only: it is a snapshot itself, and another one of it would be no other", s.opt.Origin))
	}
	dir, name, err := s.place(p)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	defer dir.Close()
	if origin.ReceivedUUID.IsZero() {
		err = btrfs.CreateSnapshot(dir, name, s.origin, true)
	} else {
		err = s.snapshotAnew(dir, name)
	}
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return snapshot.Snapshot{}, &store.ExistsError{Path: filepath.Join(s.path, p), What: "something that has just been made"}
		}
		return fail(err)
	}
	sub, err := subvolumeAt(dir, name)
	if err != nil {
		return fail(err)
	}
	if sub.ParentUUID != origin.UUID {
		return fail(errors.New("another one has come to its place"))
	}
	snap := values(&sub)
	snap.Path = p
	known := snap
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[snap.ID] = &known
	return snap, nil
}

// Changed implements store.Changer. It takes the privilege to search trees.
func (s *Store) Changed(ctx context.Context, since snapshot.ID) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("looking for changes in %s: %w", s.opt.Origin, err)
	}
	if s.origin == nil {
		return false, fmt.Errorf("%s: %w", s, store.ErrNoOrigin)
	}
	if err := s.needsTrees("looking for changes in " + s.opt.Origin); err != nil {
		return false, err
	}
	snap, err := s.lookup(since)
	if err != nil {
		return fail(err)
	}
	f, err := s.openSnapshot(snap)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	return btrfs.ChangedSince(s.origin, f, btrfs.Unwatched{Dir: s.keepsSnapshots, File: ownFile})
}

// keepsSnapshots reports whether a directory of the origin, told by its path from
// there, is the store's, or that of another subvolume's snapshots: those of several
// that lie in one another may be kept side by side in the outermost. Which ones these
// are, their notes show. The root of the origin is none, whatever is in it.
func (s *Store) keepsSnapshots(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	dir, err := openIn(s.origin, path)
	if err != nil {
		return false, nil // it has been moved, or something is mounted there
	}
	defer dir.Close()
	mine, err := s.dir.Stat()
	if err != nil {
		return false, err
	}
	this, err := dir.Stat()
	if err != nil || os.SameFile(mine, this) {
		return err == nil, err
	}
	for _, note := range []string{store.RetentionNote, store.LocksNote} {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), note, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return true, nil
		}
	}
	return false, nil
}

// ownFile reports whether a name in the directory is that of a file which is ours.
func ownFile(name string) bool {
	return store.IsNotePlace(name) || strings.HasSuffix(name, store.SizesSuffix)
}

// snapshotAnew makes a snapshot of a subvolume that was received and made writable
// since, as older btrfs-progs let people do. Its snapshots inherit the received
// UUID if they are read-only from the start, and so would all be one.
func (s *Store) snapshotAnew(dir *os.File, name string) (err error) {
	part := name + snapshot.PartSuffix
	if _, err := replay.RemoveRemainder(dir, part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what an earlier run has left: %w", err)
	}
	if err := btrfs.CreateSnapshot(dir, part, s.origin, false); err != nil {
		return err
	}
	f, err := openIn(dir, part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			writable := btrfs.SetReadOnly(f, false) // or it is nobody's remainder
			_, removing := replay.RemoveRemainder(dir, part)
			err = errors.Join(err, writable, removing)
		}
		err = errors.Join(err, f.Close())
	}()
	info, err := btrfs.Info(f)
	if err == nil && !info.ReceivedUUID.IsZero() {
		err = fmt.Errorf("%s has a received UUID, which its snapshots inherit; 'btrfs property set -f -ts' with ro true and then ro false clears it", s.opt.Origin)
	}
	if err != nil {
		return err
	}
	if err := btrfs.SetReadOnly(f, true); err != nil {
		return err
	}
	if err := unix.Renameat2(int(dir.Fd()), part, int(dir.Fd()), name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	return btrfs.Sync(f)
}
