package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// The abilities in this file are those of stores that keep streams in cold storage,
// where they have to be asked for some time before they can be read, and of those
// for which somebody gets a bill.

// Tier is how soon cold storage gives a readable copy. Sooner is dearer.
type Tier string

const (
	// Bulk takes up to two days, and costs the least.
	Bulk Tier = "bulk"
	// Standard takes some hours.
	Standard Tier = "standard"
	// Expedited takes minutes, where there is such a thing.
	Expedited Tier = "expedited"
)

// ParseTier reads the name of a tier.
func ParseTier(text string) (Tier, error) {
	switch t := Tier(text); t {
	case Bulk, Standard, Expedited:
		return t, nil
	}
	return "", fmt.Errorf("%q is no way of thawing: want bulk, standard or expedited", text)
}

// ThawOptions say how streams are asked for.
type ThawOptions struct {
	// Tier is how soon they are wanted; empty is Bulk.
	Tier Tier
	// Days is how long they are to stay readable; 0 is seven. Where the store
	// decides on that itself it has no effect.
	Days int
	// Ask has what is cold asked for. Without it nothing is changed anywhere.
	Ask bool
}

// ThawState is how things stand with a stream.
type ThawState string

const (
	// Readable can be opened now.
	Readable ThawState = "readable"
	// Pending has been asked for, and cannot be opened yet.
	Pending ThawState = "pending"
	// Cold has not been asked for.
	Cold ThawState = "cold"
)

// Thawing is how things stand with the stream of an edge.
type Thawing struct {
	snapshot.Edge
	Path   string // of the snapshot
	Object string // the store's own name for what holds the stream
	Bytes  int64  // as it is stored
	Class  string // where it is kept; empty for the usual place
	State  ThawState
	// Asked is when it was asked for, and Tier how, where that is known.
	Asked time.Time
	Tier  Tier
	// Fresh is set if it was this call that asked.
	Fresh bool
	// Until is how long a readable copy stays; zero if it needs none, or where it
	// is not known.
	Until time.Time
}

// Thawer is a store in which streams can be cold.
type Thawer interface {
	// Thaw tells how things stand with the streams of edges, which the last List
	// has shown, in their order, and asks for those that are cold, at once and not
	// waiting for any. What is pending or readable already is never asked for again.
	// Of an edge that has several objects, the one counts that is readable first.
	// What keeps some from being asked for is the error; the others are asked for
	// all the same, and the answer tells of all.
	Thaw(ctx context.Context, edges []snapshot.Edge, o ThawOptions) ([]Thawing, error)
}

// ErrCold is matched by errors that say that something cannot be read before it
// has been asked for, and some time has passed.
var ErrCold = errors.New("it is in cold storage")

// PendingError says that something has been asked of cold storage and is not
// there yet. The same call, later, goes on.
type PendingError struct {
	What string // "the inventory of glacier://vault"
	// Asked is when it was asked for, and Due when it is there at the latest, as a
	// rule; zero where that is not known.
	Asked, Due time.Time
}

func (e *PendingError) Error() string {
	text := e.What + " has been asked for, and is not there yet"
	if !e.Due.IsZero() {
		text += ", but should be by " + e.Due.Format("2006-01-02 15:04 MST")
	}
	return text
}

// Is makes it ErrCold.
func (e *PendingError) Is(target error) bool { return target == ErrCold }

// Tariff says whose prices hold for a store.
type Tariff struct {
	// Provider is "aws", or the host of another one.
	Provider string
	// Service is "s3" or "glacier".
	Service string
	Region  string // may be empty
	// Class is where new streams are kept; empty for the usual place. Those that
	// are known to be shorter than Small, in bytes, are kept in the usual place.
	Class string
	Small int64
	// PartSize is how long the parts of an upload are, in bytes: each is a request.
	PartSize int64
}

// Holding is something that is stored and billed.
type Holding struct {
	// Edge and Path are those of the stream that it holds. Both are zero where it
	// holds something else.
	snapshot.Edge
	Path  string
	Key   string // the store's own name
	Class string // empty for the usual place
	Bytes int64
	// Since is from when on it has been stored; zero if that is not known.
	Since time.Time
	// Trashed is set for what is in the trash.
	Trashed bool
}

// Billed is a store for which somebody gets a bill.
type Billed interface {
	// Tariff asks nobody. It returns nil where nothing is billed.
	Tariff() *Tariff
	// Holdings gives all that is stored for the store, and in its trash. After an
	// error it ends.
	Holdings(ctx context.Context) iter.Seq2[Holding, error]
}
