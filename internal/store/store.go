// Package store is the contract between the engine and the places where
// snapshots are kept. A store is listed, read from and written to only through
// the interfaces here; what it can do beyond listing is found by type
// assertion, never by a method that answers "not implemented".
//
// A live store holds snapshots and can make the stream of any edge between two
// of them. Streams are plain btrfs send streams whose first command carries the
// identities of the edge (snapshot.ID and effective transaction numbers),
// whatever lies beneath.
//
// # Who may rely on what
//
//   - List sees everything committed before it began.
//   - A [Writer] has two endings. Commit publishes, and returns only when the
//     snapshot is whole, on stable storage and under its name. Close without
//     Commit abandons: nothing that looks whole stays behind. A process that
//     dies is the same as Close, except that a partial may remain, which List
//     reports as such.
//   - Nothing is ever overwritten: creating where something is fails with
//     [ExistsError].
//   - An error for which [Temporary] answers true may go away when the same
//     call is made again; no other error is retried.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// Store is a place that holds snapshots.
type Store interface {
	// String names the store for people: "btrfs /mnt/a/snaps".
	String() string
	// List returns all that the store holds now, and all unfinished things in
	// it. It changes nothing.
	List(ctx context.Context) (*snapshot.Inventory, error)
	// Close releases what the store holds open. Locks are released by their own
	// functions.
	Close() error
}

// Request says which stream is wanted of a source.
type Request struct {
	Edge snapshot.Edge
	// Clones are further snapshots of the source that the receiver holds too.
	// The stream may refer to data in them instead of carrying it. A source may
	// make no use of them.
	Clones []snapshot.ID
}

// Source is a store that gives back streams.
type Source interface {
	// Open starts the stream of an edge between two snapshots of the store.
	// Both, and the clone sources, have to be in its last List, or have been
	// committed to the same Store since; ErrNotFound says which is not. Reading to
	// the end includes the END command; closing earlier stops the sender, and so
	// does the end of ctx. The same request gives the same stream again, as a rule.
	Open(ctx context.Context, r Request) (io.ReadCloser, error)
}

// Want says what a sink is about to be given.
type Want struct {
	// Edge is the edge whose stream follows.
	Edge snapshot.Edge
	// Transid and FromTransid are the effective transaction numbers of both
	// ends as the source knows them; zero where it does not.
	Transid, FromTransid uint64
	// Path is where the snapshot goes, relative to the store's directory, with
	// slashes. Directories on the way are made.
	Path string
	// Size is the expected length of the stream, if known.
	Size snapshot.Size
	// Fresh asks to begin at the start of the stream, whatever an interrupted
	// transfer has left.
	Fresh bool
}

// Mark is a place in a stream, between two commands.
type Mark struct {
	// Offset is how many bytes of the stream are before it, and Commands how
	// many commands. Both are zero at the start.
	Offset, Commands int64
	// Digest stands for all that is before it (stream.Reader.Mark).
	Digest [32]byte
}

// Chooser is a source that can hold a snapshot several times, under one ID.
type Chooser interface {
	// Choose makes the copy that List showed at a path the one that Open and
	// Measurer mean by the ID from now on, until the next List.
	Choose(id snapshot.ID, path string) error
}

// Sink is a store that takes streams.
type Sink interface {
	// Create makes ready for the stream of want.Edge. It fails with
	// *ExistsError where the path is taken by anything but the remainder of an
	// unfinished transfer, which it removes, and with *ParentError where the
	// stream could not be carried out on what the store holds. It refuses paths
	// that are not clean, leave the directory, lie in a snapshot, or end in
	// snapshot.PartSuffix. When ctx ends, so does what the Writer is doing.
	Create(ctx context.Context, want Want) (Writer, error)
}

// Writer takes one stream. Write is given whole commands that have been
// checked. A stream that is not the one that was announced, or is not complete,
// fails at the latest in Commit.
type Writer interface {
	io.Writer
	// Commit waits until all that was written is durable and publishes the
	// snapshot under its path. After an error nothing has been published, and
	// Close has still to be called.
	Commit(ctx context.Context) error
	// Close abandons what was not committed. It is always safe to defer.
	Close() error
}

// Resumer is a Writer that can carry on where an earlier transfer was
// interrupted.
type Resumer interface {
	Writer
	// Resumed returns the place up to which an earlier transfer has been carried
	// out and is durable; the zero Mark if it begins at the start. The first
	// Write is given what follows that place in a stream that has the same
	// digest up to there. Who cannot give that closes the Writer and asks for
	// another with Want.Fresh. After Close without Commit the next Writer for the
	// same edge and path may carry on in turn; what stays for it is a partial
	// that List shows, and is gone after Commit, or when it has been removed.
	Resumed() Mark
}

// Inspector is a sink that can tell beforehand whether paths are free.
type Inspector interface {
	// Inspect returns, for each of the paths at which something is in the way of
	// a snapshot, what that is, for people to read; why there can be none at all
	// begins with snapshot.NoPlace. It changes nothing. The error is about paths of
	// which it cannot be told, and the map has the others all the same.
	Inspect(ctx context.Context, paths ...string) (map[string]string, error)
}

// Continuer is a source that can leave out the beginning of a stream, so that
// what a receiver has already need not be carried to it again.
type Continuer interface {
	Source
	// OpenAfter starts the stream of a request like Open, and gives what follows
	// the place after, which is not the start. State is what a reader of the rest
	// needs to go on as if it had read the beginning too (stream.Reader.State).
	// What is before the place has been made and looked at; if it is not what the
	// mark's digest stands for, the error is ErrAnother.
	OpenAfter(ctx context.Context, r Request, after Mark) (rest io.ReadCloser, state []byte, err error)
}

// ErrAnother is wrapped by errors that say that a stream is not the one of
// which an interrupted transfer has carried out the beginning.
var ErrAnother = errors.New("the stream is not the one that was interrupted")

// Copier is a sink whose snapshots outside of its directory can be copied in
// without sending them.
type Copier interface {
	// Copy makes a snapshot with the identity want.Edge.To, which the store
	// holds outside of its directory, at want.Path.
	Copy(ctx context.Context, want Want) error
}

// Remover is a store from which snapshots can be removed.
type Remover interface {
	// Remove deletes a snapshot inside the store's directory. It fails, and
	// removes nothing, if what is at the path is not that snapshot any more.
	Remove(ctx context.Context, s snapshot.Snapshot) error
	// RemovePartial deletes an unfinished thing that List reported with Ours
	// set.
	RemovePartial(ctx context.Context, p snapshot.Partial) error
}

// Measurer is a source that can tell how long a stream will be.
type Measurer interface {
	// Estimate answers from metadata, in a fraction of the time that the
	// stream takes; the size is approximate. It gives up when ctx ends, however
	// much there is to look at.
	Estimate(ctx context.Context, r Request) (snapshot.Size, error)
	// Measure answers exactly where it can, and says so in the size, at the
	// cost of a stream without its data.
	Measure(ctx context.Context, r Request) (snapshot.Size, error)
	// Form names the way in which the store would make the stream: the sizes of
	// two requests for one edge are comparable only if their forms are equal. It
	// depends on no more of the request than whether the edge is full and what the
	// clone sources are.
	Form(r Request) string
}

// FormWithClones adds to the form of a stream without clone sources which it
// may refer to, whatever their order.
func FormWithClones(form string, clones []snapshot.ID) string {
	if len(clones) == 0 {
		return form
	}
	ordered := slices.SortedFunc(slices.Values(clones), func(a, b snapshot.ID) int { return slices.Compare(a[:], b[:]) })
	sum := sha256.New()
	for _, id := range ordered {
		sum.Write(id[:])
	}
	return fmt.Sprintf("%s with %d clone sources %x", form, len(clones), sum.Sum(nil)[:8])
}

// SizeKeeper is a store that keeps the known lengths of streams beside its
// snapshots, where other machines find them.
type SizeKeeper interface {
	// KnownSizes returns what the store has noted about the streams of the
	// snapshots in its last List, at these paths, or at all if none is named. What
	// cannot be read is left out, with a warning in the log.
	KnownSizes(ctx context.Context, paths ...string) (map[snapshot.Edge]int64, error)
	// KeepSizes notes the lengths of streams that make the snapshot at a path,
	// beside those noted before. They go with the snapshot. Those of full streams
	// may be left out. It refuses the paths that Create refuses for what they are.
	KeepSizes(ctx context.Context, path string, sizes map[snapshot.Edge]int64) error
}

// Prover is a store that can look closer at a snapshot of doubtful trust.
type Prover interface {
	// Prove returns snapshot.Intact or snapshot.Touched.
	Prove(ctx context.Context, s snapshot.Snapshot) (snapshot.Trust, error)
}

// Locker is a store that only one run at a time may write to.
type Locker interface {
	// Lock takes the store's lock for a run that people know by the given
	// words, or fails at once with *LockedError. The lock dies with the
	// process.
	Lock(ctx context.Context, who string) (unlock func() error, err error)
}

// Located is a store of which can be told whether it is the same place as
// another.
type Located interface {
	// Location is the same text for two stores exactly when they are the same
	// place.
	Location() string
}

// ErrNotFound is wrapped by errors about a snapshot that a store does not hold.
var ErrNotFound = errors.New("no such snapshot")

// ExistsError says that no snapshot can be made at a path because of what is
// there, or above it.
type ExistsError struct {
	Path string // as people know it
	What string // what is in the way: "a snapshot with another identity, ea7c...3ea1"
}

func (e *ExistsError) Error() string { return fmt.Sprintf("%s: in the way is %s", e.Path, e.What) }

// ParentError says why a snapshot cannot serve as the start of an increment.
type ParentError struct {
	ID   snapshot.ID
	Path string // where it was found; empty if it was not
	Why  string // "has been changed since it was received"
}

func (e *ParentError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("parent %s: %s", e.ID, e.Why)
	}
	return fmt.Sprintf("parent %s at %s: %s", e.ID, e.Path, e.Why)
}

// LockedError says that another run writes to a store.
type LockedError struct {
	Store  string
	Holder string // who holds the lock, as far as can be told
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by %s", e.Store, e.Holder)
}

// temporary marks an error that may go away.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

// MarkTemporary returns an error for which Temporary answers true.
func MarkTemporary(err error) error {
	if err == nil {
		return nil
	}
	return temporary{err}
}

// Temporary reports whether the call that failed with err may succeed when it
// is made again.
func Temporary(err error) bool {
	_, ok := errors.AsType[temporary](err)
	return ok
}
