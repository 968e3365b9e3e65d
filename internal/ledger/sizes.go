package ledger

import (
	"database/sql"
	"errors"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// RememberSize notes the length of an edge's stream, measured at the given
// time. Kind names what was measured: the same edge has several sizes. An exact
// size is never replaced by an estimate, and an unknown one is not noted.
func (l *Ledger) RememberSize(e snapshot.Edge, kind string, size snapshot.Size, measured time.Time) error {
	return l.RememberSizes(kind, map[snapshot.Edge]snapshot.Size{e: size}, measured)
}

// RememberSizes is RememberSize for many edges, all or none of them.
func (l *Ledger) RememberSizes(kind string, sizes map[snapshot.Edge]snapshot.Size, measured time.Time) error {
	const doing = "noting sizes"
	tx, err := l.db.Begin()
	if err != nil {
		return l.explain(doing, err)
	}
	defer tx.Rollback()
	note, err := tx.Prepare(`
		INSERT INTO sizes (kind, edge_to, edge_from, bytes, exact, measured) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET bytes = excluded.bytes, exact = excluded.exact, measured = excluded.measured
		WHERE excluded.exact >= sizes.exact`)
	if err != nil {
		return l.explain(doing, err)
	}
	defer note.Close()
	for e, size := range sizes {
		if !size.Known {
			continue
		}
		if _, err := note.Exec(kind, e.To[:], e.From[:], size.Bytes, size.Exact, stamp(measured)); err != nil {
			return l.explain(doing, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return l.explain(doing, err)
	}
	return nil
}

// Size returns what RememberSize noted, or a Size that is not Known. For many
// edges there are Sizes and SizesOf.
func (l *Ledger) Size(e snapshot.Edge, kind string) (snapshot.Size, error) {
	size := snapshot.Size{Known: true}
	err := l.db.QueryRow(`SELECT bytes, exact FROM sizes WHERE kind = ? AND edge_to = ? AND edge_from = ?`, kind, e.To[:], e.From[:]).
		Scan(&size.Bytes, &size.Exact)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return snapshot.Size{}, nil
	case err != nil:
		return snapshot.Size{}, l.explain("looking up a size", err)
	}
	return size, nil
}

// Sizes returns what RememberSize noted of the given edges. Those of which it
// noted nothing are not in the answer. It takes some 3 us an edge, one search of
// the table each, within one query.
func (l *Ledger) Sizes(kind string, edges []snapshot.Edge) (map[snapshot.Edge]snapshot.Size, error) {
	wanted := make([]byte, 0, 32*len(edges))
	for _, e := range edges {
		wanted = append(append(wanted, e.To[:]...), e.From[:]...)
	}
	// The edges go in as one value, and come back as numbers: a value for each
	// would take longer to bind and to read than to find.
	if len(edges) == 0 {
		return nil, nil
	}
	found, err := l.sizes(`
		WITH RECURSIVE wanted (at) AS (VALUES (0) UNION ALL SELECT at + 1 FROM wanted WHERE at + 1 < ?1)
		SELECT at, bytes, exact FROM wanted JOIN sizes
		ON kind = ?2 AND edge_to = substr(?3, at * 32 + 1, 16) AND edge_from = substr(?3, at * 32 + 17, 16)`,
		func(rows *sql.Rows, size *snapshot.Size) (e snapshot.Edge, err error) {
			var at int
			if err := rows.Scan(&at, &size.Bytes, &size.Exact); err != nil {
				return e, err
			}
			return edges[at], nil
		}, len(edges), kind, wanted)
	if err != nil {
		return nil, l.explain("looking up sizes", err)
	}
	return found, nil
}

// SizesOf returns what RememberSize noted of one kind, up to a number of edges,
// and whether that is all of it. It takes some 1.5 us an edge, and needs not to
// be told which: it can be asked while the edges are still being found out. The
// answer holds about 100 bytes an edge.
func (l *Ledger) SizesOf(kind string, most int) (sizes map[snapshot.Edge]snapshot.Size, all bool, err error) {
	sizes, err = l.sizes(`SELECT edge_to, edge_from, bytes, exact FROM sizes WHERE kind = ? LIMIT ?`,
		func(rows *sql.Rows, size *snapshot.Size) (e snapshot.Edge, err error) {
			var to, from sql.RawBytes
			err = rows.Scan(&to, &from, &size.Bytes, &size.Exact)
			copy(e.To[:], to)
			copy(e.From[:], from)
			return e, err
		}, kind, most)
	if err != nil {
		return nil, false, l.explain("reading sizes", err)
	}
	return sizes, len(sizes) < most, nil
}

// sizes collects what a query finds, which scan reads row by row.
func (l *Ledger) sizes(query string, scan func(*sql.Rows, *snapshot.Size) (snapshot.Edge, error), args ...any) (map[snapshot.Edge]snapshot.Size, error) {
	found := make(map[snapshot.Edge]snapshot.Size)
	rows, err := l.db.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		size := snapshot.Size{Known: true}
		e, err := scan(rows, &size)
		if err != nil {
			return nil, err
		}
		found[e] = size
	}
	return found, rows.Err()
}
