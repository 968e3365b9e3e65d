package store

import (
	"context"
	"errors"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// The abilities in this file are those of places where snapshots are made and
// kept for a time: the directory that a backup is made in, and those that it goes
// to.

// Snapshotter is a store in which snapshots of one subvolume can be made, which
// is named when the store is opened.
type Snapshotter interface {
	// Origin returns the UUID of that subvolume. ErrNoOrigin says that none was
	// named.
	Origin(ctx context.Context) (snapshot.ID, error)
	// Snapshot makes a read-only snapshot of the subvolume at a path, as Create
	// takes them, and returns it when it is on stable storage. It fails with
	// *ExistsError where the path is taken. From then on it can be asked for like
	// one that List has shown.
	Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error)
}

// TakeLocker is a Snapshotter in which one run at a time gives snapshots their names
// and makes them, whoever has the lock of Locker meanwhile: that may be held for days
// while something is transferred, and this one for no longer than a snapshot takes.
type TakeLocker interface {
	Snapshotter
	// LockTaking takes the lock, or fails at once with *LockedError; of several that ask
	// at the same moment, all may. The lock dies with the process. A run that wants
	// Locker's, too, takes that one first. A store that cannot tell who else is making
	// snapshots fails with errors.ErrUnsupported.
	LockTaking(ctx context.Context, who string) (unlock func() error, err error)
}

// Changer is a Snapshotter that can tell whether another snapshot would be any
// different.
type Changer interface {
	Snapshotter
	// Changed reports whether anything in the subvolume is not as in a snapshot of it,
	// which is in the last List or was made since. Directories of snapshots do not
	// count, nor do the notes and sizes in them, nor what has only been read. Where
	// that cannot be told apart for certain the answer is true.
	Changed(ctx context.Context, since snapshot.ID) (bool, error)
}

// ErrNoOrigin says that a store does not know what it is to make snapshots of.
var ErrNoOrigin = errors.New("no subvolume is named of which snapshots could be made")

// The notes that a Notebook keeps.
const (
	// LocksNote is btrfs-backup's record of unfinished transfers (package
	// outstanding).
	LocksNote = ".outstanding_transfers"
	// RetentionNote says what is held, and by whom which snapshot is needed (package
	// job).
	RetentionNote = ".buttersink-retention"
)

// IsNotePlace reports whether a path in a directory, which has notes as files, is
// theirs: at its top, what is called like one, with or without something behind it,
// and what lies in that. A snapshot there would be in the way of the notes.
func IsNotePlace(path string) bool {
	return strings.HasPrefix(path, LocksNote) || strings.HasPrefix(path, RetentionNote)
}

// MaxNote is how long a note may be, in bytes.
const MaxNote = 4 << 20

// Notebook is a store that keeps small files about its snapshots beside them. It
// takes no other names than LocksNote and RetentionNote.
type Notebook interface {
	// ReadNote returns a note; nil if there is none, or an empty one.
	ReadNote(ctx context.Context, name string) ([]byte, error)
	// WriteNote puts a note where was is now, which is what ReadNote has returned
	// last: whole and durable, or not at all. It fails with ErrNoteChanged if
	// something else is there. Empty data removes the note.
	WriteNote(ctx context.Context, name string, data, was []byte) error
}

// ErrNoteChanged says that a note is not what it was when it was read.
var ErrNoteChanged = errors.New("somebody else has changed it")

// Reclaimer is a store that frees the space of what has been removed some time
// after Remove has returned.
type Reclaimer interface {
	// Reclaim waits until the space of all that was removed is free.
	Reclaim(ctx context.Context) error
}

// Leftovers is a store in which an interrupted receive by another program leaves
// what cannot be told from a subvolume in use: writable, and under the name of
// the snapshot.
type Leftovers interface {
	// RemoveLeftover deletes such a thing; who calls it knows from elsewhere what
	// it is. It fails, and removes nothing, if there is a read-only subvolume, one
	// with a received UUID, one that other subvolumes lie in, or anything else.
	RemoveLeftover(ctx context.Context, path string) error
}
