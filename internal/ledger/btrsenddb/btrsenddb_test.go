package btrsenddb_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
)

// literal is the statement as btrsend has it, blanks included as far as they are
// known.
const literal = "CREATE TABLE btrsend (id INTEGER PRIMARY KEY AUTOINCREMENT,       arn VARCHAR(1000) NOT NULL,     date DATETIME NOT NULL,   size INTEGER NOT NULL,  parent DATE)"

// byHand makes a database with SQL.
func byHand(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".btrsend.db")
	run(t, path, statements...)
	return path
}

func run(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t *testing.T, path string) *btrsenddb.DB {
	t.Helper()
	db, err := btrsenddb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func all(t *testing.T, db *btrsenddb.DB) []btrsenddb.Row {
	t.Helper()
	rows, err := db.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestOldDatabase(t *testing.T) {
	path := byHand(t, literal,
		"INSERT INTO btrsend VALUES (2, 'ARCHIVE-482', '2014-01-07', 482, '2014-01-01')",
		"INSERT INTO btrsend VALUES (1, 'ARCHIVE-1000', '2014-01-01', 1000, NULL)",
		"INSERT INTO btrsend VALUES (7, 'ARCHIVE-7', '2014-02-31', 7, '2014-01-07')",
		"INSERT INTO btrsend VALUES (3, 'ARCHIVE-3', '2014-03-04', 0, '2014-02-31')",
		"INSERT INTO btrsend VALUES (4, 'ARCHIVE-4', '2014-03-02', 1, '2014-01-07')")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	want := []btrsenddb.Row{
		{ID: 1, Archive: "ARCHIVE-1000", Date: "2014-01-01", Size: 1000},
		{ID: 2, Archive: "ARCHIVE-482", Date: "2014-01-07", Size: 482, Parent: "2014-01-01"},
		{ID: 4, Archive: "ARCHIVE-4", Date: "2014-03-02", Size: 1, Parent: "2014-01-07"},
		{ID: 7, Archive: "ARCHIVE-7", Date: "2014-02-31", Size: 7, Parent: "2014-01-07"},
		{ID: 3, Archive: "ARCHIVE-3", Date: "2014-03-04", Size: 0, Parent: "2014-02-31"},
	}
	if diff := cmp.Diff(want, all(t, db)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading has changed the database (%v)", err)
	}
}

// What this program adds is what btrsend's own queries show.
func TestOldProgramReadsOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".btrsend.db")
	db := open(t, path)
	for _, r := range []btrsenddb.Row{
		{Archive: "ARCHIVE-1", Date: "2014-01-01", Size: 335544320, Stream: "11111111-1111-4111-8111-111111111111"},
		{Archive: "ARCHIVE-2", Date: "2014-01-07", Size: 482, Parent: "2014-01-01"},
	} {
		if err := db.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var got string
	if err := raw.QueryRow(`SELECT group_concat(id || '|' || typeof(arn) || '|' || arn || '|' || typeof(date) || '|' || CAST(date AS TEXT) || '|' || typeof(size) || '|' || size
		|| '|' || typeof(parent) || '|' || coalesce(CAST(parent AS TEXT), '-'), ' ') FROM (SELECT * FROM btrsend ORDER BY date(date))`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	want := "1|text|ARCHIVE-1|text|2014-01-01|integer|335544320|null|- 2|text|ARCHIVE-2|text|2014-01-07|integer|482|text|2014-01-01"
	if got != want {
		t.Errorf("btrsend sees\n%s\nwant\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}

	// The old program goes on with it, and so does this one.
	if _, err := raw.Exec("INSERT INTO btrsend (arn, date, size, parent) VALUES ('ARCHIVE-3', '2014-01-14', 3, '2014-01-07'); DELETE FROM btrsend WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	rows := []btrsenddb.Row{
		{ID: 2, Archive: "ARCHIVE-2", Date: "2014-01-07", Size: 482, Parent: "2014-01-01"},
		{ID: 3, Archive: "ARCHIVE-3", Date: "2014-01-14", Size: 3, Parent: "2014-01-07"},
	}
	if diff := cmp.Diff(rows, all(t, db)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// The databases of btrsend's own first two suites of tests.
func TestLikeBtrsend(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), ".btrsend.db"))
	sum := func(rows []btrsenddb.Row) (n int, bytes int64) {
		for _, r := range rows {
			if err := db.Remove(t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
			bytes += r.Size
		}
		return len(rows), bytes
	}
	if err := db.Add(t.Context(), btrsenddb.Row{Archive: "A", Date: "1234-01-01", Size: 8}); err != nil {
		t.Fatal(err)
	}
	rows := all(t, db)
	if diff := cmp.Diff([]btrsenddb.Row{{ID: 1, Archive: "A", Date: "1234-01-01", Size: 8}}, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if n, bytes := sum(rows); n != 1 || bytes != 8 {
		t.Errorf("removed %d rows of %d bytes", n, bytes)
	}
	for _, r := range []btrsenddb.Row{
		{Archive: "C", Date: "2014-01-01", Parent: "1234-02-01", Size: 1},
		{Archive: "A", Date: "1234-01-01", Size: 335544320},
		{Archive: "B", Date: "1234-02-01", Parent: "1234-01-01", Size: 12345},
	} {
		if err := db.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var archives string
	for _, r := range all(t, db) {
		archives += r.Archive
	}
	if archives != "ABC" {
		t.Errorf("the rows are in the order %s", archives)
	}
	if n, bytes := sum(all(t, db)); n != 3 || bytes != 335556666 {
		t.Errorf("removed %d rows of %d bytes", n, bytes)
	}
	if rows := all(t, db); len(rows) > 0 {
		t.Errorf("there are still %v", rows)
	}
}

func TestStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".btrsend.db")
	db := open(t, path)
	const uuid = "11111111-1111-4111-8111-111111111111"
	if err := db.Add(t.Context(), btrsenddb.Row{Archive: "A", Date: "2014-01-01", Stream: uuid}); err != nil {
		t.Fatal(err)
	}
	if err := db.Add(t.Context(), btrsenddb.Row{Archive: "B", Date: "2014-01-07", Parent: "2014-01-01"}); err != nil {
		t.Fatal(err)
	}
	want := []btrsenddb.Row{{ID: 1, Archive: "A", Date: "2014-01-01", Stream: uuid}, {ID: 2, Archive: "B", Date: "2014-01-07", Parent: "2014-01-01"}}
	if diff := cmp.Diff(want, all(t, open(t, path))); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if err := db.Remove(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := db.Remove(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "no such row") {
		t.Errorf("removing a row again: %v", err)
	}
	if diff := cmp.Diff(want[1:], all(t, db)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// What btrsend cannot have written is refused, and stays as it is.
func TestForeign(t *testing.T) {
	const row = "INSERT INTO btrsend (arn, date, size, parent) VALUES "
	for name, statements := range map[string][]string{
		"another program's": {"CREATE TABLE films (title TEXT)"},
		"other columns":     {"CREATE TABLE btrsend (id INTEGER PRIMARY KEY, arn TEXT, date TEXT)"},
		"a view":            {"CREATE TABLE x (id, arn, date, size, parent)", "CREATE VIEW btrsend AS SELECT * FROM x"},
		"our own, strange":  {literal, "CREATE TABLE buttersink (x)"},
		"a number":          {literal, row + "('A', 20140101, 1, NULL)"},
		"a time":            {literal, row + "('A', '2014-01-01 00:00:00', 1, NULL)"},
		"no date":           {literal, row + "('A', '2014-13-01', 1, NULL)"},
		"no parent":         {literal, row + "('A', '2014-01-01', 1, '')", "UPDATE btrsend SET parent = 'yesterday'"},
		"a negative size":   {literal, row + "('A', '2014-01-01', -1, NULL)"},
		"no size":           {literal, row + "('A', '2014-01-01', 'much', NULL)"},
		"half a size":       {literal, row + "('A', '2014-01-01', 1.5, NULL)"},
		"an empty archive":  {literal, row + "('', '2014-01-01', 1, NULL)"},
		"a long archive":    {literal, row + "(printf('%1001d', 7), '2014-01-01', 1, NULL)"},
		"a huge archive":    {literal, row + "(zeroblob(100000000), '2014-01-01', 1, NULL)"},
		"two lines":         {literal, row + "('A' || char(10) || 'B', '2014-01-01', 1, NULL)"},
		"bytes":             {literal, row + "('A', CAST('2014-01-01' AS BLOB), 1, NULL)"},
	} {
		t.Run(name, func(t *testing.T) {
			path := byHand(t, statements...)
			refused(t, path)
		})
	}
	t.Run("no database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), ".btrsend.db")
		if err := os.WriteFile(path, bytes.Repeat([]byte("films\n"), 1000), 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, path)
	})
	t.Run("a torn page", func(t *testing.T) {
		path := byHand(t, literal, row+"('A', '2014-01-01', 1, NULL)")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 4096; i < 4096+100; i++ {
			raw[i] ^= 0x55
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, path)
	})
	t.Run("a directory", func(t *testing.T) {
		if db, err := btrsenddb.Open(t.TempDir()); err == nil {
			db.Close()
			t.Error("it is opened")
		}
	})
}

func refused(t *testing.T, path string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := btrsenddb.Open(path)
	if err == nil {
		defer db.Close()
		var rows []btrsenddb.Row
		if rows, err = db.All(t.Context()); err == nil {
			t.Errorf("it has %d rows", len(rows))
		}
	}
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not say which database: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it is not as it was (%v)", err)
	}
}

func TestAddRefuses(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), ".btrsend.db"))
	for _, r := range []btrsenddb.Row{
		{Date: "2014-01-01"},
		{Archive: "A B", Date: "2014-01-01"},
		{Archive: "A"},
		{Archive: "A", Date: "2014-01-01", Parent: "x"},
		{Archive: "A", Date: "2014-01-01", Size: -1},
	} {
		if err := db.Add(t.Context(), r); err == nil {
			t.Errorf("%+v is added", r)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Add(ctx, btrsenddb.Row{Archive: "A", Date: "2014-01-01"}); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is to end: %v", err)
	}
	if rows := all(t, db); len(rows) > 0 {
		t.Errorf("there are %v", rows)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".btrsend.db")
	first, second := open(t, path), open(t, path)
	unlock, err := first.Lock("the first\nrun")
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.Lock("the second run")
	want := &btrsenddb.LockedError{Path: path, Holder: "the first run"}
	if got, ok := errors.AsType[*btrsenddb.LockedError](err); !ok || !cmp.Equal(want, got, cmpopts.EquateEmpty()) {
		t.Errorf("a second lock: %v, want %v", err, want)
	}
	if info, err := os.Stat(path + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the lock is %v, %v", info, err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = second.Lock("the second run"); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path+".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Lock("x"); err == nil {
		t.Error("the lock is taken through a symbolic link")
	}
}

// FuzzOpen looks for databases that bring it down, or rows that are none.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "seed")
	db, err := btrsenddb.Open(path)
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []btrsenddb.Row{{Archive: "A", Date: "2014-01-01", Size: 1, Stream: "x"}, {Archive: "B", Date: "2014-01-07", Parent: "2014-01-01"}} {
		if err := db.Add(context.Background(), r); err != nil {
			f.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:5000])
	f.Add([]byte("SQLite format 3\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := btrsenddb.Open(path)
		if err != nil {
			return
		}
		defer db.Close()
		rows, err := db.All(t.Context())
		for _, r := range rows {
			if err != nil || r.Archive == "" || len(r.Date) != 10 || r.Size < 0 {
				t.Errorf("row %+v, %v", r, err)
			}
		}
	})
}

// TestMadeAtOnce: several runs find that there is no database, and each of them has
// one.
func TestMadeAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), ".btrsend.db")
		errs := make([]error, 6)
		var opening sync.WaitGroup
		for i := range errs {
			opening.Go(func() {
				db, err := btrsenddb.Open(path)
				if err == nil {
					err = db.Close()
				}
				errs[i] = err
			})
		}
		opening.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
}
