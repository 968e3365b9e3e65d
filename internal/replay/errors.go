package replay

import (
	"errors"
	"fmt"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// ErrExists is wrapped by errors about a name that is taken: by anything where
// the snapshot is to be, or by something that is not a subvolume where the
// unfinished one is to be.
var ErrExists = errors.New("already exists")

// ErrInUse says that another receiver is at work on a subvolume.
var ErrInUse = errors.New("another run is receiving it")

// ErrMetadataOnly says that a stream was made without file data, for measuring.
// It cannot be turned into a snapshot.
var ErrMetadataOnly = errors.New("the stream has no file data (it was made for measuring)")

// ErrOutside says that a path of a stream leads out of the subvolume.
var ErrOutside = errors.New("the path leads out of the subvolume")

// errVerity: only kernels with experimental features send such streams.
var errVerity = errors.New("fs-verity is not supported by this receiver")

// ParentReason says why a subvolume cannot be built upon.
type ParentReason int

const (
	// ParentMissing: no subvolume here has the UUID.
	ParentMissing ParentReason = iota
	// ParentWritable: there is one, but it is writable, so that it may change
	// at any time.
	ParentWritable
	// ParentChanged: it is read-only, but has changed since it was received, or
	// since it was sent.
	ParentChanged
)

// String says the reason as the end of a sentence about the subvolume.
func (p ParentReason) String() string {
	switch p {
	case ParentMissing:
		return "is not on this file system"
	case ParentWritable:
		return "is writable"
	case ParentChanged:
		return "has been changed since it was received or sent"
	}
	return "cannot be used"
}

// ParentError says that the parent of an increment, or a source of a clone, is
// missing or is not any more what the stream was made against.
type ParentError struct {
	// UUID is what the stream calls it.
	UUID btrfs.UUID
	// Path is where it was found, from the top level of the file system; empty
	// if it is missing, or if its path could not be told.
	Path string
	// Reason says what is wrong with it, or with the best of several.
	Reason ParentReason
}

func (e *ParentError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("parent %s %s", e.UUID, e.Reason)
	}
	return fmt.Sprintf("parent %s at %s %s", e.UUID, e.Path, e.Reason)
}
