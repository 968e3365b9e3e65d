// Package archive is a store that keeps streams as objects in a bucket, laid out
// as docs/format.md says.
package archive

import (
	"log/slog"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// Options say how an archive is used.
type Options struct {
	// Prefix is what the keys of the archive begin with, without a slash at either
	// end; empty for a whole bucket.
	Prefix string
	// Seal is what is done to streams that are stored.
	Seal seal.Options
	// Keys open what is encrypted.
	Keys seal.Keys
	// RequireEncryption refuses to store anything that is not encrypted.
	RequireEncryption bool
	// PartSize is the least length of the parts of an upload, in bytes; 0 is 100
	// MiB. It grows where an object would have too many.
	PartSize int64
	// InFlight is how many parts may be held in memory at a time; 0 is 3.
	InFlight int
	// Notes keep what an interrupted upload needs to be carried on. Nil keeps
	// nothing.
	Notes Notes
	// Version names the program in what it writes.
	Version string
	// Log gets warnings and details; nil is silence.
	Log *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Notes keep small secrets from one run to the next, where only the user can
// read them.
type Notes interface {
	// Notes returns what is kept for a place, by name.
	Notes(place string) (map[string][]byte, error)
	// Keep keeps data under a name, in place of what was there.
	Keep(place, name string, data []byte) error
	// Forget removes what is kept under a name, so that it is not to be found on
	// the disk either.
	Forget(place, name string) error
}

// Store is an archive in a bucket. It is a store.Store, and can do what is
// listed in the package's documentation.
type Store struct {
	bucket Bucket
	o      Options
	budget *budget

	mu      sync.Mutex
	objects map[snapshot.Edge][]*stored // of the last List, and since
}

// stored is an object that holds the stream of an edge.
type stored struct {
	Object
	Edge snapshot.Edge
	Path string // of the snapshot, relative to the prefix
	Form seal.Form
	// Outside is set for an object that is not below the prefix.
	Outside bool
	// Described is set if there is a manifest beside it.
	Described bool
}
