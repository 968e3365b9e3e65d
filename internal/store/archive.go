package store

import (
	"context"
	"io"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// The abilities in this file are those of stores that keep streams
// (snapshot.Inventory.Archive).

// Lengthy is a stream of which the length is known when it has been opened.
type Lengthy interface {
	io.ReadCloser
	// Length is how many bytes reading to the end gives.
	Length() snapshot.Size
}

// Skipper is a Writer that may find that a part of what it makes of the stream
// is where it belongs already, since an earlier transfer was interrupted.
type Skipper interface {
	Writer
	// Skipped is how many bytes have not had to be stored again so far, as they
	// are stored.
	Skipped() int64
}

// Sweeper is a Remover that removes many snapshots so that another machine which
// stores increments at the same time loses nothing.
type Sweeper interface {
	Remover
	// Sweep removes snapshots like Remove, and tells of each when it is done for
	// good. One that something has come to depend on is put back, which is an
	// error of that snapshot. It returns what keeps it from going on.
	Sweep(ctx context.Context, all []snapshot.Snapshot, removed func(snapshot.Snapshot, error)) error
}

// Tidier is a store in which interrupted transfers leave things behind that only
// a later run can put in order.
type Tidier interface {
	// Tidy does so once everything else is done. What does not work is told in the
	// log: it waits for another run.
	Tidy(ctx context.Context)
}

// Trashed is a stream that has been removed and can still be had back.
type Trashed struct {
	snapshot.Stored
	// Path is where its snapshot is listed once it is back.
	Path string
	// When it was removed.
	When time.Time
	// Handle is the store's own name for it, for people to read too.
	Handle string
	// Class is where it is kept, empty for the usual place, and Since from when on it
	// has been stored there.
	Class string
	Since time.Time
}

// Trash is a store that keeps for a time what is removed from it.
type Trash interface {
	// Trashed returns what has been removed and is still there, the oldest
	// first.
	Trashed(ctx context.Context) ([]Trashed, error)
	// Untrash puts a stream back where it was. It fails with *ExistsError if
	// another one has come there.
	Untrash(ctx context.Context, t Trashed) error
	// Discard removes a stream for good.
	Discard(ctx context.Context, t Trashed) error
}

// Verdict says how things stand with something that was verified.
type Verdict string

const (
	// Sound: all that was to be looked at is as it should be.
	Sound Verdict = "sound"
	// Damaged: what is there is not what was stored, or something is missing.
	Damaged Verdict = "damaged"
	// Unchecked: it could not be looked at, so nothing is known.
	Unchecked Verdict = "unchecked"
)

// VerifyOptions say what is looked at.
type VerifyOptions struct {
	// Data has every stream read from its first byte to its last; without it only
	// listings and descriptions are compared.
	Data bool
	// Wanted says which snapshots are meant; nil means all.
	Wanted func(snapshot.Snapshot) bool
	// Write allows to write down what is found out about streams that have no
	// description.
	Write bool
	// Found is told of every stream that was looked at, and of every snapshot that
	// cannot be had back, from one goroutine at a time. It may be nil.
	Found func(Finding)
	// Progress is told how many bytes have been read, of how many that are to be.
	// It may be nil.
	Progress func(read, of int64)
}

// Finding is what was found out about one stream, or, where Object is empty,
// about one snapshot.
type Finding struct {
	Verdict Verdict
	Edge    snapshot.Edge
	Path    string // of the snapshot
	Object  string // the store's own name for what was looked at
	Why     string // for people; empty if Sound
	Read    int64  // bytes read of it
}

// Verification counts what was looked at.
type Verification struct {
	// Streams and Snapshots count by verdict. A snapshot is as bad as the best
	// chain that leads to it.
	Streams, Snapshots map[Verdict]int
	// Read is how many bytes of streams, as they are stored, were read, and of how
	// many streams all of them.
	Read      int64
	ReadWhole int
	// Described counts streams that got a description they did not have, and
	// Undescribed those that still have none: only what is in them speaks for them.
	Described, Undescribed int
}

// Verifier is a store that can tell whether what it keeps is what it was given.
type Verifier interface {
	// Verify looks at what is there now. Its error is about what keeps it from
	// going on; findings are none.
	Verify(ctx context.Context, o VerifyOptions) (*Verification, error)
}
