// Package btrsend is a store of what btrsend keeps in a vault
// (https://github.com/AmesCornish/btrsend): backups that are known by their dates,
// each complete or built on that of an earlier date.
//
//	st, err := btrsend.Open(ctx, vault, btrsend.Options{Rows: rows, Seal: sealing})
//	inv, err := st.List(ctx)
//
// An archive is a send stream, compressed by gzip and encrypted by gpg for a public
// key, so that gpg -d, gunzip and btrfs receive, the complete one first, restore it
// without any program of ours. Which archives there are is in a database of rows
// (.btrsend.db). Without it the descriptions of the archives tell nearly as much, as
// of the vault's last inventory: "btrsend backup for 2014-01-07 (parent =
// 2014-01-01)".
//
// It knows rows, descriptions, and what is in an archive. It refuses to know how a
// vault is reached, where rows are kept, and on which days there are backups.
//
// # Identities
//
// Neither rows nor descriptions tell UUIDs. So a snapshot is known by the hash of
// the ID of its archive, everywhere and for ever, and the streams that are read say
// so: the UUIDs in them are replaced, by that of the snapshot, and of the backup of
// its parent's date. What is stored is the stream as it came. Where this program has
// stored the parent, its UUID is in the row, and a stream that builds on something
// else is refused.
//
// # What may be relied on
//
// A row is added when the vault has confirmed the hash of the whole archive, and the
// stream has come with its END, not before. An archive is deleted before its row is.
// What dies in between leaves an archive without a row, or a row without an archive,
// which can be removed once more; an upload that was interrupted is dropped by the
// vault.
//
// # Memory
//
// Storing takes three parts of the upload, 96 MiB with parts of 32 MiB, beside what
// gzip and gpg take; reading some hundred KiB; listing some hundred bytes a backup.
package btrsend

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Row is a backup, as it is written down in the database.
type Row struct {
	ID      int64 // of the row
	Archive string
	Date    string // YYYY-MM-DD
	Parent  string // the date of what it builds on; empty for a complete one
	Size    int64  // as it is stored
	// Stream is the UUID by which its stream calls the snapshot; empty where that is
	// not known.
	Stream string
}

// Rows is the database.
type Rows interface {
	// All returns the rows in order of their dates.
	All(ctx context.Context) ([]Row, error)
	// Add adds a row, whose ID is ignored, durably.
	Add(ctx context.Context, r Row) error
	// Remove removes the row with an ID.
	Remove(ctx context.Context, id int64) error
}

// Options say how the store is used.
type Options struct {
	// Rows is the database; nil takes what is there from the vault's inventory, and
	// nothing can be stored or removed.
	Rows Rows
	// Seal is what is done to streams that are stored: gzip, and gpg.
	Seal seal.Options
	Keys seal.Keys
	// PartSize is the length of parts, in bytes; 0 is 32 MiB. It is made longer, to 1
	// MiB times a power of two, and so that a stream of known length fits.
	PartSize int64
	// Log gets warnings and details; nil is silence.
	Log *slog.Logger
}

// Store is what btrsend keeps in a vault.
type Store struct {
	vault *glacier.Vault
	o     Options
	log   *slog.Logger

	mu        sync.Mutex
	inventory *glacier.Inventory // nil if it has not been read
	known     *catalogue         // of the last List, and since
}

var _ interface {
	store.Store
	store.Source
	store.Sink
	store.Inspector
	store.Remover
	store.Located
	store.Thawer
	store.Billed
	store.Verifier
} = (*Store)(nil)

// DefaultPartSize is how long parts are, in bytes, where nothing else is said: it is
// btrsend's.
const DefaultPartSize = 32 << 20

// Open returns the store. It closes the vault when it is closed, and asks it nothing
// yet.
func Open(ctx context.Context, v *glacier.Vault, o Options) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if o.PartSize <= 0 {
		o.PartSize = DefaultPartSize
	}
	s := &Store{vault: v, o: o, log: o.Log, known: &catalogue{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Close closes the vault.
func (s *Store) Close() error { return s.vault.Close() }

// String names the store for people.
func (s *Store) String() string { return s.vault.String() + " (btrsend)" }

// Location is the same text for two stores exactly when they are one.
func (s *Store) Location() string { return "btrsend in " + s.vault.Location() }

// OwnIdentities reports that the store lists its snapshots by IDs of its own, and
// that increments are announced to it with such a one in their edges.
func (s *Store) OwnIdentities() bool { return true }

// errNoRows says why nothing changes.
var errNoRows = errors.New("without btrsend's database nothing can be changed: name it with the option database, as in glacier://VAULT/?database=/home/USER/.btrsend.db")

// ID is the identity of a backup: a hash of the ID of its archive, as a UUID of
// version 8 (RFC 9562).
func ID(archive string) snapshot.ID { return derive("btrsend archive\x00" + archive) }

// missing is the identity of what there is no archive of, by its date.
func missing(date string) snapshot.ID { return derive("btrsend date\x00" + date) }

func derive(text string) snapshot.ID {
	sum := sha256.Sum256([]byte(text))
	id := snapshot.ID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Inspect returns what is in the way of snapshots at paths.
func (s *Store) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := map[string]string{}
	for _, path := range paths {
		if _, err := schedule.ParseDate(path); err != nil {
			ways[path] = snapshot.NoPlace + "btrsend calls backups by dates: " + err.Error()
		} else if b := s.known.at(path); b != nil {
			ways[path] = "a backup of that date, " + b.id.Short()
		}
	}
	return ways, nil
}

// find returns a backup of the last List.
func (s *Store) find(id snapshot.ID) (*backup, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.known.byID[id]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%s holds no backup %s: %w", s, id, store.ErrNotFound)
}

// of returns the backup whose archive has the stream of an edge.
func (s *Store) of(e snapshot.Edge) (*backup, error) {
	b, err := s.find(e.To)
	if err != nil {
		return nil, err
	}
	from := e.From
	if on, err := s.find(from); err == nil { // by another name, perhaps
		from = on.id
	}
	if b.from != from {
		err = fmt.Errorf("%s holds no stream of %s from %s: %w", s, e.To, e.From, store.ErrNotFound)
	}
	return b, err
}
