package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// maxSizesFile bounds how much of a file of sizes is read.
const maxSizesFile = 8 << 20

// KnownSizes reads the ".bs" files beside the snapshots of the last List, at these
// paths or at all.
func (s *Store) KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error) {
	beside := map[string]map[string]bool{} // by directory, the names of the files
	s.mu.Lock()
	for _, snap := range s.known {
		for _, c := range append([]snapshot.Snapshot{*snap}, snap.Copies...) {
			if c.Outside || len(paths) > 0 && !slices.Contains(paths, c.Path) {
				continue
			}
			dir, name := dirOf(c.Path)
			if beside[dir] == nil {
				beside[dir] = map[string]bool{}
			}
			beside[dir][name+store.SizesSuffix] = true
		}
	}
	s.mu.Unlock()
	all := map[snapshot.Edge]int64{}
	for _, rel := range slices.Sorted(maps.Keys(beside)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.knownSizes(rel, beside[rel], all); err != nil {
			s.opt.Log.Warn("the sizes beside snapshots cannot be read", "directory", path.Join(s.path, rel), "error", err)
		}
	}
	return all, nil
}

// knownSizes adds what the named files in a directory say.
func (s *Store) knownSizes(rel string, names map[string]bool, all map[snapshot.Edge]int64) error {
	dir, err := s.within(rel, false)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Reading the directory beats asking for each name: most have no file.
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(entries)
	for _, name := range entries {
		if !strings.HasSuffix(name, store.SizesSuffix) || !names[name] {
			continue
		}
		sizes, complaints, err := readSizes(dir, name)
		if err != nil {
			complaints = []string{err.Error()}
		}
		for _, c := range complaints {
			s.opt.Log.Warn(fmt.Sprintf("Can't read .bs info file (%s)", c), "file", path.Join(s.path, rel, name))
		}
		maps.Copy(all, sizes)
	}
	return nil
}

// readSizes reads one file; one that is not there is empty.
func readSizes(dir *os.File, name string) (map[snapshot.Edge]int64, []string, error) {
	// Not blocking, in case it is a fifo.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	sizes, complaints := store.ReadSizes(io.LimitReader(f, maxSizesFile))
	return sizes, complaints, nil
}

// KeepSizes adds to the ".bs" file beside the snapshot at p. The file is
// replaced as a whole, and what stands in it about other edges stays. One that
// holds anything else is left alone, which is an error.
func (s *Store) KeepSizes(ctx context.Context, p string, sizes map[snapshot.Edge]int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !usable(p) {
		return fmt.Errorf("keeping sizes of %q in %s: not a usable path for a snapshot", p, s.path)
	}
	if err := s.keepSizes(p, sizes); err != nil {
		return fmt.Errorf("keeping sizes of %s: %w", path.Join(s.path, p), err)
	}
	return nil
}

func (s *Store) keepSizes(p string, sizes map[snapshot.Edge]int64) error {
	parent, name := dirOf(p)
	dir, err := s.beneath(parent, false)
	if err != nil {
		return err
	}
	defer dir.Close()
	name += store.SizesSuffix
	all, complaints, err := readSizes(dir, name)
	if err == nil && len(complaints) > 0 {
		err = fmt.Errorf("there is something else in %s: %s", name, strings.Join(complaints, ", "))
	}
	if err != nil {
		return err // not ours to replace
	}
	before := store.SizesText(all)
	if all == nil {
		all = map[snapshot.Edge]int64{}
	}
	maps.Copy(all, sizes)
	text := store.SizesText(all)
	if string(text) == string(before) {
		return nil
	}
	unfinished := "." + name + ".new"
	if err := unix.Unlinkat(int(dir.Fd()), unfinished, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fd, err := unix.Openat(int(dir.Fd()), unfinished, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), unfinished)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(int(dir.Fd()), unfinished, int(dir.Fd()), name)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(int(dir.Fd()), unfinished, 0))
	}
	return nil
}

// removeSizes removes what KeepSizes has made for a snapshot that is gone.
func (s *Store) removeSizes(dir *os.File, name string) {
	name += store.SizesSuffix
	if sizes, complaints, err := readSizes(dir, name); err != nil || len(complaints) > 0 || len(sizes) == 0 {
		return // it may be something else
	}
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil {
		s.opt.Log.Warn("the sizes of a removed snapshot cannot be removed", "file", name, "error", err)
	}
}
