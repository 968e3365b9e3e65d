package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
)

// btrsendLock is what keeps two runs apart that store in the same archive.
const btrsendLock = ".btrsend.lock"

// shelf is where the backups of btrsend are.
type shelf struct {
	*opened
	db     *btrsenddb.DB // nil for an archive
	ledger *ledger.Ledger
	unlock func() error
}

// open opens where backups are, and takes the lock for a run that people know by
// who; a run without name writes nothing, and takes none.
func (o *btrsendOptions) open(ctx context.Context, env *Env, command, who string) (*shelf, error) {
	s := &shelf{}
	if err := s.open(ctx, env, command, o, who); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shelf) open(ctx context.Context, env *Env, command string, o *btrsendOptions, who string) error {
	p, with, err := o.place(env, command)
	if err != nil {
		return err
	}
	if p.OfBtrsend() {
		if s.db, err = openRows(env, o.database, who == ""); err != nil {
			return err
		}
		with.rows = emptyRows{}
		if s.db != nil {
			with.rows = dbRows{s.db}
		}
	}
	if who != "" {
		if err := s.lock(who); err != nil {
			return err
		}
		s.ledger = env.openLedger()
		with.ledger = s.ledger
	}
	if err := with.archive.Seal.Usable(ctx); err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	if s.opened, err = env.open(ctx, command, p, with); err != nil {
		return err
	}
	if a, ok := s.Store.(*archive.Store); ok && who != "" {
		// It would be late to hear of it with the stream at the door.
		if err := a.Writable(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openRows opens the database, or makes it. With look it is left alone: nil if
// there is none yet.
func openRows(env *Env, path string, look bool) (*btrsenddb.DB, error) {
	if look {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	db, err := btrsenddb.Open(path)
	if err == nil {
		env.closers = append(env.closers, db)
	}
	return db, err
}

// aboutChains are the settings of a store that decide what a calendar decides itself.
var aboutChains = []string{"max-chain", "max-full", "max-restore"}

// place is what the flags mean.
func (o *btrsendOptions) place(env *Env, command string) (site, opening, error) {
	var with opening
	var err error
	with.archive.PartSize = int64(o.partSize) << 20
	if o.archive == "" {
		query := url.Values{"database": {o.database}, "region": {o.region}}
		if o.account != "" {
			query.Set("account", o.account)
		}
		if o.endpoint != "" {
			query.Set("endpoint", o.endpoint)
		}
		arg := "glacier://" + o.vault + "/?" + strings.ReplaceAll(query.Encode(), "+", "%20")
		p, err := placeOf(command, arg, true)
		if err != nil {
			return site{}, opening{}, err
		}
		with.archive.Seal, err = o.seal(command)
		return p, with, err
	}
	p, err := env.placeOf(command, o.archive, true)
	if err != nil {
		return site{}, opening{}, err
	}
	switch {
	case !p.Archive():
		return site{}, opening{}, usagef(command, "--archive %s is none: want dir://, s3:// or glacier://", place.Redact(o.archive))
	case p.OfBtrsend():
		return site{}, opening{}, usagef(command, "--archive %s: for what btrsend has in a vault, give --vault and --database", place.Redact(o.archive))
	}
	if err := o.s3.fit(command, p); err != nil {
		return site{}, opening{}, err
	}
	with.s3, with.archive.RequireEncryption = o.s3, o.requireEncryption
	compress, encrypt := o.compress, o.encrypt
	if p.store != nil {
		compress = cmp.Or(compress, p.store.options.compress)
		if len(encrypt) == 0 {
			encrypt = p.store.options.encrypt
		}
		if o.partSize == 0 {
			with.archive.PartSize = int64(p.store.options.partSize) << 20
		}
		for _, s := range p.store.settings {
			if slices.Contains(aboutChains, s.Key) {
				env.Log.Warn(fmt.Sprintf("The store %s: %s has no effect here: the calendar says what is complete, and how long chains get", p.store.name, s.Key))
			}
		}
	}
	with.archive.Seal, err = sealing(command, compress, encrypt)
	return p, with, p.inTrouble("encrypt", encrypt, err)
}

// seal is what btrsend does to a stream: gzip, and gpg.
func (o *btrsendOptions) seal(command string) (seal.Options, error) {
	s := seal.Options{Compress: true, Gzip: true, Level: o.level}
	var all []string
	for _, r := range o.recipients {
		all = append(all, "gpg:"+r)
	}
	var err error
	if s.Recipients, err = seal.ParseRecipients(all); err != nil {
		return seal.Options{}, usagef(command, "--recipient: %w", err)
	}
	return s, nil
}

// lock keeps other runs away that store in the same place, as far as they begin in
// the same directory or use the same database.
func (s *shelf) lock(who string) error {
	take := func(who string) (func() error, error) { return lockFile(btrsendLock, who) }
	if s.db != nil {
		take = s.db.Lock
	}
	unlock, err := take(who)
	if e, ok := errors.AsType[*btrsenddb.LockedError](err); ok {
		err = &store.LockedError{Store: e.Path, Holder: e.Holder}
	}
	if err == nil {
		s.unlock = unlock
	}
	return err
}

// lockFile takes the lock that lies in a file, or fails at once with
// *store.LockedError. It dies with the process; the file stays.
func lockFile(name, who string) (unlock func() error, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 200))
		err = &store.LockedError{Store: name, Holder: cmp.Or(strings.TrimSpace(string(holder)), "another run")}
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), second(f.WriteAt([]byte(who+"\n"), 0)))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error { return errors.Join(f.Truncate(0), f.Close()) }, nil
}

func second(_ int, err error) error { return err }

// close closes everything, and gives the lock back last.
func (s *shelf) close() error {
	var err error
	if s.opened != nil {
		err = s.Close()
	}
	if s.unlock != nil {
		err = errors.Join(err, s.unlock())
	}
	return err
}

// named is what a backup is called where it is kept: in a vault by the ID of its
// archive.
func (s *shelf) named(ctx context.Context, b schedule.Backup) string {
	if s.db == nil {
		return b.Date.String()
	}
	rows, err := s.db.All(ctx)
	if err != nil {
		return "unknown"
	}
	for _, r := range slices.Backward(rows) {
		parent := ""
		if !b.Parent.IsZero() {
			parent = b.Parent.String()
		}
		if r.Date == b.Date.String() && r.Parent == parent {
			return r.Archive
		}
	}
	return "unknown"
}
