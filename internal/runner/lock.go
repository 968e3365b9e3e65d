package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// LockedError says that another run of a job is going on.
type LockedError struct{ Job string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("job %s: another run of it is going on", e.Job)
}

// lock keeps other runs of a job away. The lock is one of the open file (fcntl,
// F_OFD_SETLK): it ends with the process, and who asks for it takes nothing. The
// file stays, so that nobody locks one that has just been removed.
func (r *Runner) lock(job string) (unlock func(), err error) {
	if r.Locks == "" {
		return func() {}, nil
	}
	f, err := openLock(r.Locks, job)
	if unwritable(err) {
		r.log().Warn("Nothing keeps another run of this job away", "job", job, "error", err)
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("taking the lock of job %s: %w", job, err)
	}
	all := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &all)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = &LockedError{job}
	} else if err != nil {
		err = fmt.Errorf("taking the lock of job %s: %w", job, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// openLock opens the file that is locked, and makes it if it is not there.
func openLock(dir, job string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(lockPath(dir, job), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// unwritable reports whether a file system takes nothing more, or nothing at all: a
// machine whose own disk is full or failing needs its backups most.
func unwritable(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS)
}

// Running reports whether a run of a job is going on, by the directory of its lock.
// Where that cannot be told, none is.
func Running(locks, job string) bool {
	f, err := os.OpenFile(lockPath(locks, job), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	ask := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &ask); err != nil {
		return false
	}
	return ask.Type != unix.F_UNLCK
}

// lockPath is where the lock of a job is. Names of jobs have no slashes in them.
func lockPath(dir, job string) string { return filepath.Join(dir, job+".lock") }
