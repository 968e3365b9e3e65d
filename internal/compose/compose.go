// Package compose makes the full send stream of a read-only subvolume in user
// space, from its metadata tree and its data: the native sender.
//
// It knows the order of a tree's items, and in which order a receiver can carry
// out what they say. It knows nothing of increments, which only the kernel
// makes, nor of where a stream goes.
//
//	in, err := compose.Send(ctx, subvol, compose.Options{Protocol: 2, Compressed: true})
//	...
//	defer in.Close()
//	_, err = io.Copy(out, in)
//
// # The stream
//
// A receiver makes of it the tree that it makes of the kernel's full stream. It
// is not the same stream: everything is created at its final path, directories
// first, then everything else in the order of inode numbers, each with its data
// and metadata at once; last comes the metadata of the directories. So nothing
// inherits an ACL or a property from the directory it is created in, and the
// times of directories are right in the end.
//
// Data that the subvolume has in several places (reflinks) are sent once and
// cloned from there, as far as the sectors and the ends of the files allow.
// Holes and preallocated extents are not sent; a TRUNCATE says how long a file
// is where its data do not. Inodes without a name are left out, and nested
// subvolumes are not even empty directories.
//
// With Compressed, compressed extents are sent as they are stored, where that is
// not longer than the data, as the kernel does it. If the kernel refuses to give
// one in that form it is sent as plain data.
//
// # Invariants
//
// The stream is the same, byte for byte, whenever it is made and whatever the
// number of workers, until somebody deduplicates the subvolume; after that it is
// another one of the same tree, and one that is under way ends in
// [btrfs.ErrBusy].
//
// Reading ends in io.EOF only if everything has been read and the subvolume has
// been there, unchanged and read-only, up to the end. No error is swallowed: what
// cannot be read ends the stream with an error that names the file.
//
// # Memory
//
// Bounded but for the directories. Each takes 24 bytes and its name, in arrays
// that are copied as they grow: some 100 bytes at the worst, so that a million
// directories take 100 MB. Beyond that there are up to 8 MiB to recognise
// repeated extents, of which 256 Ki at most are kept in mind (30 MB; only what is
// repeated counts, and what is beyond is sent again), 1 MiB of tree items, and
// for each worker up to three pieces of the stream of some 700 KiB and a buffer of
// 512 KiB.
//
// The page cache does not fill up: data are read past it where it does not have
// them, or leave it again.
package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// Options say which stream is wanted.
type Options struct {
	// Protocol is 1 or 2; 0 is 1.
	Protocol uint32
	// Compressed sends compressed extents as they are stored. Protocol 2 only.
	Compressed bool
	// Workers is how many files are read at a time. 0 is a sensible number.
	Workers int
}

// defaultWorkers is more than there are processors, since most of the time a
// worker waits for the disk.
const defaultWorkers = 4

// checked returns the options with nothing left open.
func (o Options) checked() (Options, error) {
	if o.Protocol == 0 {
		o.Protocol = 1
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	switch {
	case o.Protocol > 2:
		return o, fmt.Errorf("protocol %d is not known: %w", o.Protocol, syscall.EPROTO)
	case o.Compressed && o.Protocol < 2:
		return o, fmt.Errorf("compressed data needs protocol 2: %w", syscall.EINVAL)
	}
	return o, nil
}

// Send makes the stream of the read-only subvolume subvol. The caller reads it to
// its end or not, and closes it in any case; subvol may be closed before.
//
// Reading gives io.EOF only after success; else the error at the end says why the
// stream is incomplete. It is a [*btrfs.PermissionError] for want of CAP_SYS_ADMIN
// or CAP_DAC_READ_SEARCH. When ctx is done, reading gives its cause. Read and
// Close may be called at the same time, and Close makes a waiting Read return. It
// waits for a disk that does not answer for some seconds at most.
func Send(ctx context.Context, subvol *os.File, o Options) (io.ReadCloser, error) {
	op := "sending " + subvol.Name()
	o, err := o.checked()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	tree, err := btrfs.OpenContents(subvol)
	if err != nil {
		return nil, err
	}
	return start(ctx, op, tree, o), nil
}

// Measure returns the length of the stream that [Send] makes, in bytes, from the
// metadata alone. It is exact, unless the kernel refuses Send a compressed
// extent.
func Measure(ctx context.Context, subvol *os.File, o Options) (int64, error) {
	op := "measuring " + subvol.Name()
	o, err := o.checked()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	tree, err := btrfs.OpenContents(subvol)
	if err != nil {
		return 0, err
	}
	defer tree.Close()
	length := int64(0)
	count := func(b *batch) (*batch, error) {
		length += int64(b.size)
		b.reset()
		return b, nil
	}
	if err := newComposer(ctx, treeOf(tree), o, count).compose(&batch{}); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if err := tree.Unchanged(); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	return length, nil
}

// orBusy returns err, or that the tree has changed meanwhile if that may be why.
func orBusy(tree *btrfs.Contents, err error) error {
	if changed := tree.Unchanged(); errors.Is(changed, btrfs.ErrBusy) {
		return fmt.Errorf("%w: %w", changed, err)
	}
	return err
}
