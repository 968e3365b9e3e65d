package dir

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// List walks the directory. A file that is replaced meanwhile may be missed or be
// given twice, where the file system's own listings do so. Directories that may
// not be read are an error, since nobody could say what is in them; but for
// lost+found at the top, which belongs to the file system.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		w := &walk{ctx: ctx, b: b, prefix: prefix, yield: yield, buffer: make([]byte, 32<<10)}
		if err := w.start(); err != nil && !errors.Is(err, errStop) {
			yield(archive.Object{}, b.fail("listing", strings.TrimSuffix(w.at, "/"), err))
		}
		if len(w.odd) > 0 {
			b.log.Warn("what is not a regular file, or has a name that no object has, is not listed",
				"bucket", b.String(), "count", w.oddCount, "first", w.odd)
		}
	}
}

// errStop says that nobody wants to hear more.
var errStop = errors.New("stop")

// walk is one listing.
type walk struct {
	ctx      context.Context
	b        *Bucket
	prefix   string
	yield    func(archive.Object, error) bool
	at       string // the directory being read, with a slash behind it
	buffer   []byte // for names, while no subdirectory is being read
	odd      []string
	oddCount int
}

// start begins at the lowest directory that all the keys are in.
func (w *walk) start() error {
	top := w.prefix[:strings.LastIndexByte(w.prefix, '/')+1]
	if top == "" {
		return w.directory("", 0)
	}
	if err := w.b.names.check(strings.TrimSuffix(top, "/")); err != nil {
		return w.gone() // there are no such keys
	}
	return w.directory(top, 0)
}

// gone makes sure that nothing is listed because there is nothing.
func (w *walk) gone() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.b.missing(nil)
}

// held is how many levels of directories are held open at a time. Below them the
// names of subdirectories are held in memory.
const held = 32

// directory lists what is in a directory and below it.
func (w *walk) directory(at string, depth int) error {
	w.at = at
	dir, err := w.b.openDir(path.Clean(at))
	switch {
	case absent(err):
		return w.gone()
	case errors.Is(err, fs.ErrPermission) && at == "lost+found/":
		return nil
	case err != nil:
		return err
	}
	defer dir.Close()
	var later []string
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		n, err := readNames(dir, w.buffer)
		if absent(err) {
			return w.gone() // removed meanwhile
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		subs, err := w.entries(dir, at, w.buffer[:n])
		if err != nil {
			return err
		}
		if depth >= held {
			later = append(later, subs...)
			continue
		}
		for _, sub := range subs {
			if err := w.directory(at+sub+"/", depth+1); err != nil {
				return err
			}
			w.at = at
		}
	}
	_ = dir.Close()
	for _, sub := range later {
		if err := w.directory(at+sub+"/", depth+1); err != nil {
			return err
		}
		w.at = at
	}
	if at == "" {
		return w.gone() // the root reads as empty once it has been removed
	}
	return nil
}

// readNames reads raw names of a directory; zero bytes are its end.
func readNames(dir *os.File, buffer []byte) (n int, err error) {
	err = retried(func() error {
		n, err = unix.ReadDirent(int(dir.Fd()), buffer)
		return err
	})
	return n, err
}

// entries gives the objects among raw names (struct linux_dirent64 of getdents(2):
// inode, offset, length of the record, type, name), and returns the directories.
func (w *walk) entries(dir *os.File, at string, raw []byte) (subs []string, err error) {
	const header = 19
	for len(raw) >= header {
		size := int(binary.NativeEndian.Uint16(raw[16:]))
		if size < header || size > len(raw) {
			return subs, unix.EIO
		}
		kind, text := raw[18], raw[header:size]
		raw = raw[size:]
		if end := bytes.IndexByte(text, 0); end >= 0 {
			text = text[:end]
		}
		name := string(text)
		if name == "." || name == ".." || at == "" && name == Folder {
			continue
		}
		key := at + name
		if !strings.HasPrefix(key, w.prefix) && !(strings.HasPrefix(w.prefix, key) && w.prefix[len(key)] == '/') {
			continue
		}
		sub, err := w.entry(dir, name, key, kind)
		if err != nil {
			return subs, err
		}
		if sub {
			subs = append(subs, name)
		}
	}
	return subs, nil
}

// entry gives what has one name, if it is an object, and reports whether it is a
// directory to look into.
func (w *walk) entry(dir *os.File, name, key string, kind byte) (sub bool, err error) {
	if kind == unix.DT_DIR {
		return w.legal(key), nil
	}
	if kind != unix.DT_REG && kind != unix.DT_UNKNOWN {
		w.strange(key)
		return false, nil
	}
	at, err := statIn(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil // deleted meanwhile
	case err != nil:
		return false, err
	case at.Mode&unix.S_IFMT == unix.S_IFDIR:
		return w.legal(key), nil
	case at.Mode&unix.S_IFMT != unix.S_IFREG:
		w.strange(key)
		return false, nil
	}
	if w.legal(key) && strings.HasPrefix(key, w.prefix) && !w.yield(described(key, at), nil) {
		return false, errStop
	}
	return false, nil
}

// legal reports whether there can be an object with a key, or below it.
func (w *walk) legal(key string) bool {
	if len(key) <= maxKey && utf8.ValidString(key) && w.b.names.checkName(path.Base(key)) == nil {
		return true
	}
	w.strange(key)
	return false
}

// strange takes down something that is not listed.
func (w *walk) strange(key string) {
	if w.oddCount++; len(w.odd) < 3 {
		w.odd = append(w.odd, key)
	}
}
