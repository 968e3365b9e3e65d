package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
)

var glacierQuery = queryForm{"a Glacier URL", []string{"account", "database", "endpoint", "layout", "region"}}

// btrsendLayout is the value of the option layout for what btrsend has left.
const btrsendLayout = "btrsend"

// queryOf says what the query of the URLs of a scheme may have.
func queryOf(scheme string) (form queryForm, ok bool) {
	switch scheme {
	case "s3":
		return s3Query, true
	case "glacier":
		return glacierQuery, true
	}
	return queryForm{}, false
}

// ofBtrsend reports whether the place is a vault with what btrsend has left.
func (p place) ofBtrsend() bool {
	return p.scheme == "glacier" && (p.options["layout"] == btrsendLayout || p.options["database"] != "")
}

// hasTrash reports whether what is removed can be put back.
func (p place) hasTrash() bool { return p.archive() && !p.ofBtrsend() }

// parseGlacier reads what stands behind glacier:// in an argument.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-put.html has the rule for
// names of vaults.
func parseGlacier(arg, text string, destination bool) (place, error) {
	p := place{arg: arg, scheme: "glacier"}
	var err error
	if text, p.query, p.options, err = splitQuery(text, glacierQuery); err != nil {
		return place{}, err
	}
	vault, key, _ := strings.Cut(text, "/")
	p.bucket = vault
	switch {
	case vault == "":
		return place{}, fmt.Errorf("%q names no vault: want glacier://VAULT/PREFIX/", redact(arg))
	case strings.ContainsAny(vault, ":@"):
		// Not shown, not even with stars: any of it may be the secret.
		return place{}, errors.New("credentials do not belong into a Glacier URL: want glacier://VAULT/PREFIX/, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile in the environment, or ~/.aws-keys")
	}
	if err := checkVault(vault); err != nil {
		return place{}, fmt.Errorf("%q: %w", redact(arg), err)
	}
	if p, err = p.below(key, "a vault", destination); err != nil {
		return place{}, err
	}
	layout, given := p.options["layout"]
	database, listed := p.options["database"]
	switch {
	case given && layout != btrsendLayout:
		return place{}, fmt.Errorf("%q: the layout %q is not known: want %s, or no such option for ours", redact(arg), layout, btrsendLayout)
	case listed && database == "":
		return place{}, fmt.Errorf("%q: want the path of btrsend's database in the option database", redact(arg))
	case p.ofBtrsend() && p.dir != "":
		return place{}, fmt.Errorf("%q: btrsend has no prefixes: want glacier://%s/ or glacier://%s/DATE, with the options", redact(arg), vault, vault)
	}
	return p, nil
}

// checkVault says why there can be no vault of a name.
func checkVault(name string) error {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, odd) {
		return errors.New("a vault has letters, digits, '.', '-' and '_' in its name, 255 of them at most")
	}
	return nil
}

// vault makes the vault of a place ready.
func (env *Env) vault(ctx context.Context, p place, o opening) (*glacier.Vault, error) {
	g := glacier.Options{
		Vault: p.bucket, Account: p.options["account"], Region: p.options["region"], Endpoint: p.options["endpoint"],
		Limit: o.limit, Getenv: env.Getenv, Log: env.Log, Now: env.Now,
	}
	if home := env.Getenv("HOME"); home != "" {
		g.KeyFile = filepath.Join(home, ".aws-keys") // as btrsend's library has it
	}
	return glacier.Open(ctx, g)
}

// glacierBucket makes the vault of a place ready as a bucket of our layout.
func (env *Env) glacierBucket(ctx context.Context, p place, o *opening) (archive.Bucket, error) {
	if o.ledger == nil {
		o.ledger = env.openLedger()
	}
	if o.ledger == nil {
		return nil, &exitError{
			code: exitConfig, err: fmt.Errorf("what is in glacier://%s cannot be told: a vault lists itself only hours after it was asked, so the ledger is needed, and cannot be had", p.bucket),
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
func (env *Env) openBtrsend(ctx context.Context, p place, o opening) (*opened, error) {
	if s := &o.archive.Seal; s.Form().Cipher == seal.GPG && !s.Compress {
		s.Compress, s.Gzip = true, true // as btrsend does
	}
	b := btrsend.Options{Rows: o.rows, Seal: o.archive.Seal, Keys: o.archive.Keys, PartSize: o.archive.PartSize, Log: env.Log}
	if path := p.options["database"]; path != "" && o.rows == nil {
		// Opening would make one.
		if _, err := os.Stat(path); err != nil {
			return nil, &exitError{
				code: exitFailed, err: fmt.Errorf("opening btrsend's database: %w", err),
				hint: fmt.Sprintf("If it is lost, %s shows what the vault itself tells of its archives.", shellWord("glacier://"+p.bucket+"/?layout="+btrsendLayout)),
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
	return &opened{place: p, Store: st}, nil
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
