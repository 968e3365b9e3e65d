package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/store"
)

// nextSuffix is added to the name of a note while the next one is being written.
// Who writes holds a flock(2) on that file; a process that dies leaves it, and
// the next one writes over it.
const nextSuffix = ".next"

// noteWait is for how long another process may write a note: as long as a slow disk
// takes, but who owns the directory cannot keep root waiting for ever.
const noteWait = 2 * time.Minute

// noteMode is that of a note that was not there before.
const noteMode = 0o600

// ReadNote implements store.Notebook. A symbolic link is not followed.
func (s *Store) ReadNote(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), noteName(name)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	data, _, err := s.readNote(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(s.path, name), err)
	}
	return data, nil
}

func noteName(name string) error {
	if name != store.LocksNote && name != store.RetentionNote {
		return fmt.Errorf("%q is not the name of a note", name)
	}
	return nil
}

// readNote returns a note and what it is as a file; both are empty if there is
// none.
func (s *Store) readNote(name string) ([]byte, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := retried(func() (int, error) {
		return unix.Openat(int(s.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, st, nil
	case errors.Is(err, unix.ELOOP):
		return nil, st, errors.New("it is a symbolic link")
	case err != nil:
		return nil, st, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, store.MaxNote+1))
	if err == nil && len(data) > store.MaxNote {
		err = fmt.Errorf("it is longer than %d bytes", store.MaxNote)
	}
	if err != nil || len(data) == 0 {
		return nil, st, err
	}
	return data, st, nil
}

// WriteNote implements store.Notebook: it writes a new file, makes that durable,
// and renames it over the note, whose owner and permissions it takes over. A note
// that is new belongs to whom the directory belongs: what root has begun there,
// its owner can go on with.
func (s *Store) WriteNote(ctx context.Context, name string, data, was []byte) error {
	err := errors.Join(ctx.Err(), noteName(name))
	if err == nil && len(data) > store.MaxNote {
		err = fmt.Errorf("%d bytes are more than the %d that a note can have", len(data), store.MaxNote)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := s.writeNote(ctx, name, data, was); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(s.path, name), err)
	}
	return nil
}

func (s *Store) writeNote(ctx context.Context, name string, data, was []byte) error {
	next, err := s.nextNote(ctx, name+nextSuffix)
	if err != nil {
		return err
	}
	err = s.replaceNote(next, name, data, was)
	return errors.Join(err, next.Close())
}

// replaceNote wants next to be locked, and sees that it is gone after it.
func (s *Store) replaceNote(next *os.File, name string, data, was []byte) (err error) {
	dir := int(s.dir.Fd())
	defer func() {
		if err != nil {
			err = errors.Join(err, unlinkIfThere(dir, name+nextSuffix))
		}
	}()
	now, st, err := s.readNote(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, was) {
		return store.ErrNoteChanged
	}
	if len(data) == 0 {
		if err := errors.Join(unlinkIfThere(dir, name), unlinkIfThere(dir, name+nextSuffix)); err != nil {
			return err
		}
		return s.dir.Sync()
	}
	mode := os.FileMode(noteMode)
	if st.Ino != 0 {
		mode = os.FileMode(st.Mode).Perm()
	} else if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		// Whoever may not give files away keeps this one.
		if err := next.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := next.Chmod(mode); err != nil {
		return err
	}
	if _, err := next.Write(data); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	if err := unix.Renameat(dir, name+nextSuffix, dir, name); err != nil {
		return err
	}
	return s.dir.Sync()
}

// nextNote returns the file that the next note is written to, empty and locked.
// It waits while another process writes to it.
func (s *Store) nextNote(ctx context.Context, name string) (*os.File, error) {
	const wait = 20 * time.Millisecond
	late := time.NewTimer(s.noteWait)
	defer late.Stop()
	for {
		f, err := s.lockNext(name)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-late.C:
			return nil, fmt.Errorf("another process has had the lock of %s for %s; end it, or remove that file", name, s.noteWait)
		case <-time.After(wait):
		}
	}
}

// lockNext is nil without an error if it has to be tried again.
func (s *Store) lockNext(name string) (*os.File, error) {
	dir := int(s.dir.Fd())
	fd, err := retried(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, noteMode)
	})
	if errors.Is(err, unix.ELOOP) {
		return nil, unlinkIfThere(dir, name)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	ok, err := func() (bool, error) {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = nil
			}
			return false, err
		}
		// The one who had the lock may have renamed it: it is the note now.
		var mine, there unix.Stat_t
		if err := unix.Fstat(fd, &mine); err != nil {
			return false, err
		}
		if err := unix.Fstatat(dir, name, &there, unix.AT_SYMLINK_NOFOLLOW); err != nil || mine.Ino != there.Ino {
			return false, nil
		}
		// What somebody else has put there may be another file of ours, or none.
		if mine.Mode&unix.S_IFMT != unix.S_IFREG || mine.Nlink != 1 || int(mine.Uid) != os.Geteuid() {
			return false, unlinkIfThere(dir, name)
		}
		return true, f.Truncate(0)
	}()
	if !ok || err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func unlinkIfThere(dir int, name string) error {
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// retried repeats a call that a signal interrupts.
func retried(call func() (int, error)) (int, error) {
	for {
		fd, err := call()
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
