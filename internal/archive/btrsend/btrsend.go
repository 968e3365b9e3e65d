// Package btrsend is a store of what btrsend keeps in a vault: backups with dates.
package btrsend

import (
	"context"
	"log/slog"

	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/store"
)

// Row is a backup, as it is written down in the database.
type Row struct {
	ID      int64 // of the row
	Archive string
	Date    string // YYYY-MM-DD
	Parent  string // the date of what it builds on; empty for a complete one
	Size    int64  // as it is stored
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
	// nothing can be stored.
	Rows Rows
	// Seal is what is done to streams that are stored: gzip, and gpg.
	Seal seal.Options
	Keys seal.Keys
	// PartSize is the length of parts; 0 is 32 MiB.
	PartSize int64
	Log      *slog.Logger
}

// Open returns the store. It closes the vault when it is closed.
func Open(ctx context.Context, v *glacier.Vault, o Options) (store.Store, error) { return nil, nil }
