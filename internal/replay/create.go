package replay

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/stream"
)

// The kernel sends a new object as two commands: make it in the root directory
// under a temporary name, and rename it to where it belongs. Carried out one by
// one, the renames cost more than anything else. So making is put off until the
// next command is seen, and if that is the rename, the object is created at its
// final path.
//
// An object created there may inherit from its directory what the commands do
// not say: default ACLs, the group and the set-group-ID bit, the compression
// property. The stream describes objects that inherited nothing, so all of it
// is taken away again. Which directories can give something is remembered with
// the open directory.

// pending is an object that has been announced and not yet made.
type pending struct {
	kind   stream.Kind // 0: none
	number int64
	path   []byte
	link   []byte
	mode   uint32 // file type bits of a device node
	rdev   uint64
}

// inheritance says whether objects created in a directory get more than the
// creating call asks for.
type inheritance int

const (
	unknown inheritance = iota
	gives
	givesNone
)

// Xattrs that a new object may get from its directory, or that make a
// directory give something.
const (
	aclAccess   = "system.posix_acl_access"
	aclDefault  = "system.posix_acl_default"
	compression = "btrfs.compression"
)

func (r *Receiver) putOff(c *stream.Command) error {
	p := &r.pending
	p.path = append(p.path[:0], c.Path...)
	p.link = append(p.link[:0], c.PathLink...)
	p.mode, p.rdev = 0, 0
	if c.Kind == stream.MkNod {
		p.mode, p.rdev = uint32(c.Mode&unix.S_IFMT), c.Rdev
		if p.mode != unix.S_IFCHR && p.mode != unix.S_IFBLK {
			return fmt.Errorf("making a device node: mode %o is not of a device", c.Mode)
		}
		if p.rdev > math.MaxUint32 {
			return fmt.Errorf("making a device node: device number %#x is too large", c.Rdev)
		}
	}
	p.kind, p.number = c.Kind, c.Number
	return nil
}

// create makes the pending object, at its final path if c is the rename to
// there; then c is done.
func (r *Receiver) create(c *stream.Command) (done bool, err error) {
	p := &r.pending
	if c.Kind == stream.Rename && bytes.Equal(c.Path, p.path) {
		err := r.make(c.PathTo)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return false, fmt.Errorf("as %q: %w", c.PathTo, err)
		}
		// A rename replaces what is in the way, and creating does not.
	}
	return false, r.make(p.path)
}

// make creates the pending object at path, with nothing inherited.
func (r *Receiver) make(path []byte) error {
	d, base, err := r.tree.at(path)
	if err != nil {
		return err
	}
	inherits, err := d.inherits()
	if err != nil {
		return err
	}
	p := &r.pending
	fd, mode := -1, uint32(0o600)
	switch p.kind {
	case stream.MkFile:
		fd, err = unix.Openat(d.fd, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	case stream.MkDir:
		mode = 0o700
		err = unix.Mkdirat(d.fd, base, mode)
	case stream.MkNod:
		err = unix.Mknodat(d.fd, base, p.mode|mode, int(p.rdev))
	case stream.MkFifo:
		err = unix.Mknodat(d.fd, base, unix.S_IFIFO|mode, 0)
	case stream.MkSock:
		err = unix.Mknodat(d.fd, base, unix.S_IFSOCK|mode, 0)
	case stream.Symlink:
		err = unix.Symlinkat(string(p.link), d.fd, base)
	}
	if err != nil {
		return fmt.Errorf("creating: %w", err)
	}
	if fd >= 0 {
		r.setFile(path, fd, true)
	}
	if !inherits {
		return nil
	}
	if p.kind == stream.Symlink {
		// It has neither ACLs nor properties, nor a mode of its own.
		if err := unix.Fchownat(d.fd, base, unix.Geteuid(), unix.Getegid(), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("setting the owner: %w", err)
		}
		return nil
	}
	h := handle{fd: fd}
	if fd < 0 {
		if h, err = r.tree.handle(d, base); err != nil {
			return err
		}
		defer h.close()
	}
	return h.disinherit(mode)
}

// disinherit makes a new object what it were if its directory gave nothing.
func (h handle) disinherit(mode uint32) error {
	for _, name := range []string{aclAccess, aclDefault, compression} {
		if err := h.removeXattr(name); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return fmt.Errorf("removing the inherited %s: %w", name, err)
		}
	}
	if err := h.chown(unix.Geteuid(), unix.Getegid()); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if err := h.chmod(mode); err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	return nil
}

// inherits reports whether objects created in d get anything from it.
func (d *dir) inherits() (bool, error) {
	if d.inherit == unknown {
		found, err := d.look()
		if err != nil {
			return false, err
		}
		d.inherit = givesNone
		if found {
			d.inherit = gives
		}
	}
	return d.inherit == gives, nil
}

func (d *dir) look() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return false, fmt.Errorf("reading the status of %q: %w", d.path, err)
	}
	if st.Mode&unix.S_ISGID != 0 {
		return true, nil
	}
	for _, name := range []string{aclDefault, compression} {
		n, err := unix.Fgetxattr(d.fd, name, nil)
		switch {
		case err == nil && n > 0:
			return true, nil
		case err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP:
			return false, fmt.Errorf("reading %s of %q: %w", name, d.path, err)
		}
	}
	return false, nil
}

// changed notes that mode or xattrs of the directory at path, if it is one,
// are not what they were.
func (t *tree) changed(path []byte) {
	if len(path) == 0 {
		t.top.inherit = unknown
	} else if d := t.dirs[string(path)]; d != nil {
		d.inherit = unknown
	}
}

func (r *Receiver) rename(from, to []byte) error {
	d1, base1, err := r.tree.at(from)
	if err != nil {
		return err
	}
	d2, base2, err := r.tree.at(to)
	if err != nil {
		return err
	}
	// Renaming could move, or replace, a subvolume of somebody else's.
	what, err := r.tree.stat(d1, base1)
	if err != nil {
		return err
	}
	instead, err := r.tree.stat(d2, base2)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := unix.Renameat(d1.fd, base1, d2.fd, base2); err != nil {
		return fmt.Errorf("renaming to %q: %w", to, err)
	}
	r.tree.gone(to) // what was there is replaced
	r.moved(from, what.Mode)
	r.moved(to, instead.Mode)
	return nil
}

func (r *Receiver) link(old, name []byte) error {
	d1, base1, err := r.tree.at(old)
	if err != nil {
		return err
	}
	d2, base2, err := r.tree.at(name)
	if err != nil {
		return err
	}
	if err := unix.Linkat(d1.fd, base1, d2.fd, base2, 0); err != nil {
		return fmt.Errorf("linking to %q: %w", old, err)
	}
	return nil
}

func (r *Receiver) unlink(path []byte, flags int) error {
	d, base, err := r.tree.at(path)
	if err != nil {
		return err
	}
	mode := uint32(unix.S_IFREG)
	if flags == unix.AT_REMOVEDIR {
		mode = unix.S_IFDIR
		// Removing a directory could remove a subvolume.
		if _, err := r.tree.stat(d, base); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(d.fd, base, flags); err != nil {
		return fmt.Errorf("removing: %w", err)
	}
	r.tree.gone(path)
	r.moved(path, mode)
	return nil
}

// moved forgets everything that is held open under a path that no longer
// means what it did: something with the given mode, of which the type counts.
func (r *Receiver) moved(path []byte, mode uint32) {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		r.tree.forget(path)
	}
	if below(r.file.path, path) {
		r.closeFile()
	}
	if r.from.own && below(r.from.path, path) {
		r.from.close()
	}
}

// below reports whether path is top or lies under it.
func below(path, top []byte) bool {
	rest, ok := bytes.CutPrefix(path, top)
	return ok && (len(rest) == 0 || rest[0] == '/')
}
