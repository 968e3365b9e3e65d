// Package ledger is what this machine knows about transfers, and what it is
// owed: measured sizes of edges, receipts of transfers, runs, a diary of jobs,
// notes by which interrupted uploads are carried on, and a catalogue of what is in
// places that cannot tell it soon, in one SQLite file. It is a cache and a notebook. Stores are
// never judged by it, so losing it costs time, never data: a program that cannot
// open its ledger goes on with [OpenMemory].
//
// It knows nothing of streams, plans or stores beyond their names.
//
// # What may be relied on
//
//   - Several processes may use one ledger at a time. A call waits up to ten
//     seconds for another process's write, which takes milliseconds.
//   - A process that dies at any point leaves a ledger that opens, with every
//     call that had returned in it. A power cut may lose the last few calls
//     besides, those of the catalogue excepted, and nothing else.
//   - It stays small: see the limits in EndRun and EndJob. Only the catalogue (Entries) grows
//     with what it is about, and is never pruned.
//   - Every time that is written down is the caller's, but for those that order
//     notes.
//   - What is forgotten (Forget) is overwritten, not just marked as free.
//
// The file has to be on a local file system: SQLite's write-ahead log shares
// memory between processes.
//
//	l, err := ledger.Open("/var/lib/buttersink/ledger.db")
//	id, err := l.Begin(ledger.Receipt{Source: ..., Destination: ..., Begun: now})
//	err = l.End(id, ledger.Outcome{Result: ledger.Done, Ended: now})
package ledger

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// The number of rows that are kept of each kind, the newest.
const (
	keepEnded  = 10_000  // receipts that have ended, about 3 MB
	keepOwed   = 10_000  // receipts that have not
	keepRuns   = 10_000  // runs
	keepEdges  = 100_000 // sizes, about 10 MB
	pruneSlack = 100     // rows above a limit before any are deleted
)

// Ledger is an open ledger. Its methods may be called from several goroutines.
type Ledger struct {
	db   *sql.DB
	path string // for people
}

// Result is how something ended.
type Result string

const (
	// Done is full success.
	Done Result = "done"
	// Failed is any other end that the program came to by itself.
	Failed Result = "failed"
	// Interrupted is an end by signal, or an end that was never written down:
	// the next run gives it to the receipts that a dead one left.
	Interrupted Result = "interrupted"
)

// Receipt is a note of one transfer.
type Receipt struct {
	// ID is the ledger's number. Begin ignores it.
	ID int64
	// Source and Destination are the names of the stores (store.Store.String).
	Source, Destination string
	Edge                snapshot.Edge
	// Path is where the snapshot goes at the destination.
	Path  string
	Begun time.Time
}

// Outcome is the end of a transfer or a run.
type Outcome struct {
	Result Result
	// Message says why, for people, where Result is not Done.
	Message string
	// Bytes and Commands are how far the last try came in the stream, counted from
	// its start, with what an earlier one had left at the destination: for a
	// transfer that is Done, the whole stream. Runs have none.
	Bytes, Commands int64
	Ended           time.Time
}

// Close closes the ledger.
func (l *Ledger) Close() error {
	if err := l.db.Close(); err != nil {
		return l.explain("closing", err)
	}
	return nil
}

// Begin notes that a transfer begins, and returns the number to end it by.
func (l *Ledger) Begin(r Receipt) (int64, error) {
	var id int64
	err := l.db.QueryRow(`
		INSERT INTO receipts (source, destination, edge_to, edge_from, path, begun) VALUES (?, ?, ?, ?, ?, ?)
		RETURNING id`,
		r.Source, r.Destination, r.Edge.To[:], r.Edge.From[:], []byte(r.Path), stamp(r.Begun)).Scan(&id)
	if err != nil {
		return 0, l.explain("writing a receipt", err)
	}
	return id, nil
}

// End notes how a transfer ended. The first end that is noted stays.
func (l *Ledger) End(id int64, o Outcome) error {
	_, err := l.db.Exec(`
		UPDATE receipts SET ended = ?, result = ?, bytes = ?, commands = ?, message = ?
		WHERE id = ? AND ended IS NULL`,
		stamp(o.Ended), string(o.Result), o.Bytes, o.Commands, o.Message, id)
	if err != nil {
		return l.explain("closing a receipt", err)
	}
	return nil
}

// Unfinished returns the receipts of transfers to the named store that have no
// end, in the order in which they began. They are those of dead processes when
// the caller holds the store's lock; otherwise some may still be going on.
func (l *Ledger) Unfinished(destination string) ([]Receipt, error) {
	receipts, err := l.unfinished(destination)
	if err != nil {
		return nil, l.explain("reading receipts", err)
	}
	return receipts, nil
}

func (l *Ledger) unfinished(destination string) ([]Receipt, error) {
	rows, err := l.db.Query(`
		SELECT id, source, destination, edge_to, edge_from, path, begun FROM receipts
		WHERE destination = ? AND ended IS NULL ORDER BY id`, destination)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var receipts []Receipt
	for rows.Next() {
		var r Receipt
		var to, from, path []byte
		var begun int64
		if err := rows.Scan(&r.ID, &r.Source, &r.Destination, &to, &from, &path, &begun); err != nil {
			return nil, err
		}
		copy(r.Edge.To[:], to)
		copy(r.Edge.From[:], from)
		r.Path, r.Begun = string(path), time.Unix(0, begun).UTC()
		receipts = append(receipts, r)
	}
	return receipts, rows.Err()
}

// BeginRun notes that a command line begins to be carried out, and returns the
// number to end it by.
func (l *Ledger) BeginRun(command string, begun time.Time) (int64, error) {
	var id int64
	err := l.db.QueryRow(`INSERT INTO runs (command, begun) VALUES (?, ?) RETURNING id`, command, stamp(begun)).Scan(&id)
	if err != nil {
		return 0, l.explain("noting a run", err)
	}
	return id, nil
}

// EndRun notes how a run ended; the first end that is noted stays. It then
// deletes the oldest rows where there are too many: beyond 10,000 ended
// receipts, 10,000 unfinished ones, 10,000 runs, 100,000 sizes and 10,000
// notes.
func (l *Ledger) EndRun(id int64, o Outcome) error {
	_, err := l.db.Exec(`UPDATE runs SET ended = ?, result = ?, message = ? WHERE id = ? AND ended IS NULL`,
		stamp(o.Ended), string(o.Result), o.Message, id)
	if err != nil {
		return l.explain("noting the end of a run", err)
	}
	if err := l.prune(limits{ended: keepEnded, owed: keepOwed, runs: keepRuns, sizes: keepEdges, slack: pruneSlack}); err != nil {
		return err
	}
	return l.pruneNotes(keepNotes)
}

// limits are numbers of rows.
type limits struct{ ended, owed, runs, sizes, slack int }

// prune deletes the oldest rows of each kind beyond a limit, all or none of
// them. The slack keeps a full ledger from deleting one row in every run.
func (l *Ledger) prune(lim limits) error {
	tx, err := l.db.Begin()
	if err != nil {
		return l.explain("pruning", err)
	}
	defer tx.Rollback()
	for _, p := range []struct {
		rows, newest string
		keep         int
	}{
		{"receipts WHERE ended IS NOT NULL", "id", lim.ended},
		{"receipts WHERE ended IS NULL", "id", lim.owed},
		{"runs WHERE true", "id", lim.runs},
		{"sizes WHERE true", "measured", lim.sizes},
	} {
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM " + p.rows).Scan(&n); err != nil {
			return l.explain("pruning", err)
		}
		if n <= p.keep+lim.slack {
			continue
		}
		// The oldest row that stays. Rows of the same time as it stay too.
		var bound int64
		if err := tx.QueryRow(fmt.Sprintf("SELECT %s FROM %s ORDER BY %s DESC LIMIT 1 OFFSET ?", p.newest, p.rows, p.newest),
			max(p.keep-1, 0)).Scan(&bound); err != nil {
			return l.explain("pruning", err)
		}
		if _, err := tx.Exec(fmt.Sprintf("DELETE FROM %s AND %s < ?", p.rows, p.newest), bound); err != nil {
			return l.explain("pruning", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return l.explain("pruning", err)
	}
	return nil
}

// stamp is how a time is written down.
func stamp(t time.Time) int64 { return t.UnixNano() }
