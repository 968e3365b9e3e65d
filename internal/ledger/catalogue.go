package ledger

import (
	"context"
	"database/sql"
	"errors"
)

// The catalogue says what is in places that cannot tell it soon themselves. It is
// the one part of the ledger whose loss costs more than a little time, so it is
// never pruned, and what has been entered survives a power cut.

// Entries returns what is in the catalogue for a place, by name.
func (l *Ledger) Entries(place string) (map[string][]byte, error) {
	entries, err := l.entries(place)
	if err != nil {
		return nil, l.explain("reading the catalogue", err)
	}
	return entries, nil
}

func (l *Ledger) entries(place string) (map[string][]byte, error) {
	rows, err := l.db.Query(`SELECT name, data FROM catalogue WHERE place = ?`, place)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	entries := map[string][]byte{}
	for rows.Next() {
		var name string
		var data []byte
		if err := rows.Scan(&name, &data); err != nil {
			return nil, err
		}
		entries[name] = data
	}
	return entries, rows.Err()
}

// Entry returns what is in the catalogue under one name, and whether there is
// anything.
func (l *Ledger) Entry(place, name string) ([]byte, bool, error) {
	var data []byte
	err := l.db.QueryRow(`SELECT data FROM catalogue WHERE place = ? AND name = ?`, place, name).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, l.explain("reading the catalogue", err)
	}
	return data, true, nil
}

// Enter keeps data under a name, in place of what was there. It is on the disk
// when it returns.
func (l *Ledger) Enter(place, name string, data []byte) error {
	_, err := l.durably(`
		INSERT INTO catalogue (place, name, data) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET data = excluded.data`, place, name, notNil(data))
	return err
}

// EnterNew keeps data under a name if there is nothing yet, and tells whether there
// was not. It is on the disk when it returns.
func (l *Ledger) EnterNew(place, name string, data []byte) (bool, error) {
	n, err := l.durably(`
		INSERT INTO catalogue (place, name, data) VALUES (?, ?, ?)
		ON CONFLICT DO NOTHING`, place, name, notNil(data))
	return n > 0, err
}

// Strike removes what is kept under a name. That stays so when it has returned.
func (l *Ledger) Strike(place, name string) error {
	_, err := l.durably(`DELETE FROM catalogue WHERE place = ? AND name = ?`, place, name)
	return err
}

func notNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// durably changes the catalogue so that not even a power cut takes it back, and
// tells how many rows it has changed. The rest of the ledger is not worth a flush of
// the disk each time.
func (l *Ledger) durably(statement string, args ...any) (changed int64, err error) {
	ctx := context.Background()
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return 0, l.explain("changing the catalogue", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return 0, l.explain("changing the catalogue", err)
	}
	defer func() {
		if _, e := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err == nil && e != nil {
			err = l.explain("changing the catalogue", e)
		}
	}()
	done, err := conn.ExecContext(ctx, statement, args...)
	if err == nil {
		changed, err = done.RowsAffected()
	}
	if err != nil {
		return 0, l.explain("changing the catalogue", err)
	}
	return changed, nil
}
