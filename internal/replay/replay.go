// Package replay carries out the commands of a btrfs send stream: it is a
// native receiver, and needs no program of btrfs-progs.
//
// It knows what each command does to a tree, how to do it without leaving that
// tree, and in which order a received snapshot becomes durable and visible. It
// knows nothing of the bytes of a stream (package stream), of ioctls (package
// btrfs), of stores, or of why a snapshot is wanted.
//
//	r := replay.New(replay.Options{Filesystem: fs, Dir: dir, Name: "home.1"})
//	defer r.Abandon()
//	if err := r.Receive(ctx, stream.NewReader(in)); err != nil { ... }
//	result, err := r.Commit(ctx)
//
// # Invariants
//
// Until Commit the subvolume is called NAME.part, is writable and has no
// received UUID. NAME exists only after all data and metadata of the snapshot
// are on stable storage, and then it is read-only and has its received UUID. A
// process that dies, or a power cut, leaves NAME.part or nothing; Receive
// removes such a remainder when it is asked for the same NAME, so the caller
// has to see to it that no two receivers work on one NAME.
//
// A long receive makes checkpoints: read-only snapshots of NAME.part between two
// commands, of which the last is kept, as NAME.checkpoint-OFFSET.part. They are
// durable when they exist, say what they are of, and have never been changed, or
// they are not used. Resume carries on from one; what was torn is never built
// upon. After Commit there is none. A snapshot with a name of more than 219 bytes has none,
// nor has one whose root has the attribute that checkpoints are known by.
//
// A stream is hostile input. No path of it is resolved outside of the
// subvolume, through a symbolic link, or into another mount or subvolume, and
// nothing but regular files and directories is ever opened, so no command waits
// for the far end of a fifo or wakes a device. A stream may make device nodes,
// set-user-ID programs, capabilities and any other extended attribute, as any
// snapshot may have them, and it may clone from any intact snapshot on the file
// system whose UUID it knows: a received snapshot has to be trusted as much as
// its sender before it is made reachable for others.
//
// A clone or an increment starts only from a read-only subvolume that is proven
// to be unchanged since it was received or sent, and Commit proves it again.
//
// # Differences from btrfs receive
//
// The result is the source snapshot: btrfs receive leaves the times of the root
// directory wrong after most increments, and lets every new object inherit a
// default ACL of the root directory. File data are on disk before the received
// UUID is set. Objects are created where they belong rather than under a
// temporary name in the root, which takes about a fifth off the time of many small files; see create.go
// for what has to be undone because of it. What a stream with compressed data
// leaves out behind an inline extent becomes zeros, as at the source, and does
// not stay what the parent had there. A change of owner takes no set-user-ID and
// set-group-ID bits away. A metadata-only stream is refused.
// Removing an extended attribute that is not there is no error, because the
// result is what was asked for.
//
// Not carried over, as with btrfs receive: creation times and inode flags
// (FILEATTR commands are passed over), so files without copy-on-write become
// ordinary ones. Files that carry the immutable flag on the parent, which can
// be when a restore goes back to the original file system, cannot be changed.
//
// # Memory
//
// A Receiver holds the stream reader's buffer, 2 MiB of commands that are being
// carried out, two buffers of at most 1 MiB and a zstd window of at most 8 MiB if
// it has to decompress, whatever the stream. It has at most a hundred files and 16
// clone sources open, and 2048 directories, or a 32nd part of the files that the
// process may have open if that is less.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// PartSuffix is what the name of an unfinished receive ends in.
const PartSuffix = ".part"

// Options says where a stream goes.
type Options struct {
	// Filesystem is where parents and clone sources are looked up.
	Filesystem *btrfs.Filesystem
	// Dir is the directory, on Filesystem, in which the snapshot is made. It
	// stays open as long as the Receiver is used, and is closed by its owner.
	Dir *os.File
	// Name is what the snapshot is called once it is whole: one path element.
	Name string
	// ForceDecompress writes compressed extents as plain data, which the file
	// system then compresses, or not, as it is mounted.
	ForceDecompress bool
	// Checkpoints says how often one is made.
	Checkpoints Checkpoints
	// Log hears of detours that cost time or sharing, never of errors. It may be
	// nil.
	Log *slog.Logger
}

// Receiver makes one snapshot out of one stream. It is used by one goroutine at
// a time.
type Receiver struct {
	o    Options
	log  *slog.Logger
	part string

	state state
	err   error // the first error, for good
	made  bool  // there is a subvolume called part, and it is ours

	tree     *tree // of the subvolume being made; nil before the first command
	uuid     btrfs.UUID
	transid  uint64
	rootTime *[2]unix.Timespec // atime and mtime that the root has in the end

	points       checkpoints
	resumed      stream.Mark // of the checkpoint that tree was made of
	resumedState []byte

	now        place // of the command that is being carried out
	lane       lane
	pending    pending
	file       openFile
	from       cloneFile
	sources    map[btrfs.UUID]*source
	sourceTick uint64
	decoder    decoder
	copied     []byte // buffer of copyRange
}

type state int

const (
	idle      state = iota
	receiving       // Receive has begun
	whole           // END has been carried out
	committed
	abandoned
)

// New returns a Receiver that has not touched anything yet.
func New(o Options) *Receiver {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{
		points:  checkpoints{every: o.Checkpoints.orDefault(), off: len(checkpointName(o.Name, math.MaxInt64)) > longestName},
		o:       o,
		log:     log,
		part:    o.Name + PartSuffix,
		file:    openFile{fd: -1},
		from:    cloneFile{fd: -1},
		sources: map[btrfs.UUID]*source{},
	}
	r.lane.r = r
	return r
}

// Receive carries out all commands of a stream, through END, in Name.part.
//
// It fails with an error that is [ErrExists] before anything is made if the
// name is taken, and with a [*ParentError] if the stream starts from, or clones
// out of, something that is not here or not what it was. Errors of package
// stream come through as they are. After an error nothing but Abandon works.
//
// A cancelled ctx is noticed between commands; what blocks a read of the stream
// has to be closed by its owner.
func (r *Receiver) Receive(ctx context.Context, in *stream.Reader) error {
	if r.err != nil {
		return r.err
	}
	if r.state != idle {
		return errors.New("receiving: a Receiver takes one stream")
	}
	r.state = receiving
	err := r.receive(ctx, in)
	r.closeFile()
	// What came up beside, of an earlier command, is the cause.
	if beside := r.lane.drain(); beside != nil {
		err = r.blame(r.now, beside)
	}
	if err != nil {
		r.err = err
		r.closeFiles()
		return err
	}
	r.state = whole
	return nil
}

func (r *Receiver) receive(ctx context.Context, in *stream.Reader) error {
	if r.tree == nil {
		if err := r.prepare(); err != nil {
			return err
		}
	} else if in.Mark() != r.resumed {
		return fmt.Errorf("receiving %s: the stream does not go on where the checkpoint is", r.o.Name)
	}
	r.startClock(in.Mark().Offset)
	defer r.stopClock()
	ended := false
	for {
		err := ctx.Err()
		var c *stream.Command
		if err == nil {
			c, err = in.Next()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			if !ended && isCut(err) {
				r.rescue(in)
			}
			return fmt.Errorf("receiving %s: %w", r.o.Name, err)
		}
		if ended {
			return r.blame(placeOf(c), errors.New("a command follows the end"))
		}
		r.now = placeOf(c)
		if err := r.lane.failed(); err != nil {
			return r.blame(r.now, err)
		}
		// What the last command put off is done now, and is still its own.
		done := false
		if p := &r.pending; p.kind != 0 {
			if done, err = r.create(c); err != nil {
				return r.blame(place{p.number, p.kind, p.path}, err)
			}
			p.kind = 0
		}
		if !done {
			if err := r.carryOut(ctx, c); err != nil {
				return r.blame(placeOf(c), err)
			}
		}
		ended = c.Kind == stream.End
		if !ended && r.pending.kind == 0 && r.points.isDue(c.Offset+int64(len(c.Frame))) {
			if err := r.checkpoint(in); err != nil {
				return r.blame(placeOf(c), err)
			}
		}
	}
	if !ended {
		return fmt.Errorf("receiving %s: %w", r.o.Name, io.ErrUnexpectedEOF)
	}
	if err := r.tree.settle(); err != nil {
		return fmt.Errorf("receiving %s: %w", r.o.Name, err)
	}
	return nil
}

// place is a command that an error can be blamed on.
type place struct {
	number int64
	kind   stream.Kind
	path   []byte
}

func placeOf(c *stream.Command) place { return place{c.Number, c.Kind, c.Path} }

// blame says in which command an error came up. An error of the name or of the
// parent is a matter of the whole stream, and says enough by itself.
func (r *Receiver) blame(p place, err error) error {
	if beside, ok := errors.AsType[*laneError](err); ok {
		p, err = beside.place, beside.err
	}
	if _, ok := errors.AsType[*ParentError](err); ok || errors.Is(err, ErrExists) {
		return fmt.Errorf("receiving %s: %w", r.o.Name, err)
	}
	if removed := r.orRemoved(err); removed != err {
		return removed
	}
	if len(p.path) == 0 {
		return fmt.Errorf("receiving %s: command %d, %s: %w", r.o.Name, p.number, p.kind, err)
	}
	return fmt.Errorf("receiving %s: command %d, %s %q: %w", r.o.Name, p.number, p.kind, p.path, err)
}

// carryOut does what one command says.
func (r *Receiver) carryOut(ctx context.Context, c *stream.Command) error {
	switch {
	case c.Kind == stream.Subvol || c.Kind == stream.Snapshot:
		return r.begin(c)
	case r.tree == nil:
		return errors.New("the stream does not begin with a subvolume or snapshot")
	}
	switch c.Kind {
	case stream.MkFile, stream.MkDir, stream.MkNod, stream.MkFifo, stream.MkSock, stream.Symlink:
		return r.putOff(c)
	case stream.Rename:
		return r.rename(c.Path, c.PathTo)
	case stream.Link:
		return r.link(c.PathLink, c.Path)
	case stream.Unlink:
		return r.unlink(c.Path, 0)
	case stream.RmDir:
		return r.unlink(c.Path, unix.AT_REMOVEDIR)
	case stream.Write:
		return r.write(c.Path, c.FileOffset, c.Data)
	case stream.EncodedWrite:
		return r.encodedWrite(c)
	case stream.Clone:
		return r.clone(ctx, c)
	case stream.Truncate:
		return r.truncate(c.Path, c.Size)
	case stream.Fallocate:
		return r.fallocate(c.Path, c.FallocateMode, c.FileOffset, c.Size)
	case stream.Chmod:
		return r.chmod(c.Path, c.Mode)
	case stream.Chown:
		return r.chown(c.Path, c.UID, c.GID)
	case stream.Utimes:
		return r.utimes(c.Path, c.Atime, c.Mtime)
	case stream.SetXattr:
		return r.setXattr(c.Path, string(c.XattrName), c.XattrData)
	case stream.RemoveXattr:
		return r.removeXattr(c.Path, string(c.XattrName))
	case stream.FileAttr, stream.End:
		// The value of FILEATTR is a private one of the kernel that made the
		// stream, and the kernel's documentation gives no meaning to it.
		return nil
	case stream.EnableVerity:
		return errVerity
	case stream.UpdateExtent:
		return ErrMetadataOnly
	}
	return fmt.Errorf("command %d is not known to this receiver", c.Kind)
}

// closeFiles closes all but the root of the subvolume.
func (r *Receiver) closeFiles() {
	r.closeFile()
	r.lane.stop()
	r.from.close()
	for u, s := range r.sources {
		s.close()
		delete(r.sources, u)
	}
	if r.tree != nil {
		r.tree.forgetAll()
	}
	r.decoder.close()
}
