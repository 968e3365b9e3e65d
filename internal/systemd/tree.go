package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// tree is the files of a system below its root directory. Links in it lead where
// they would if the system ran, which is never out of the root; systemctl --root
// follows them into this machine's files.
type tree struct {
	root *os.Root
	dir  string // its path, for people
}

// openTree opens the tree of a root; empty for this machine's own.
func openTree(root string) (*tree, error) {
	dir := filepath.Join("/", root)
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the root: %w", err)
	}
	return &tree{root: r, dir: dir}, nil
}

func (t *tree) Close() error { return t.root.Close() }

// below is where a path of the tree is on this machine, as it is written.
func (t *tree) below(name string) string { return filepath.Join(t.dir, name) }

// mostLinks is how many links lead on before they are taken for a loop, as in
// path_resolution(7).
const mostLinks = 40

// resolve follows the links in a path as chroot(2) would have it, but for the last
// element unless follow is set. What it returns is for the root: no link is in it,
// and what is not there yet is as it is written.
func (t *tree) resolve(name string, follow bool) (string, error) {
	at, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		switch word {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // of the root, too, it is the root
			continue
		}
		next := path.Join(at, word)
		if len(rest) > 0 || follow {
			target, err := t.root.Readlink(next)
			switch {
			case err == nil:
				if links++; links > mostLinks {
					return "", fmt.Errorf("opening %s: %w", t.below(name), syscall.ELOOP)
				}
				rest = append(strings.Split(target, "/"), rest...)
				if path.IsAbs(target) {
					at = "."
				}
				continue
			case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL): // EINVAL: it is no link
				return "", err
			}
		}
		at = next
	}
	return at, nil
}

// read returns what a file holds.
func (t *tree) read(name string) (string, error) {
	at, err := t.resolve(name, true)
	if err != nil {
		return "", err
	}
	text, err := t.root.ReadFile(at)
	return string(text), err
}

// link returns where a link leads; "" if there is none of that name, but maybe
// something else.
func (t *tree) link(name string) (string, error) {
	at, err := t.resolve(name, false)
	if err != nil {
		return "", err
	}
	target, err := t.root.Readlink(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
		return "", nil
	}
	return target, err
}

// masked says whether a link leads to /dev/null, which may not be there in an image.
func (t *tree) masked(name string) (bool, error) {
	at, err := t.resolve(name, true)
	return at == "dev/null", err
}

// isFile says whether there is a regular file of that name.
func (t *tree) isFile(name string) bool {
	at, err := t.resolve(name, true)
	if err != nil {
		return false
	}
	info, err := t.root.Lstat(at)
	return err == nil && info.Mode().IsRegular()
}

// names returns what is in a directory; nothing if that is not there.
func (t *tree) names(name string) ([]string, error) {
	at, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(t.root.FS(), at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, nil
}

// write makes a file what it is to be, at once. A directory of drop-ins that is
// empty goes with its last file.
func (t *tree) write(f File) error {
	dir, err := t.resolve(path.Dir(f.Path), true)
	if err != nil {
		return fmt.Errorf("writing a unit: %w", err)
	}
	at := path.Join(dir, path.Base(f.Path))
	if f.Text == "" && f.Link == "" {
		if err := t.root.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a unit: %w", err)
		}
		if strings.HasSuffix(dir, ".d") {
			_ = t.root.Remove(dir) // which fails if there is anything else in it
		}
		return nil
	}
	if err := t.root.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of a unit: %w", err)
	}
	fresh := path.Join(dir, fmt.Sprintf(".buttersink-%d", os.Getpid()))
	defer t.root.Remove(fresh)
	_ = t.root.Remove(fresh) // of a run that was killed, with the same number
	if f.Link != "" {
		err = t.root.Symlink(f.Link, fresh)
	} else {
		err = t.fill(fresh, f.Text)
	}
	if err == nil {
		err = t.root.Rename(fresh, at)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", t.below(f.Path), err)
	}
	return nil
}

// fill makes a file that is on the disk when it returns.
func (t *tree) fill(name, text string) error {
	file, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
