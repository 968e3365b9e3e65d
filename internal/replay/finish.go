package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// Result is what a snapshot is that was made.
type Result struct {
	// UUID is its own, ReceivedUUID its identity.
	UUID, ReceivedUUID btrfs.UUID
	// Stransid is the transaction number that came with the stream, Rtransid
	// that in which it was completed here.
	Stransid, Rtransid uint64
}

// prepare sees to it that both names are free. It makes nothing, and removes
// only the remainder of an unfinished receive.
func (r *Receiver) prepare() error {
	if err := checkName(r.o.Name); err != nil {
		return err
	}
	if err := vacant(r.o.Dir, r.o.Name); err != nil {
		return err
	}
	if err := r.removeRemainder(); err != nil {
		return err
	}
	return RemoveCheckpoints(r.o.Dir, r.o.Name)
}

func (r *Receiver) removeRemainder() error {
	removed, err := RemoveRemainder(r.o.Dir, r.part)
	if removed {
		r.log.Info("Removed what an unfinished receive had left: " + r.part)
	}
	return err
}

// checkName refuses what is no name, and names of unfinished receives: such a
// snapshot would be taken for the remainder of another.
func checkName(name string) error {
	if !isName([]byte(name)) || strings.Contains(name, "/") || strings.HasSuffix(name, PartSuffix) {
		return fmt.Errorf("%q is not a name for a snapshot", name)
	}
	return nil
}

// vacant fails with ErrExists if dir has an entry called name.
func vacant(dir *os.File, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch err {
	case unix.ENOENT:
		return nil
	case nil:
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	return fmt.Errorf("looking for %s: %w", name, err)
}

// RemoveRemainder deletes the subvolume called part in dir, if there is one, and
// tells whether it did. It may be a checkpoint. It fails with [ErrInUse] if a
// Receiver is at work on it, and with [ErrExists] if it is not a subvolume, or
// somebody's snapshot.
func RemoveRemainder(dir *os.File, part string) (removed bool, err error) {
	switch err := vacant(dir, part); {
	case err == nil:
		return false, nil
	case !errors.Is(err, ErrExists):
		return false, err
	}
	f, err := openSubvolume(dir, part)
	if err != nil {
		return false, err
	}
	defer release(f)
	if err := claim(f); err != nil {
		return false, fmt.Errorf("deleting %s: %w", part, err)
	}
	// What we make gets its received UUID before it becomes read-only.
	info, err := btrfs.Info(f)
	if err != nil {
		return false, fmt.Errorf("looking at %s: %w", part, err)
	}
	if _, err := readRecord(f, part); info.ReadOnly && info.ReceivedUUID.IsZero() && errors.Is(err, ErrNoCheckpoint) {
		return false, fmt.Errorf("%s: %w, and is a snapshot that has not been received", part, ErrExists)
	}
	if err := remove(dir, part); err != nil {
		return false, err
	}
	return true, nil
}

// claim marks an unfinished subvolume as being worked on, for as long as f is
// open: what is left of a dead process is free.
func claim(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return ErrInUse
	}
	return err
}

// release ends a claim and closes f. Closing alone would leave the claim to a
// child process that is just being started.
func release(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	f.Close()
}

func remove(dir *os.File, part string) error {
	err := btrfs.DeleteSubvolume(dir, part)
	if errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("deleting %s: there is another subvolume in it: %w", part, err)
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", part, err)
	}
	return nil
}

// openSubvolume opens the subvolume called name in dir; what is something else
// is in the way.
func openSubvolume(dir *os.File, name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: confined,
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat2(int(dir.Fd()), name, &how)
		return err
	})
	switch err {
	case nil:
	case unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
		return nil, fmt.Errorf("%s: %w, and is not a subvolume", name, ErrExists)
	default:
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	is, err := btrfs.IsSubvolume(f)
	if err == nil && !is {
		err = fmt.Errorf("%s: %w, and is not a subvolume", name, ErrExists)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// begin carries out the first command.
func (r *Receiver) begin(c *stream.Command) error {
	if r.tree != nil {
		return errors.New("a second subvolume in one stream")
	}
	r.uuid, r.transid = btrfs.UUID(c.UUID), c.Transid
	if r.uuid.IsZero() {
		return errors.New("the stream has no UUID")
	}
	if c.Kind == stream.Snapshot {
		parent, err := r.source(btrfs.UUID(c.CloneUUID), c.CloneTransid)
		if err != nil {
			return err
		}
		if err := btrfs.CreateSnapshot(r.o.Dir, r.part, parent.file, false); err != nil {
			return err
		}
	} else if err := btrfs.CreateSubvolume(r.o.Dir, r.part); err != nil {
		return err
	}
	r.made = true
	if err := r.openPart(); err != nil {
		return err
	}
	if c.Kind == stream.Subvol {
		// The directory that it is made in may hand something down as well.
		return handle{fd: r.tree.top.fd}.disinherit(0o755)
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.tree.top.fd, &st); err != nil {
		return fmt.Errorf("reading the times of the parent: %w", err)
	}
	r.rootTime = &[2]unix.Timespec{st.Atim, st.Mtim}
	if _, err := unix.Fgetxattr(r.tree.top.fd, recordXattr, nil); err != unix.ENODATA {
		r.points.off = true // the snapshot has one that it has to keep
	}
	return nil
}

// openPart opens what has just been made.
func (r *Receiver) openPart() error {
	root, err := openSubvolume(r.o.Dir, r.part)
	if err != nil {
		return err
	}
	if err := claim(root); err != nil {
		root.Close()
		return fmt.Errorf("%s: %w", r.part, err)
	}
	if r.tree, err = newTree(root, dirsHeld()); err != nil {
		root.Close()
	}
	return err
}

// Commit makes a received snapshot durable, marks it as received and read-only,
// and gives it its name; when it returns without error, all of that survives a
// power cut. After an error there is no snapshot of that name, and Abandon
// removes the rest.
func (r *Receiver) Commit(ctx context.Context) (Result, error) {
	if r.err != nil {
		return Result{}, r.err
	}
	if r.state != whole {
		return Result{}, errors.New("committing: nothing has been received")
	}
	result, err := r.commit(ctx)
	r.closeFiles()
	if err != nil {
		err = r.orRemoved(err)
		r.err = err
		return Result{}, err
	}
	r.tree.close()
	r.state = committed
	return result, nil
}

// orRemoved is err, or what is behind it if somebody has deleted Name.part: the
// kernel only says then that something does not exist.
func (r *Receiver) orRemoved(err error) error {
	if !r.made || !errors.Is(err, os.ErrNotExist) || vacant(r.o.Dir, r.part) != nil {
		return err
	}
	return fmt.Errorf("receiving %s: it has been removed while it was being received (%s)", r.o.Name, r.part)
}

func (r *Receiver) commit(ctx context.Context) (Result, error) {
	if err := r.checkSources(); err != nil {
		return Result{}, fmt.Errorf("committing %s: %w", r.o.Name, err)
	}
	if r.rootTime != nil {
		if err := unix.UtimesNanoAt(r.tree.top.fd, "", r.rootTime[:], unix.AT_EMPTY_PATH); err != nil {
			return Result{}, fmt.Errorf("committing %s: setting the times of the root directory: %w", r.o.Name, err)
		}
	}
	return finish(ctx, r.o.Dir, r.tree.root, r.part, r.o.Name, r.uuid, r.transid, func() { r.endCheckpoints(false) })
}

// Abandon removes what was received and not committed, all but the last
// checkpoint if carrying on from it makes sense: where the stream was cut off or
// the receive was given up, and where the disk was full or failed. It does
// nothing after Commit, and nothing the second time.
func (r *Receiver) Abandon() error {
	if r.state == committed || r.state == abandoned {
		return nil
	}
	r.state = abandoned
	r.endCheckpoints(resumable(r.err))
	if r.err == nil {
		r.err = errors.New("receiving: the receive was abandoned")
	}
	r.closeFiles()
	if r.tree != nil {
		r.tree.close()
	}
	if !r.made {
		return nil
	}
	if err := remove(r.o.Dir, r.part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("abandoning: %w", err)
	}
	return nil
}

// Finish takes the last steps of a snapshot that is complete under the name
// part in dir, however it was made: it writes it to disk, marks it as received
// with uuid and stransid and as read-only, and renames it to name. When it
// returns without error, all of that survives a power cut.
func Finish(_ *btrfs.Filesystem, dir *os.File, part, name string, uuid btrfs.UUID, stransid uint64) (Result, error) {
	if err := checkName(name); err != nil {
		return Result{}, err
	}
	if err := vacant(dir, name); err != nil {
		return Result{}, err
	}
	root, err := openSubvolume(dir, part)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	return finish(context.Background(), dir, root, part, name, uuid, stransid, func() {})
}

// finish: the order is what matters. The received UUID says that a snapshot is
// whole, so the data are on disk before it; and the name says that all is done,
// so it comes last. Along with it goes what tidy removes.
func finish(ctx context.Context, dir, root *os.File, part, name string, uuid btrfs.UUID, stransid uint64, tidy func()) (Result, error) {
	fail := func(what string, err error) (Result, error) {
		return Result{}, fmt.Errorf("finishing %s: %s: %w", name, what, err)
	}
	if uuid.IsZero() {
		return fail("marking it as received", errors.New("there is no UUID"))
	}
	// The kernel lets only a writable subvolume be marked as received.
	if ro, err := btrfs.ReadOnly(root); err != nil {
		return fail("looking whether it is read-only", err)
	} else if ro {
		if err := btrfs.SetReadOnly(root, false); err != nil {
			return fail("making it writable", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fail("writing it to disk", err)
	}
	if err := btrfs.Sync(root); err != nil {
		return fail("writing it to disk", err)
	}
	if err := ctx.Err(); err != nil {
		return fail("marking it as received", err)
	}
	rtransid, err := btrfs.SetReceived(root, uuid, stransid)
	if err != nil {
		return fail("marking it as received", err)
	}
	if err := btrfs.SetReadOnly(root, true); err != nil {
		return fail("making it read-only", err)
	}
	info, err := btrfs.Info(root)
	if err != nil {
		return fail("looking at it", err)
	}
	if intact, err := btrfs.Untouched(root); err != nil {
		return fail("looking whether it is intact", err)
	} else if !intact {
		return fail("looking whether it is intact", errors.New("somebody else has changed it"))
	}
	if err := publish(dir, root, part, name); err != nil {
		return fail("renaming", err)
	}
	tidy()
	if err := btrfs.Sync(dir); err != nil {
		// Whether the name is on disk is not known, so it is taken back.
		if back := unix.Renameat2(int(dir.Fd()), name, int(dir.Fd()), part, unix.RENAME_NOREPLACE); back != nil {
			err = errors.Join(err, fmt.Errorf("renaming it back: %w", back))
		}
		return fail("writing its name to disk", err)
	}
	return Result{UUID: info.UUID, ReceivedUUID: info.ReceivedUUID, Stransid: info.Stransid, Rtransid: rtransid}, nil
}

// publish renames part, which is the subvolume root, to name.
func publish(dir, root *os.File, part, name string) error {
	var at, now unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &at); err != nil {
		return err
	}
	if err := unix.Fstatat(int(dir.Fd()), part, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if at.Dev != now.Dev || at.Ino != now.Ino {
		return fmt.Errorf("%s has been replaced", part)
	}
	err := unix.Renameat2(int(dir.Fd()), part, int(dir.Fd()), name, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	return err
}
