package ledger

import (
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed schema/*.sql
var schema embed.FS

// applicationID marks the file as ours: "BSnk", in SQLite's own field for that
// (https://www.sqlite.org/fileformat.html, offset 68).
const applicationID = 0x42536e6b

// patience is how long a call waits for another process.
const patience = 10 * time.Second

// DamagedError says that a ledger cannot be read. Nothing is in it that cannot be had
// again, but of Glacier vaults only after a day.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the ledger %s is damaged (%v): move it away, it is rebuilt; what is in Glacier vaults, these are asked for then, which takes a day", e.Path, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// NewerError says that a ledger was written by a later version of the program.
type NewerError struct {
	Path         string
	Found, Known int // versions of the schema
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the ledger %s has version %d, and this program knows versions up to %d: use the newer program, or another ledger", e.Path, e.Found, e.Known)
}

// Open opens the ledger at a path, and makes it if there is none: its directory
// for the user alone (0700), and its file too (0600). It brings a ledger of an
// earlier version up to date. It fails with *DamagedError, with *NewerError,
// and where the ledger cannot be written.
func Open(path string) (*Ledger, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	// SQLite would make the file with the mode that the umask leaves. Its other
	// files get the mode of this one.
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		// It is not opened here to look at it: closing any descriptor of a file
		// drops the locks that SQLite has on it elsewhere in this process.
		var info fs.FileInfo
		if info, err = os.Stat(abs); err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a file")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: abs}
	return open(name.String(), path)
}

// OpenMemory returns a ledger that is kept nowhere, for where none can be
// written.
func OpenMemory() (*Ledger, error) { return open("file::memory:", "in memory") }

func open(name, path string) (*Ledger, error) {
	db, err := sql.Open("sqlite", fmt.Sprintf("%s?_busy_timeout=%d&_txlock=immediate&_synchronous=NORMAL&_dqs=0&_pragma=secure_delete(1)", name, patience.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	// A ledger in memory is its connection; and writers of one process are
	// better queued here than in SQLite, which polls.
	db.SetMaxOpenConns(1)
	l := &Ledger{db: db, path: path}
	if err := l.prepare(schema); err != nil {
		db.Close()
		return nil, err
	}
	return l, nil
}

// prepare checks what the file is, and brings it up to date.
func (l *Ledger) prepare(schema fs.FS) error {
	known, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		return err
	}
	// Two processes that turn a new file to write-ahead logging at a time may
	// find it busy at once, without SQLite's waiting.
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := l.migrate(schema, known)
		if code(err) != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
	}
}

func (l *Ledger) migrate(schema fs.FS, known []string) error {
	// Whether the file is ours is asked before anything is written to it.
	if _, err := l.version(l.db, len(known)); err != nil {
		return err
	}
	var mode string
	if err := l.db.QueryRow("PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return l.explain("opening", err)
	}
	tx, err := l.db.Begin() // fails where the file cannot be written
	if err != nil {
		return l.explain("opening", err)
	}
	defer tx.Rollback()
	version, err := l.version(tx, len(known))
	if err != nil {
		return err
	}
	for i, file := range known[version:] {
		statements, err := fs.ReadFile(schema, file)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(string(statements)); err != nil {
			return l.explain(fmt.Sprintf("migrating to version %d", version+i+1), err)
		}
	}
	if version < len(known) {
		if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", len(known), applicationID)); err != nil {
			return l.explain("migrating", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return l.explain("migrating", err)
	}
	return nil
}

// version returns the version of the schema, 0 for an empty file.
func (l *Ledger) version(q interface {
	QueryRow(query string, args ...any) *sql.Row
}, known int,
) (int, error) {
	var application, version, tables int
	err := q.QueryRow("SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)").
		Scan(&application, &version, &tables)
	switch {
	case err != nil:
		return 0, l.explain("opening", err)
	case application != applicationID && (application != 0 || version != 0 || tables != 0):
		return 0, fmt.Errorf("opening the ledger %s: it is the database of another program", l.path)
	case version < 0:
		return 0, &DamagedError{Path: l.path, Err: fmt.Errorf("it claims to have version %d", version)}
	case version > known:
		return 0, &NewerError{Path: l.path, Found: version, Known: known}
	}
	return version, nil
}

// explain wraps an error of SQLite's, and finds out damage.
func (l *Ledger) explain(doing string, err error) error {
	switch code(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &DamagedError{Path: l.path, Err: err}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s the ledger %s: it, or its directory, cannot be written: %w", doing, l.path, err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR: // the latter too where there is no room for the shared memory
		return fmt.Errorf("%s (ledger %s; is its file system full, or its disk failing?): %w", doing, l.path, err)
	}
	return fmt.Errorf("%s (ledger %s): %w", doing, l.path, err)
}

// code returns SQLite's primary result code.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
