package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mostLinks is how many symbolic links a path may lead over, as in the kernel
// (path_resolution(7)).
const mostLinks = 40

// Check says what is wrong with a program, without running it: that it is not
// there, cannot be executed, or can be changed by others than root and the user.
//
// Its path is absolute and leads to a regular file that may be executed. That file,
// every directory on the way there, and every symbolic link, belongs to root or to
// the user of this process, and neither its group nor others may write to it; to
// directories with the sticky bit they may.
func Check(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("it names no program: want its full path, and its arguments")
	}
	name := argv[0]
	for _, arg := range argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return fmt.Errorf("%s has a NUL byte in it", printable(arg))
		}
	}
	if !filepath.IsAbs(name) {
		return fmt.Errorf("%s is no full path: want one that begins with /", printable(name))
	}
	return walk(name)
}

// walk follows a path as the kernel does, and looks at everything on the way.
func walk(name string) error {
	at, links := "/", 0
	if err := guarded(at); err != nil {
		return err
	}
	todo := elements(name)
	for len(todo) > 0 {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		info, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return missing(next, name)
		case err != nil:
			return fmt.Errorf("looking at %s: %w", printable(next), bare(err))
		}
		if err := owned(next, info); err != nil {
			return err
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > mostLinks {
				return fmt.Errorf("%s leads over too many symbolic links", printable(name))
			}
			target, err := os.Readlink(next)
			if err != nil {
				return fmt.Errorf("looking at %s: %w", printable(next), bare(err))
			}
			todo = append(elements(target), todo...)
			if filepath.IsAbs(target) {
				at = "/"
			}
			continue
		case info.IsDir():
			if err := guarded(next); err != nil {
				return err
			}
		case len(todo) > 0:
			return fmt.Errorf("%s is no directory", printable(next))
		}
		at = next
	}
	return runnable(at)
}

func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func missing(at, name string) error {
	if at == filepath.Clean(name) {
		return fmt.Errorf("%s is not there: install it, or correct its path", printable(name))
	}
	return fmt.Errorf("%s is not there, since %s is not: install it, or correct its path", printable(name), printable(at))
}

// owned says if somebody else owns something.
func owned(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("looking at %s: its owner is not known", printable(name))
	}
	if st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, who can change what is run: chown it to root", printable(name), st.Uid)
}

// guarded says if others can put something else into a directory.
func guarded(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", printable(dir), bare(err))
	}
	if err := owned(dir, info); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	return unwritable(dir, info)
}

func unwritable(name string, info fs.FileInfo) error {
	who := ""
	switch info.Mode().Perm() & 0o022 {
	case 0o022:
		who = "its group and others"
	case 0o020:
		who = "its group"
	case 0o002:
		who = "others"
	default:
		return nil
	}
	return fmt.Errorf("%s can be written to by %s, who can change what is run: chmod go-w it", printable(name), who)
}

// runnable says why a file cannot be run.
func runnable(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", printable(name), bare(err))
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file that can be run", printable(name))
	}
	if err := unwritable(name, info); err != nil {
		return err
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s cannot be executed: chmod +x it", printable(name))
	}
	const execute = 1 // X_OK of access(2)
	if err := syscall.Access(name, execute); err != nil {
		return fmt.Errorf("%s cannot be executed by this user, or not where it is: %w", printable(name), err)
	}
	return nil
}

// bare takes the path off an error that is told with it.
func bare(err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		return inner.Err
	}
	return err
}
