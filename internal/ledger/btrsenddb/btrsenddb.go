// Package btrsenddb is btrsend's database, .btrsend.db: a row for each backup that
// is in the vault. Btrsend and this program may take turns with one.
//
//	db, err := btrsenddb.Open(".btrsend.db")
//	unlock, err := db.Lock("buttersink btrsend, process 4711")
//	rows, err := db.All(ctx)
//
// It knows the one table of btrsend
// (https://github.com/AmesCornish/btrsend), in which dates are text, and a second
// one, which btrsend does not see: what the streams of this program call their
// snapshots. It refuses to know what dates mean, and when a row is true.
//
// What is no database, or not btrsend's, is refused and stays as it is, and so is
// one with a row that btrsend cannot have written. Opening and reading write nothing:
// the table of a database that has none comes with its first row. A row that has
// been added or removed is on the disk. The file, if it is new, is for its owner
// alone.
//
// All rows are in memory when they are asked for, some 300 bytes each.
package btrsenddb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite" // and it is the driver
	sqlite3 "modernc.org/sqlite/lib"
)

// Row is a backup.
type Row struct {
	ID      int64  // given by the database, never twice
	Archive string // what the vault calls it
	Date    string // YYYY-MM-DD; btrsend knew days up to 31 in every month
	Parent  string // the date of what it builds on; empty for a complete one
	Size    int64  // in bytes, as it is stored
	// Stream is the UUID by which its stream calls the snapshot; empty where this
	// program has not stored it.
	Stream string
}

// DB is an open database. Its methods may be called from several goroutines.
type DB struct {
	db   *sql.DB
	path string
}

// DamagedError says that a database cannot be read.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("btrsend's database %s is damaged: %v; the vault's inventory has what is needed instead: glacier://VAULT/?layout=btrsend", e.Path, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// patience is how long a call waits for another process.
const patience = 10 * time.Second

// maxArchive is how long the column for it is.
const maxArchive = 1000

// Open opens a database, or makes one if there is none. Damage is a *DamagedError.
func Open(path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening btrsend's database %s: %w", path, err)
	}
	// SQLite would make the file with the mode that the umask leaves.
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		var info fs.FileInfo
		if info, err = os.Stat(abs); err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a file")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening btrsend's database %s: %w", path, err)
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: abs}
	db, err := sql.Open("sqlite", fmt.Sprintf("%s?_busy_timeout=%d&_txlock=immediate&_synchronous=FULL&_dqs=0", name.String(), patience.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("opening btrsend's database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // waits here in place of polling in SQLite
	d := &DB{db: db, path: path}
	if err := d.prepare(); err != nil {
		db.Close()
		return nil, err
	}
	return d, nil
}

// Close closes the database.
func (d *DB) Close() error { return d.db.Close() }

// Path is where it is, as it was given to Open.
func (d *DB) Path() string { return d.path }

// table is what btrsend makes, but for blanks. Another run may make it, too.
const table = `CREATE TABLE IF NOT EXISTS btrsend (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	arn VARCHAR(1000) NOT NULL,
	date DATETIME NOT NULL,
	size INTEGER NOT NULL,
	parent DATE)`

const columns = "id arn date size parent"

// prepare looks at what there is, which may be nothing.
func (d *DB) prepare() error {
	var tables, ours int
	var found sql.NullString
	err := d.db.QueryRow(`SELECT (SELECT count(*) FROM sqlite_schema), (SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'btrsend'),
		(SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_table_info('btrsend') ORDER BY cid))`).Scan(&tables, &ours, &found)
	switch {
	case err != nil:
		return d.explain("opening", err)
	case tables == 0:
		return nil
	case ours == 0:
		return fmt.Errorf("opening btrsend's database %s: it is the database of another program, which stays as it is", d.path)
	case strings.ToLower(found.String) != columns:
		return fmt.Errorf("opening btrsend's database %s: its table has the columns %.200q in place of %q: it was not made by btrsend", d.path, found.String, columns)
	}
	var verdict string
	if err := d.db.QueryRow("PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return d.explain("checking", err)
	}
	if verdict != "ok" {
		return &DamagedError{Path: d.path, Err: fmt.Errorf("%.200s", verdict)}
	}
	return nil
}

// All returns the rows in order of their dates.
func (d *DB) All(ctx context.Context) ([]Row, error) {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, d.explain("reading", err)
	}
	defer tx.Rollback()
	var made bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'btrsend')").Scan(&made); err != nil {
		return nil, d.explain("reading", err)
	}
	if !made {
		return nil, nil
	}
	if err := d.sane(ctx, tx); err != nil {
		return nil, err
	}
	second, err := d.second(ctx, tx)
	if err != nil {
		return nil, err
	}
	from := "btrsend LEFT JOIN (SELECT NULL AS row, '' AS stream) AS known ON 0"
	if second {
		from = "btrsend LEFT JOIN buttersink AS known ON known.row = id"
	}
	// Without the casts the driver makes times of the dates, by the type of the
	// columns. What SQLite's date makes of a date is how btrsend orders them.
	rows, err := tx.QueryContext(ctx, `SELECT id, arn, CAST(date AS TEXT), size, CAST(coalesce(parent, '') AS TEXT), CAST(coalesce(known.stream, '') AS TEXT)
		FROM `+from+` ORDER BY date(date), id`)
	if err != nil {
		return nil, d.explain("reading", err)
	}
	defer rows.Close()
	var all []Row
	for rows.Next() {
		var r Row
		if err := rows.Scan(&r.ID, &r.Archive, &r.Date, &r.Size, &r.Parent, &r.Stream); err != nil {
			return nil, d.explain("reading", err)
		}
		if err := r.check(); err != nil {
			return nil, &DamagedError{Path: d.path, Err: fmt.Errorf("row %d: %w", r.ID, err)}
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, d.explain("reading", err)
	}
	return all, nil
}

// sane refuses what is no row of btrsend's before it is in memory, where it may be
// of any size.
func (d *DB) sane(ctx context.Context, tx *sql.Tx) error {
	var id int64
	err := tx.QueryRowContext(ctx, `SELECT id FROM btrsend WHERE typeof(arn) <> 'text' OR length(CAST(arn AS BLOB)) > ?
		OR typeof(date) <> 'text' OR length(CAST(date AS BLOB)) > 10 OR typeof(size) <> 'integer'
		OR typeof(parent) NOT IN ('text', 'null') OR length(CAST(parent AS BLOB)) > 10 LIMIT 1`, maxArchive).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return d.explain("reading", err)
	}
	return &DamagedError{Path: d.path, Err: fmt.Errorf("row %d has not the form of a backup", id)}
}

// second tells whether there is our own table.
func (d *DB) second(ctx context.Context, tx *sql.Tx) (bool, error) {
	var found sql.NullString
	err := tx.QueryRowContext(ctx, "SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_table_info('buttersink') ORDER BY cid)").Scan(&found)
	switch {
	case err != nil:
		return false, d.explain("reading", err)
	case !found.Valid:
		return false, nil
	case found.String != "row stream":
		return false, &DamagedError{Path: d.path, Err: errors.New("its table buttersink is not of this program")}
	}
	return true, nil
}

// Add adds a row, whose ID is ignored. It is on the disk when Add returns.
func (d *DB) Add(ctx context.Context, r Row) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("adding to btrsend's database %s: %w", d.path, err)
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return d.explain("adding to", err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, table); err != nil {
		return d.explain("adding to", err)
	}
	parent := sql.NullString{String: r.Parent, Valid: r.Parent != ""}
	added, err := tx.ExecContext(ctx, "INSERT INTO btrsend (arn, date, size, parent) VALUES (?, ?, ?, ?)", r.Archive, r.Date, r.Size, parent)
	if err != nil {
		return d.explain("adding to", err)
	}
	if r.Stream != "" {
		id, err := added.LastInsertId()
		if err != nil {
			return d.explain("adding to", err)
		}
		if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS buttersink (row INTEGER PRIMARY KEY, stream TEXT NOT NULL)"); err != nil {
			return d.explain("adding to", err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO buttersink (row, stream) VALUES (?, ?)", id, r.Stream); err != nil {
			return d.explain("adding to", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return d.explain("adding to", err)
	}
	return nil
}

// Remove removes the row with an ID; it is an error if there is none.
func (d *DB) Remove(ctx context.Context, id int64) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return d.explain("removing from", err)
	}
	defer tx.Rollback()
	gone, err := tx.ExecContext(ctx, "DELETE FROM btrsend WHERE id = ?", id)
	if err != nil {
		return d.explain("removing from", err)
	}
	n, err := gone.RowsAffected()
	if err == nil && n == 0 {
		err = errors.New("there is no such row")
	}
	if err != nil {
		return d.explain(fmt.Sprintf("removing row %d from", id), err)
	}
	second, err := d.second(ctx, tx)
	if err != nil {
		return err
	}
	if second { // with what remains of rows that btrsend itself has removed
		if _, err := tx.ExecContext(ctx, "DELETE FROM buttersink WHERE row NOT IN (SELECT id FROM btrsend)"); err != nil {
			return d.explain("removing from", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return d.explain("removing from", err)
	}
	return nil
}

// check says what is wrong with a row.
func (r Row) check() error {
	if r.Archive == "" || len(r.Archive) > maxArchive {
		return fmt.Errorf("the archive's ID has %d characters: want 1 to %d", len(r.Archive), maxArchive)
	}
	for _, c := range []byte(r.Archive) {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("%.80q is no archive's ID", r.Archive)
		}
	}
	if !isDate(r.Date) {
		return fmt.Errorf("%.80q is no date: want YYYY-MM-DD", r.Date)
	}
	if r.Parent != "" && !isDate(r.Parent) {
		return fmt.Errorf("its parent %.80q is no date: want YYYY-MM-DD", r.Parent)
	}
	if r.Size < 0 {
		return fmt.Errorf("there is no size of %d bytes", r.Size)
	}
	return nil
}

// isDate tells texts that btrsend takes for dates.
func isDate(s string) bool {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	for i, c := range []byte(s) {
		if i != 4 && i != 7 && (c < '0' || c > '9') {
			return false
		}
	}
	month, day := s[5:7], s[8:]
	return "01" <= month && month <= "12" && "01" <= day && day <= "31"
}

// explain wraps an error of SQLite's, and finds out damage.
func (d *DB) explain(doing string, err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return &DamagedError{Path: d.path, Err: err}
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
			return fmt.Errorf("%s btrsend's database %s: it, or its directory, cannot be written: %w", doing, d.path, err)
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("%s btrsend's database %s: another program has been writing to it for %s: %w", doing, d.path, patience, err)
		}
	}
	return fmt.Errorf("%s btrsend's database %s: %w", doing, d.path, err)
}
