package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// A checkpoint is a read-only snapshot of NAME.part at the boundary between two
// commands. What else a receiver has to know there stands in an attribute of its
// root directory, which is set before the snapshot is made and removed from
// NAME.part after it: so tree and record reach the disk together, or neither
// does. The kernel writes out the data of a subvolume before it makes a snapshot
// of it, and ends the transaction that the snapshot is made in before it returns.
// But it makes the snapshot even where data did not get to the disk, and the files
// in it have holes there: so they are synchronised before, which says so. Only
// when the snapshot is there the checkpoint before it goes.

// Checkpoints says how often a receive makes one. One costs about 50 ms, and
// writing out what waits to be written to the file system.
type Checkpoints struct {
	// Bytes of the stream and Every span of time after the last one, whichever
	// comes first, another is made. Zero stands for 1 GiB and one minute; what is
	// negative is no reason for one. Unless both are negative, one more is made
	// where the stream is cut off, if that saves 16 MiB of it, or Bytes.
	Bytes int64
	Every time.Duration
}

// orDefault returns what zeros stand for.
func (c Checkpoints) orDefault() Checkpoints {
	if c.Bytes == 0 {
		c.Bytes = 1 << 30
	}
	if c.Every == 0 {
		c.Every = time.Minute
	}
	return c
}

// checkpoints is what a Receiver knows of those it makes.
type checkpoints struct {
	every   Checkpoints
	off     bool        // none can be made
	last    int64       // offset of the stream at the last one, or of the start
	next    int64       // offset at which the next is due
	late    atomic.Bool // the next is due by the clock
	clock   *time.Timer // sets late
	current *os.File    // the last one, held open and claimed; nil: none
}

// checkpointMark stands in the name of a checkpoint between the snapshot's name
// and the offset in the stream. PartSuffix ends the name, so that no program that
// knows what unfinished receives are called takes a checkpoint for a snapshot.
const checkpointMark = ".checkpoint-"

// longestName is what the kernel allows for a name.
const longestName = 255

func checkpointName(name string, offset int64) string {
	return name + checkpointMark + strconv.FormatInt(offset, 10) + PartSuffix
}

// isCheckpointName reports whether name can be that of a checkpoint of snapshot.
func isCheckpointName(name, snapshot string) bool {
	rest, ok := strings.CutPrefix(name, snapshot+checkpointMark)
	return ok && isOffset(rest)
}

func isOffset(s string) bool {
	s, ok := strings.CutSuffix(s, PartSuffix)
	n, err := strconv.ParseInt(s, 10, 64)
	return ok && err == nil && strconv.FormatInt(n, 10) == s && n > 0
}

// startClock begins to count, from an offset and from now.
func (r *Receiver) startClock(offset int64) {
	c := &r.points
	c.last, c.next = offset, offset+c.every.Bytes
	if c.every.Bytes < 0 {
		c.next = -1
	}
	if c.clock != nil {
		c.clock.Stop()
	}
	c.late.Store(false)
	if c.every.Every > 0 {
		c.clock = time.AfterFunc(c.every.Every, func() { c.late.Store(true) })
	}
}

func (r *Receiver) stopClock() {
	if r.points.clock != nil {
		r.points.clock.Stop()
	}
}

// isDue reports whether a checkpoint is to be made after a command that ends at
// an offset of the stream.
func (c *checkpoints) isDue(offset int64) bool {
	return !c.off && (c.next >= 0 && offset >= c.next || c.late.Load())
}

// checkpoint makes one. Where that fails, the receive goes on without.
func (r *Receiver) checkpoint(in *stream.Reader) error {
	if err := errors.Join(r.lane.drain(), r.tree.settle()); err != nil {
		return err
	}
	// What has been taken from clone sources is proven here, so that whoever
	// carries on need not know of them.
	if err := r.checkSources(); err != nil {
		return err
	}
	if err := btrfs.Sync(r.tree.root); err != nil {
		return fmt.Errorf("writing out what a checkpoint is to hold: %w", err)
	}
	mark := in.Mark()
	made, err := r.snapshotPart(mark.Offset, &record{name: r.o.Name, rootTime: r.rootTime, state: in.State()})
	switch {
	case err != nil:
		return err
	case made != nil:
		r.dropCheckpoint()
		r.points.current = made
		r.log.Debug("made a checkpoint", "snapshot", r.o.Name, "offset", mark.Offset)
	}
	r.startClock(mark.Offset)
	return nil
}

// worthwhile is how many bytes of a stream a last checkpoint has to save.
const worthwhile = 16 << 20

// isCut reports whether err means that the stream goes on somewhere, and only
// does not arrive here: all that did arrive was good.
func isCut(err error) bool {
	_, unread := errors.AsType[*stream.ReadError](err)
	return unread || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// rescue makes a last checkpoint where the stream has been cut off, so that what
// has arrived need not be sent again.
func (r *Receiver) rescue(in *stream.Reader) {
	c := &r.points
	least := int64(worthwhile)
	if c.every.Bytes > 0 {
		least = min(least, c.every.Bytes)
	}
	if r.tree == nil || c.off || c.every.Bytes < 0 && c.every.Every < 0 || in.Mark().Offset-c.last < least {
		return
	}
	err := r.lane.failed()
	if err == nil && r.pending.kind != 0 {
		_, err = r.create(&stream.Command{}) // it may be renamed yet
		r.pending.kind = 0
	}
	if err == nil {
		err = r.checkpoint(in)
	}
	if err != nil {
		r.log.Warn("what has arrived could not be kept for the next run", "snapshot", r.o.Name, "because", err)
	}
}

// snapshotPart makes the snapshot. It is nil where that cannot be done; an error
// is one after which the receive cannot go on.
func (r *Receiver) snapshotPart(offset int64, c *record) (*os.File, error) {
	root := int(r.tree.root.Fd())
	without := func(err error) (*os.File, error) {
		r.log.Warn("a checkpoint could not be made; an interruption would cost more than it needs to", "snapshot", r.o.Name, "because", err)
		return nil, nil
	}
	if err := unix.Fsetxattr(root, recordXattr, c.encode(), 0); err != nil {
		return without(fmt.Errorf("noting what it is: %w", err))
	}
	name := checkpointName(r.o.Name, offset)
	err := btrfs.CreateSnapshot(r.o.Dir, name, r.tree.root, true)
	if err := unix.Fremovexattr(root, recordXattr); err != nil {
		return nil, fmt.Errorf("removing the record of a checkpoint: %w", err)
	}
	if err != nil {
		return without(err)
	}
	f, err := openSubvolume(r.o.Dir, name)
	if err == nil {
		if err = claim(f); err == nil {
			return f, nil
		}
		f.Close()
	}
	// Nobody holds it, so nobody would delete it after success.
	return without(errors.Join(err, remove(r.o.Dir, name)))
}

// dropCheckpoint deletes the last checkpoint.
func (r *Receiver) dropCheckpoint() {
	c := &r.points
	if c.current == nil {
		return
	}
	name := c.current.Name()
	if err := remove(r.o.Dir, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("a checkpoint that is not needed any more stays", "checkpoint", name, "because", err)
	}
	release(c.current)
	c.current = nil
}

// endCheckpoints lets go of the last checkpoint, and deletes it if nobody could
// carry on from it.
func (r *Receiver) endCheckpoints(keep bool) {
	r.stopClock()
	if !keep {
		r.dropCheckpoint()
	}
	if f := r.points.current; f != nil {
		release(f)
		r.points.current = nil
	}
}

// resumable reports whether a receive that ended with err may go better when it
// is carried on from its last checkpoint: whether it was the stream that was cut
// off, or the machine that had enough. All else may be the checkpoint's fault, or
// would come again.
func resumable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if _, ok := errors.AsType[*ParentError](err); ok || errors.Is(err, ErrExists) {
		return false
	}
	if _, ok := errors.AsType[*stream.ReadError](err); ok {
		return true
	}
	for _, e := range []error{
		stream.ErrTruncated, stream.ErrChecksum, stream.ErrRestarted, io.ErrUnexpectedEOF,
		unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Checkpoint is what an interrupted receive can be carried on from.
type Checkpoint struct {
	// Name is what the snapshot would have been called.
	Name string
	// Mark is the place in the stream, Identity what the stream is of.
	Mark     stream.Mark
	Identity stream.Identity
}

// ErrNoCheckpoint says that a subvolume is no checkpoint of a receive.
var ErrNoCheckpoint = errors.New("not a checkpoint")

// ReadCheckpoint returns what is recorded in a subvolume called name that is a
// checkpoint, by name and record; else the error is [ErrNoCheckpoint]. Any other
// error says why a receive could not be carried on from it.
func ReadCheckpoint(root *os.File, name string) (Checkpoint, error) {
	c, err := readRecord(root, name)
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{Name: c.name, Mark: c.mark, Identity: c.identity}, nil
}

func readRecord(root *os.File, name string) (*record, error) {
	if i := strings.LastIndex(name, checkpointMark); i <= 0 || !isOffset(name[i+len(checkpointMark):]) {
		return nil, fmt.Errorf("%s: %w", name, ErrNoCheckpoint)
	}
	b := make([]byte, maxRecord)
	n, err := unix.Fgetxattr(int(root.Fd()), recordXattr, b)
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil, fmt.Errorf("%s: %w", name, ErrNoCheckpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", recordXattr, name, err)
	}
	c, err := decodeRecord(b[:n])
	if err == nil && name != checkpointName(c.name, c.mark.Offset) {
		err = errors.New("it has been renamed")
	}
	return c, err
}

// checkpointsOf returns the names of what may be checkpoints of a snapshot in
// dir, the last first.
func checkpointsOf(dir *os.File, snapshot string) ([]string, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("looking for checkpoints of %s: %w", snapshot, err)
	}
	f := os.NewFile(uintptr(fd), dir.Name())
	defer f.Close()
	var found []string
	for {
		names, err := f.Readdirnames(1000)
		for _, name := range names {
			if isCheckpointName(name, snapshot) {
				found = append(found, name)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("looking for checkpoints of %s: %w", snapshot, err)
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(b, a)
	})
	return found, nil
}

// RemoveCheckpoints deletes the checkpoints of a snapshot in dir, all but those
// that another receiver is at work on, which is [ErrInUse].
func RemoveCheckpoints(dir *os.File, snapshot string) error {
	names, err := checkpointsOf(dir, snapshot)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		f, err := openCheckpoint(dir, name)
		if err != nil {
			if !errors.Is(err, ErrNoCheckpoint) {
				errs = append(errs, err)
			}
			continue
		}
		errs = append(errs, remove(dir, name))
		release(f)
	}
	return errors.Join(errs...)
}

// openCheckpoint opens and claims what is a checkpoint, however damaged. What is
// something else, whatever its name, gives ErrNoCheckpoint.
func openCheckpoint(dir *os.File, name string) (*os.File, error) {
	f, err := openSubvolume(dir, name)
	if errors.Is(err, ErrExists) || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoCheckpoint
	}
	if err != nil {
		return nil, err
	}
	if _, err := readRecord(f, name); errors.Is(err, ErrNoCheckpoint) {
		f.Close()
		return nil, err
	}
	if err := claim(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}
