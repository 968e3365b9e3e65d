package ledger

import (
	"errors"
	"fmt"
	"time"
)

// keepNotes is the number of notes that are kept, the newest.
const keepNotes = 10_000

// errHeld says that another process reads what is to be erased.
var errHeld = errors.New("another process holds an old state of it open")

// Notes returns what is kept for a place, by name.
func (l *Ledger) Notes(place string) (map[string][]byte, error) {
	notes, err := l.notes(place)
	if err != nil {
		return nil, l.explain("reading notes", err)
	}
	return notes, nil
}

func (l *Ledger) notes(place string) (map[string][]byte, error) {
	rows, err := l.db.Query(`SELECT name, data FROM notes WHERE place = ?`, place)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	notes := map[string][]byte{}
	for rows.Next() {
		var name string
		var data []byte
		if err := rows.Scan(&name, &data); err != nil {
			return nil, err
		}
		notes[name] = data
	}
	return notes, rows.Err()
}

// Keep keeps data under a name, in place of what was there. Data may be secret:
// nobody but the user can read the ledger.
func (l *Ledger) Keep(place, name string, data []byte) error {
	if data == nil {
		data = []byte{}
	}
	// The time decides only what goes first where there is too much.
	_, err := l.db.Exec(`
		INSERT INTO notes (place, name, data, kept) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET data = excluded.data, kept = excluded.kept`,
		place, name, data, stamp(time.Now()))
	if err != nil {
		return l.explain("keeping a note", err)
	}
	return nil
}

// Forget removes what is kept under a name: when it returns, neither that nor
// what was there before is in the ledger's files any more. What the file system
// has under them is out of its reach.
func (l *Ledger) Forget(place, name string) error {
	if _, err := l.db.Exec(`DELETE FROM notes WHERE place = ? AND name = ?`, place, name); err != nil {
		return l.explain("forgetting a note", err)
	}
	return l.erase()
}

// erase brings everything from the write-ahead log into the ledger and empties
// the log. What is deleted in the ledger is overwritten (secure_delete), and in
// the log there may be all that it ever was.
func (l *Ledger) erase() error {
	var busy, frames, moved int
	if err := l.db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return l.explain("erasing a note", err)
	}
	if busy != 0 {
		return l.explain("erasing a note", errHeld)
	}
	return nil
}

// pruneNotes forgets the oldest notes beyond a number.
func (l *Ledger) pruneNotes(keep int) error {
	gone, err := l.db.Exec(`
		DELETE FROM notes WHERE rowid IN (SELECT rowid FROM notes ORDER BY kept DESC LIMIT -1 OFFSET ?)`, keep)
	if err != nil {
		return l.explain("pruning", err)
	}
	if n, err := gone.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if err := l.erase(); err != nil {
		return fmt.Errorf("pruning: %w", err)
	}
	return nil
}
