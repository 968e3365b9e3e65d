package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
	"github.com/buttersink/buttersink/internal/place"
)

// vault makes the vault of a place ready.
func (env *Env) vault(ctx context.Context, p site, o opening) (*glacier.Vault, error) {
	g := glacier.Options{
		Vault: p.Bucket, Account: p.Options["account"], Region: p.Options["region"], Endpoint: p.Options["endpoint"],
		Limit: o.limit, Getenv: env.Getenv, Log: env.Log, Now: env.Now,
	}
	if home := env.Getenv("HOME"); home != "" {
		g.KeyFile = filepath.Join(home, ".aws-keys") // as btrsend's library has it
	}
	return glacier.Open(ctx, g)
}

// glacierBucket makes the vault of a place ready as a bucket of our layout.
func (env *Env) glacierBucket(ctx context.Context, p site, o *opening) (archive.Bucket, error) {
	if o.ledger == nil {
		o.ledger = env.openLedger()
	}
	if o.ledger == nil {
		return nil, &exitError{
			code: exitConfig, err: fmt.Errorf("what is in glacier://%s cannot be told: a vault lists itself only hours after it was asked, so the ledger is needed, and cannot be had", p.Bucket),
			hint: "BUTTERSINK_STATE names a directory for it.",
		}
	}
	v, err := env.vault(ctx, p, *o)
	if err != nil {
		return nil, err
	}
	if o.makeVault {
		made, err := v.Make(ctx)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		if made {
			env.Log.Info(fmt.Sprintf("%s was not there: it is made", v))
		}
	}
	bucket, err := glacier.NewBucket(v, o.ledger)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return bucket, nil
}

// openBtrsend opens what btrsend has left in a vault, by the option database or
// from the vault's own inventory.
func (env *Env) openBtrsend(ctx context.Context, p site, o opening) (*opened, error) {
	if s := &o.archive.Seal; s.Form().Cipher == seal.GPG && !s.Compress {
		s.Compress, s.Gzip = true, true // as btrsend does
	}
	b := btrsend.Options{Rows: o.rows, Seal: o.archive.Seal, Keys: o.archive.Keys, PartSize: o.archive.PartSize, Log: env.Log}
	if path := p.Options["database"]; path != "" && o.rows == nil {
		// Opening would make one.
		if _, err := os.Stat(path); err != nil {
			return nil, &exitError{
				code: exitFailed, err: fmt.Errorf("opening btrsend's database: %w", err),
				hint: fmt.Sprintf("If it is lost, %s shows what the vault itself tells of its archives.", shellWord("glacier://"+p.Bucket+"/?layout="+place.BtrsendLayout)),
			}
		}
		db, err := btrsenddb.Open(path)
		if err != nil {
			return nil, err
		}
		env.closers = append(env.closers, db)
		b.Rows = dbRows{db}
	}
	v, err := env.vault(ctx, p, o)
	if err != nil {
		return nil, err
	}
	st, err := btrsend.Open(ctx, v, b)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return &opened{site: p, Store: st}, nil
}

// dbRows is btrsend's database as the store of its backups takes it.
type dbRows struct{ db *btrsenddb.DB }

func (d dbRows) All(ctx context.Context) ([]btrsend.Row, error) {
	all, err := d.db.All(ctx)
	rows := make([]btrsend.Row, len(all))
	for i, r := range all {
		rows[i] = btrsend.Row(r)
	}
	return rows, err
}

func (d dbRows) Add(ctx context.Context, r btrsend.Row) error {
	return d.db.Add(ctx, btrsenddb.Row(r))
}

func (d dbRows) Remove(ctx context.Context, id int64) error { return d.db.Remove(ctx, id) }

// emptyRows is the database that a run would make which makes nothing.
type emptyRows struct{}

func (emptyRows) All(context.Context) ([]btrsend.Row, error) { return nil, nil }

func (emptyRows) Add(context.Context, btrsend.Row) error { return errNoDatabase }

func (emptyRows) Remove(context.Context, int64) error { return errNoDatabase }

var errNoDatabase = errors.New("there is no database")
