package replay

import (
	"fmt"
	"math"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/stream"
)

// handle is an open object whose metadata are to be changed. What cannot be
// opened without side effects (devices, fifos, sockets, symbolic links) is
// only referred to (O_PATH), and changed through its name in /proc/self/fd,
// which leads to that very object and no further.
type handle struct {
	fd     int
	byName bool
}

// handle opens the entry base of d.
func (t *tree) handle(d *dir, base string) (handle, error) {
	st, err := t.stat(d, base)
	if err != nil {
		return handle{}, err
	}
	flags := unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	h := handle{}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		flags |= unix.O_RDONLY
	default:
		flags |= unix.O_PATH
		h.byName = true
	}
	if h.fd, err = unix.Openat(d.fd, base, flags, 0); err != nil {
		return handle{}, fmt.Errorf("opening: %w", err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(h.fd, &now); err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		h.close()
		return handle{}, fmt.Errorf("opening: it was replaced meanwhile (%w)", ErrOutside)
	}
	return h, nil
}

func (h handle) close() { unix.Close(h.fd) }

func (h handle) name() string { return "/proc/self/fd/" + strconv.Itoa(h.fd) }

func (h handle) setXattr(name string, value []byte) error {
	if h.byName {
		return unix.Setxattr(h.name(), name, value, 0)
	}
	return unix.Fsetxattr(h.fd, name, value, 0)
}

func (h handle) removeXattr(name string) error {
	if h.byName {
		return unix.Removexattr(h.name(), name)
	}
	return unix.Fremovexattr(h.fd, name)
}

func (h handle) chmod(mode uint32) error {
	if h.byName {
		return unix.Fchmodat(unix.AT_FDCWD, h.name(), mode, 0)
	}
	return unix.Fchmod(h.fd, mode)
}

func (h handle) chown(uid, gid int) error {
	return unix.Fchownat(h.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

func (h handle) setTimes(ts []unix.Timespec) error {
	return unix.UtimesNanoAt(h.fd, "", ts, unix.AT_EMPTY_PATH)
}

// chownAlone changes the owner, and nothing else: the system call also takes the
// set-user-ID and set-group-ID bits away, but a stream that does not speak of
// the mode means that it stays. For a fresh file there is nothing to do if the
// owner is right.
func (h handle) chownAlone(uid, gid int, fresh bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil {
		return err
	}
	if fresh && int64(st.Uid) == int64(uid) && int64(st.Gid) == int64(gid) {
		return nil
	}
	if err := unix.Fchown(h.fd, uid, gid); err != nil {
		return err
	}
	if !losesBits(st) {
		return nil
	}
	return h.chmod(st.Mode & 0o7777)
}

// losesBits reports whether a change of owner takes bits of the mode away.
func losesBits(st unix.Stat_t) bool {
	return st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && st.Mode&unix.S_IFMT != unix.S_IFDIR
}

// What the errors of metadata begin with; nil stays nil.
func settingMode(err error) error  { return because("setting the mode", err) }
func settingOwner(err error) error { return because("setting the owner", err) }
func settingTimes(err error) error { return because("setting the times", err) }

func settingXattr(name string, err error) error {
	if err != nil {
		return fmt.Errorf("setting attribute %q: %w", name, err)
	}
	return nil
}

func removingXattr(name string, err error) error {
	if err != nil && err != unix.ENODATA {
		return fmt.Errorf("removing attribute %q: %w", name, err)
	}
	return nil
}

func because(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// with gives a handle for what is at path to change, other than the file at hand:
// a directory that is open anyway, or what is opened for the purpose.
func (r *Receiver) with(path []byte, change func(handle) error) error {
	if h, ok := r.held(path); ok {
		return change(h)
	}
	d, base, _, err := r.entry(path)
	if err != nil {
		return err
	}
	h, err := r.tree.handle(d, base)
	if err != nil {
		return err
	}
	defer h.close()
	return change(h)
}

// held returns a handle for the directory at path if it is open already.
func (r *Receiver) held(path []byte) (handle, bool) {
	if len(path) == 0 {
		return handle{fd: r.tree.top.fd}, true
	}
	if d := r.tree.dirs[string(path)]; d != nil {
		return handle{fd: d.fd}, true
	}
	return handle{}, false
}

// entry finds what is at path for a call that changes it by name. The entry may
// be the top of something that is mounted there, so it is looked at before. A
// regular file may have been the one at hand, so what is to be done to that is
// waited for.
func (r *Receiver) entry(path []byte) (*dir, string, unix.Stat_t, error) {
	d, base, err := r.tree.at(path)
	if err != nil {
		return nil, "", unix.Stat_t{}, err
	}
	st, err := r.tree.stat(d, base)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if err = r.lane.drain(); err == nil {
			st, err = r.tree.stat(d, base)
		}
	}
	return d, base, st, err
}

func (r *Receiver) chmod(path []byte, mode uint64) error {
	r.tree.changed(path)
	if r.file.is(path) {
		r.file.fresh = false
		return r.laterAtHand(op{kind: stream.Chmod, mode: uint32(mode & 0o7777)}, r.file.fd)
	}
	return settingMode(r.chmodTo(path, uint32(mode&0o7777)))
}

func (r *Receiver) chmodTo(path []byte, mode uint32) error {
	if h, ok := r.held(path); ok {
		return h.chmod(mode)
	}
	d, base, st, err := r.entry(path)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return fmt.Errorf("a symbolic link has none: %w", unix.EOPNOTSUPP)
	}
	err = unix.Fchmodat(d.fd, base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP {
		return err
	}
	// Before Linux 6.6 the call cannot be told not to follow.
	h, err := r.tree.handle(d, base)
	if err != nil {
		return err
	}
	defer h.close()
	return h.chmod(mode)
}

func (r *Receiver) chown(path []byte, uid, gid uint64) error {
	// The highest number means "leave it" to the system call.
	if uid >= math.MaxUint32 || gid >= math.MaxUint32 {
		return fmt.Errorf("setting the owner: %d:%d is out of range", uid, gid)
	}
	r.tree.changed(path)
	if r.file.is(path) {
		return r.laterAtHand(op{kind: stream.Chown, off: uid, size: gid}, r.file.fd)
	}
	return settingOwner(r.chownTo(path, int(uid), int(gid)))
}

func (r *Receiver) chownTo(path []byte, uid, gid int) error {
	if h, ok := r.held(path); ok {
		return h.chownAlone(uid, gid, false)
	}
	d, base, st, err := r.entry(path)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(d.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !losesBits(st) {
		return nil
	}
	return r.chmodTo(path, st.Mode&0o7777)
}

func (r *Receiver) utimes(path []byte, atime, mtime stream.Time) error {
	ts := [2]unix.Timespec{}
	for i, t := range []stream.Time{atime, mtime} {
		// Greater numbers mean "now" and "leave it" to the system call.
		if t.Nsec >= 1e9 {
			return fmt.Errorf("setting the times: %d nanoseconds are out of range", t.Nsec)
		}
		ts[i] = unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
	}
	if len(path) == 0 {
		// Whatever is done in the root directory from now on changes them
		// again, and the kernel sends them once: they are set in the end.
		r.rootTime = &ts
		return nil
	}
	if r.file.is(path) {
		return r.laterAtHand(op{kind: stream.Utimes, ts: ts}, r.file.fd)
	}
	if d := r.tree.dirs[string(path)]; d != nil {
		d.times, d.hasTimes = ts, true
		return r.tree.err
	}
	return settingTimes(r.setTimes(path, ts[:]))
}

func (r *Receiver) setTimes(path []byte, ts []unix.Timespec) error {
	d, base, _, err := r.entry(path)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(d.fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func (r *Receiver) setXattr(path []byte, name string, value []byte) error {
	r.tree.changed(path)
	if len(path) == 0 && name == recordXattr {
		r.points.off = true // it is the snapshot's own from now on
	}
	if r.file.is(path) {
		r.file.fresh = false
		return r.laterAtHand(op{kind: stream.SetXattr, name: name, data: value}, r.file.fd)
	}
	return r.with(path, func(h handle) error { return settingXattr(name, h.setXattr(name, value)) })
}

func (r *Receiver) removeXattr(path []byte, name string) error {
	r.tree.changed(path)
	if r.file.is(path) {
		return r.laterAtHand(op{kind: stream.RemoveXattr, name: name}, r.file.fd)
	}
	return r.with(path, func(h handle) error { return removingXattr(name, h.removeXattr(name)) })
}
