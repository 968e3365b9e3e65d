package btrsenddb_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
)

// TestOpenTogether has runs begin at the same moment where there is nothing yet.
func TestOpenTogether(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), ".btrsend.db")
		var runs sync.WaitGroup
		for range 8 {
			runs.Go(func() {
				db, err := btrsenddb.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				defer db.Close()
				if err := db.Add(t.Context(), btrsenddb.Row{Archive: "A", Date: "2014-01-01"}); err != nil {
					t.Error(err)
				}
			})
		}
		runs.Wait()
		if rows := all(t, open(t, path)); len(rows) != 8 {
			t.Fatalf("there are %d rows", len(rows))
		}
	}
}

// TestReadingWritesNothing: whoever restores something may be root, and the database
// somebody else's, who has made it a link to another file.
func TestReadingWritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".btrsend.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	if rows := all(t, db); len(rows) > 0 {
		t.Errorf("an empty file has %v", rows)
	}
	if err := db.Remove(t.Context(), 1); err == nil {
		t.Error("a row was removed that nobody has added")
	}
	if raw, err := os.ReadFile(path); err != nil || len(raw) > 0 {
		t.Errorf("it has got %d bytes, %v", len(raw), err)
	}
}
