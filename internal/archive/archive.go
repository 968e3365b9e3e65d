// Package archive is a store that keeps streams as objects in a bucket: any
// edge that was put there can be had back, and no other. S3 and a plain
// directory are buckets alike, with one layout (docs/format.md).
//
//	s, err := archive.Open(ctx, bucket, archive.Options{Prefix: "backups"})
//	inv, err := s.List(ctx)
//
// It knows what keys mean, how streams become objects and get back (room seal
// does the compressing and encrypting), what describes and proves them, which
// objects have to be thawed for a stream, and what it takes to remove a snapshot
// from under the hands of other machines. It does not know how a bucket keeps
// bytes, what that costs, what is wanted where, or what a stream does.
//
// # What may be relied on
//
//   - The object is the commit. It is there as a whole or not at all, and never
//     replaced; manifests, notes of sizes and the marker only help.
//   - Nothing is deleted that has not been copied to the trash before, except
//     by [Store.Discard]. What is not to be copied (Object.Fixed) stays where it is
//     and is removed by a tombstone beside it, which is put at once and taken away
//     at once.
//   - Whoever takes something away looks afterwards whether anything that stays
//     has come to need it, and puts it back then. Whoever adds an increment looks
//     afterwards whether all that it needs is there. So with any number of both,
//     in whatever order, nothing below the prefix that stays ends without what it
//     needs (sweep.go). What is below other prefixes of the bucket is looked at
//     before something is removed.
//   - That holds with tombstones too. Who removes puts them and lists then; who
//     adds an increment completes its object and then asks for the tombstones of
//     all that its chain needs. What is put back comes in the order of its chain.
//     An object that has been put back cannot be deleted by somebody who still
//     takes it for removed: who deletes puts a mark and then looks whether the
//     tombstone is still the same one, who puts back takes the tombstone away and
//     then looks for the mark; and what has either counts as removed. Before that,
//     who deletes has listed the bucket when the tombstone was there, and nothing
//     may have been in need (discard.go). Without locks, that leaves one who has
//     died with his mark set: it holds others up for a day.
//   - What is in cold storage is never read, nor asked for, but by [Store.Thaw].
//     Manifests that are there keep nothing from being read.
//   - Keys are foreign text. A key is used as the bucket gave it; nothing in it
//     leads elsewhere, and messages show it so that terminals survive it.
//   - Only what is below the prefix is listed, with two exceptions: where a chain
//     needs a snapshot that is not there, and before anything is removed, the rest
//     of the bucket is looked through once. Nothing outside of the prefix is ever changed, but for the trash.
//
// # Memory
//
// Listing holds one page of the bucket, and for each stream 80 bytes, its tag, and
// the path of its snapshot, which all streams to it share: 180 bytes with paths of
// 30 (TestMemory). Keys are made again when they are asked for; only those that we
// would not have made are kept. While it goes on it takes up to three times that;
// so does sweeping, which lists twice. Each tombstone takes 300 bytes more, and 900
// from when the trash is listed and emptied. What List and Trashed return is on top
// of that, and the caller's.
package archive

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
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

// Store is an archive in a bucket.
type Store struct {
	bucket Bucket
	o      Options
	log    *slog.Logger
	now    func() time.Time
	budget *budget
	// reading bounds what is read ahead.
	reading *pool
	// tidied is done when what interrupted runs have left has been put in order.
	tidied sync.Once

	mu       sync.Mutex
	known    *catalogue // of the last List, and since
	changes  uint64     // how many there have been
	partials map[string][]Unfinished
	// What lies beside objects that have been removed without being moved, when the
	// trash was listed last, and what has become known of them since; by key.
	stones  map[string]*tomb
	cleared map[string]cleared
	marker  *marker // what was read of it; nil if it has not been looked for
}

var _ interface {
	store.Store
	store.Source
	store.Sink
	store.Inspector
	store.Located
	store.Sweeper
	store.Trash
	store.Thawer
	store.Billed
	store.SizeKeeper
	store.Verifier
	store.Notebook
} = (*Store)(nil)

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

const (
	defaultPartSize = 100 << 20
	defaultInFlight = 3
)

// Open returns the archive in a bucket. It closes the bucket when it is closed,
// and not where opening fails. Whether there is an archive is not looked at.
func Open(ctx context.Context, b Bucket, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	if err := checkPrefix(o.Prefix); err != nil {
		return nil, fmt.Errorf("opening the archive %s in %s: %w", printable(o.Prefix), b, err)
	}
	if o.PartSize <= 0 {
		o.PartSize = defaultPartSize
	}
	if o.InFlight <= 0 {
		o.InFlight = defaultInFlight
	}
	s := &Store{bucket: b, o: o, log: o.Log, now: o.Now, budget: newBudget(int64(o.InFlight) * o.PartSize), known: &catalogue{prefix: o.Prefix}}
	s.reading = newPool((rangesAhead - 1) * s.rangeSize())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Close closes the bucket.
func (s *Store) Close() error { return s.bucket.Close() }

// String names the archive for people: "s3://bucket/prefix".
func (s *Store) String() string {
	if s.o.Prefix == "" {
		return s.bucket.String()
	}
	return strings.TrimSuffix(s.bucket.String(), "/") + "/" + s.o.Prefix
}

// Location is the same text for two archives exactly when they are one.
func (s *Store) Location() string { return s.bucket.Location() + " " + s.o.Prefix }

// Inspect returns what is in the way of snapshots at paths: that there can be
// none, or another snapshot that the last List has shown there.
func (s *Store) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ways := map[string]string{}
	for _, path := range paths {
		if what := s.inspect(path); what != "" {
			ways[path] = what
		}
	}
	return ways, nil
}

func (s *Store) inspect(path string) string {
	if err := s.checkPath(path); err != nil {
		return snapshot.NoPlace + err.(*errPath).why
	}
	if err := s.bucket.CheckKey(s.canonical(path, snapshot.Edge{To: snapshot.ID{1}}, s.o.Seal.Form())); err != nil {
		return snapshot.NoPlace + err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.known.at(path); ok {
		return "a snapshot with another identity, " + id.Short()
	}
	return ""
}
