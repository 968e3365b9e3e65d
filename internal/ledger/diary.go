package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The diary says how the runs of jobs went. Its rows are in the order in which they
// were written, never in that of their times: a clock that was put back turns nothing
// around.

// The number of rows of the diary that are kept, the newest.
const (
	keepJobRuns   = 10_000  // runs of all jobs, about 1 MB
	keepRunsOfJob = 100     // runs of each job, where other jobs have many
	keepPlaces    = 100_000 // what runs did at their places, about 10 MB
)

// keepLast is how long what was last at a place is kept where no run is about it any
// more. It is longer than anybody is told of a source that has gone, unless that is
// late after more than a year only.
const keepLast = 400 * 24 * time.Hour

// longestMessage is how many bytes of a message are kept.
const longestMessage = 4096

// JobRun is one run of a job.
type JobRun struct {
	ID  int64
	Job string
	// Ended is zero for one that has not ended, or was killed.
	Begun, Ended time.Time
	// Result is empty until it has ended.
	Result Result
	// Message says why, for people, where Result is not Done: each failure in a line.
	Message string
	// Places are in the order in which they were noted. Of old runs, some may be
	// missing.
	Places []PlaceRun
}

// PlaceRun is what a run of a job did about one source at one place.
type PlaceRun struct {
	// Run is the number of the run. EndPlace ignores it.
	Run int64
	// Source names the source. Destination is empty for what was done at the source
	// itself: the snapshot, and its retention.
	Source, Destination string
	// Place tells places apart that have had the same name: two notes with different
	// ones are about two places. Empty is not known.
	Place  string
	Ended  time.Time
	Result Result
	// Message says why, for people; where Result is Done, what was left for the next run.
	Message string
	// Snapshot is the newest snapshot there, by its path.
	Snapshot string
	// AsOf is when the newest snapshot was made that the source had in that run, of a
	// destination: when it was decided what goes there. A place that is Done has it, or
	// has rules that have no use for it. Zero is not known.
	AsOf time.Time
	// Transferred and Removed count snapshots, Bytes is what was transferred.
	Transferred, Removed int
	Bytes                int64
	// Outstanding is how many snapshots are due there and missing; -1 if that is not
	// known.
	Outstanding int
	// Chain is how many streams the newest snapshot there depends on, in an archive; 0
	// elsewhere.
	Chain int
}

// BeginJob notes that a run of a job begins, and returns the number to end it by.
func (l *Ledger) BeginJob(job string, begun time.Time) (int64, error) {
	var id int64
	err := l.db.QueryRow(`INSERT INTO job_runs (job, begun) VALUES (?, ?) RETURNING id`, job, stamp(begun)).Scan(&id)
	if err != nil {
		return 0, l.explain("noting a run of "+job, err)
	}
	return id, nil
}

// EndPlace notes what became of one place in a run. Of a run that is not in the
// ledger any more it notes nothing.
func (l *Ledger) EndPlace(run int64, p PlaceRun) error {
	doing := "noting what became of " + p.Source
	tx, err := l.db.Begin()
	if err != nil {
		return l.explain(doing, err)
	}
	defer tx.Rollback()
	var id int64
	err = tx.QueryRow(`
		INSERT INTO job_places (run, source, destination, ended, result, message, snapshot, transferred, removed, bytes, outstanding, chain, as_of, place)
		SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM job_runs WHERE id = ?
		RETURNING id`,
		p.Source, p.Destination, stampOrNone(p.Ended), string(p.Result), shortened(p.Message), []byte(p.Snapshot),
		p.Transferred, p.Removed, p.Bytes, sql.NullInt64{Int64: int64(p.Outstanding), Valid: p.Outstanding >= 0}, p.Chain,
		stampOrNone(p.AsOf), p.Place, run).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		success := sql.NullInt64{Int64: id, Valid: p.Result == Done}
		_, err = tx.Exec(`
			INSERT INTO job_lasts (job, source, destination, try, success) SELECT job, ?, ?, ?, ? FROM job_runs WHERE id = ?
			ON CONFLICT DO UPDATE SET try = excluded.try, success = coalesce(excluded.success, success)`,
			p.Source, p.Destination, id, success, run)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return l.explain(doing, err)
	}
	return nil
}

// EndJob notes how a run ended; the first end that is noted stays. It then deletes
// the oldest rows of the diary where there are too many. What stays are the newest
// 10,000 runs, the newest 100 of each job, of each place what was last tried and what
// last succeeded, however old that is, and what LastWithout returns. A place that neither the last 100 runs of
// its job nor those of 400 days were about is forgotten: subvolumes come and go.
func (l *Ledger) EndJob(run int64, o Outcome) error {
	_, err := l.db.Exec(`UPDATE job_runs SET ended = ?, result = ?, message = ? WHERE id = ? AND ended IS NULL`,
		stamp(o.Ended), string(o.Result), shortened(o.Message), run)
	if err != nil {
		return l.explain("noting the end of a run", err)
	}
	if err := l.forgetPlaces(run, keepRunsOfJob, keepLast); err != nil {
		return err
	}
	return l.pruneDiary(diaryLimits{runs: keepJobRuns, ofJob: keepRunsOfJob, places: keepPlaces, slack: pruneSlack})
}

// JobRuns returns the last runs of a job, or of all if that is empty, the newest
// first, at most so many.
func (l *Ledger) JobRuns(job string, most int) ([]JobRun, error) {
	runs, err := l.jobRuns(job, most)
	if err != nil {
		return nil, l.explain("reading the diary", err)
	}
	return runs, nil
}

func (l *Ledger) jobRuns(job string, most int) ([]JobRun, error) {
	rows, err := l.db.Query(`
		SELECT id, job, begun, ended, result, message FROM job_runs
		WHERE job = ?1 OR ?1 = '' ORDER BY id DESC LIMIT ?2`, job, max(most, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var runs []JobRun
	at := map[int64]int{}
	for rows.Next() {
		var r JobRun
		var begun int64
		var ended sql.NullInt64
		if err := rows.Scan(&r.ID, &r.Job, &begun, &ended, &r.Result, &r.Message); err != nil {
			return nil, err
		}
		r.Begun, r.Ended = time.Unix(0, begun).UTC(), timeOf(ended)
		at[r.ID] = len(runs)
		runs = append(runs, r)
	}
	if err := rows.Err(); err != nil || len(runs) == 0 {
		return nil, err
	}
	places, err := l.placeRuns(`job_places p WHERE run IN (
		SELECT id FROM job_runs WHERE id >= ?2 AND (job = ?1 OR ?1 = '')) ORDER BY p.id`, job, runs[len(runs)-1].ID)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		if i, ok := at[p.Run]; ok { // or it has begun in between
			runs[i].Places = append(runs[i].Places, p)
		}
	}
	return runs, nil
}

// LastPlaces returns, for a job, the last success at each place and the last try
// there, in the order of sources and destinations.
func (l *Ledger) LastPlaces(job string) (successes, tries []PlaceRun, err error) {
	const from = `job_lasts l JOIN job_places p ON p.id = l.%s WHERE l.job = ? ORDER BY l.source, l.destination`
	if successes, err = l.placeRuns(fmt.Sprintf(from, "success"), job); err == nil {
		tries, err = l.placeRuns(fmt.Sprintf(from, "try"), job)
	}
	if err != nil {
		return nil, nil, l.explain("reading the diary", err)
	}
	return successes, tries, nil
}

// withoutRow is, of the rows of job_places that are called x and are about a source
// itself, the last one that succeeded and left nothing for the next run; the first one
// where there is none.
const withoutRow = `coalesce(max(CASE WHEN x.result = 'done' AND x.message = '' THEN x.id END), min(x.id))`

// LastWithout returns, for each source of a job, what the last run did at the source
// itself that succeeded there and left nothing for the next one; where no run did, what
// the first one did that is known.
func (l *Ledger) LastWithout(job string) ([]PlaceRun, error) {
	places, err := l.placeRuns(`job_places p WHERE p.id IN (
		SELECT `+withoutRow+` FROM job_places x JOIN job_runs r ON r.id = x.run
		WHERE r.job = ? AND x.destination = '' GROUP BY x.source)`, job)
	if err != nil {
		return nil, l.explain("reading the diary", err)
	}
	return places, nil
}

// placeRuns returns rows of job_places, which are called p.
func (l *Ledger) placeRuns(from string, args ...any) ([]PlaceRun, error) {
	rows, err := l.db.Query(`SELECT p.run, p.source, p.destination, p.ended, p.result, p.message, p.snapshot,
		p.transferred, p.removed, p.bytes, coalesce(p.outstanding, -1), p.chain, p.as_of, p.place FROM `+from, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var places []PlaceRun
	for rows.Next() {
		var p PlaceRun
		var ended, asOf sql.NullInt64
		var snapshot []byte
		if err := rows.Scan(&p.Run, &p.Source, &p.Destination, &ended, &p.Result, &p.Message, &snapshot,
			&p.Transferred, &p.Removed, &p.Bytes, &p.Outstanding, &p.Chain, &asOf, &p.Place); err != nil {
			return nil, err
		}
		p.Ended, p.AsOf, p.Snapshot = timeOf(ended), timeOf(asOf), string(snapshot)
		places = append(places, p)
	}
	return places, rows.Err()
}

// forgetPlaces deletes what was last at places that the job of a run has nothing to do
// with any more: neither its newest runs, so many, nor any since so long before this
// one. A wrong clock alone has nothing forgotten.
func (l *Ledger) forgetPlaces(run int64, runs int, age time.Duration) error {
	_, err := l.db.Exec(`WITH
			this AS (SELECT job, begun FROM job_runs WHERE id = ?1),
			oldest AS (SELECT id FROM job_runs WHERE job = (SELECT job FROM this) ORDER BY id DESC LIMIT 1 OFFSET ?2)
		DELETE FROM job_lasts WHERE job = (SELECT job FROM this)
			AND EXISTS (SELECT 1 FROM job_places p WHERE p.id = try
				AND p.run < (SELECT id FROM oldest) AND p.ended < (SELECT begun FROM this) - ?3)`, run, max(runs-1, 0), int64(age))
	if err != nil {
		return l.explain("forgetting places", err)
	}
	return nil
}

// diaryLimits are numbers of rows of the diary.
type diaryLimits struct{ runs, ofJob, places, slack int }

// pruneDiary deletes the oldest rows of the diary, all that are too many or none.
func (l *Ledger) pruneDiary(lim diaryLimits) error {
	tx, err := l.db.Begin()
	if err != nil {
		return l.explain("pruning the diary", err)
	}
	defer tx.Rollback()
	var runs, places int
	if err := tx.QueryRow(`SELECT (SELECT count(*) FROM job_runs), (SELECT count(*) FROM job_places)`).Scan(&runs, &places); err != nil {
		return l.explain("pruning the diary", err)
	}
	if runs <= lim.runs+lim.slack && places <= lim.places+lim.slack {
		return nil
	}
	const last = `(SELECT try FROM job_lasts UNION SELECT success FROM job_lasts WHERE success IS NOT NULL
		UNION SELECT ` + withoutRow + ` FROM job_places x JOIN job_runs r ON r.id = x.run
			JOIN job_lasts l ON l.job = r.job AND l.source = x.source AND l.destination = ''
			WHERE x.destination = '' GROUP BY r.job, x.source)`
	for _, step := range []struct {
		statement string
		args      []any
	}{
		// A run that is too old goes, unless something about it has to stay.
		{`DELETE FROM job_runs WHERE id < (SELECT id FROM job_runs ORDER BY id DESC LIMIT 1 OFFSET ?)
			AND id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY job ORDER BY id DESC) AS age FROM job_runs) WHERE age > ?)
			AND id NOT IN (SELECT run FROM job_places WHERE id IN ` + last + `)`, []any{max(lim.runs-1, 0), lim.ofJob}},
		{`DELETE FROM job_places WHERE NOT EXISTS (SELECT 1 FROM job_runs WHERE id = run)`, nil},
		{`DELETE FROM job_places WHERE id < (SELECT id FROM job_places ORDER BY id DESC LIMIT 1 OFFSET ?) AND id NOT IN ` + last, []any{max(lim.places-1, 0)}},
	} {
		if _, err := tx.Exec(step.statement, step.args...); err != nil {
			return l.explain("pruning the diary", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return l.explain("pruning the diary", err)
	}
	return nil
}

// stampOrNone is how a time is written down that there may not be.
func stampOrNone(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: stamp(t), Valid: true}
}

func timeOf(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.Unix(0, n.Int64).UTC()
}

// shortened is a message that a ledger can hold many of.
func shortened(message string) string {
	if len(message) <= longestMessage {
		return message
	}
	const mark = "…"
	return strings.ToValidUTF8(message[:longestMessage-len(mark)], "") + mark
}
