package ledger

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkDiary measures what a full diary costs: 10,000 runs of ten jobs, with ten
// places each.
func BenchmarkDiary(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	run := func(i int) int64 {
		id, err := l.BeginJob(fmt.Sprint("job", i%10), noon.Add(time.Duration(i)*time.Minute))
		if err != nil {
			b.Fatal(err)
		}
		for p := range 10 {
			if err := l.EndPlace(id, PlaceRun{Source: "/home", Destination: fmt.Sprintf("destination%d/", p), Ended: noon, Result: Done, Snapshot: "home-20261120-120000"}); err != nil {
				b.Fatal(err)
			}
		}
		return id
	}
	if _, err := l.db.Exec(`
		INSERT INTO job_runs (job, begun, ended, result)
		WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) SELECT 'job' || (i % 10), i, i, 'done' FROM n;
		INSERT INTO job_places (run, source, destination, ended, result, message, snapshot, transferred, removed, bytes, chain)
		WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 10)
		SELECT id, '/home', 'destination' || i || '/', 1, 'done', '', x'686f6d652d32303236313132302d313230303030', 1, 1, 1, 1 FROM job_runs, n`, keepJobRuns); err != nil {
		b.Fatal(err)
	}
	for i := range 10 {
		run(i)
	}
	b.Run("run", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if err := l.EndJob(run(i), Outcome{Result: Done, Ended: noon}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("last places", func(b *testing.B) {
		for b.Loop() {
			if s, tr, err := l.LastPlaces("job3"); err != nil || len(s) != 10 || len(tr) != 10 {
				b.Fatal(len(s), len(tr), err)
			}
		}
	})
	b.Run("runs of a job", func(b *testing.B) {
		for b.Loop() {
			if r, err := l.JobRuns("job3", 50); err != nil || len(r) != 50 {
				b.Fatal(len(r), err)
			}
		}
	})
	b.Run("pruning", func(b *testing.B) {
		for b.Loop() {
			if err := l.pruneDiary(diaryLimits{runs: keepJobRuns, ofJob: keepRunsOfJob, places: keepPlaces, slack: -1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	var pages, size int64
	l.db.QueryRow("SELECT (SELECT page_count FROM pragma_page_count), (SELECT page_size FROM pragma_page_size)").Scan(&pages, &size)
	b.Logf("%d bytes", pages*size)
}
