package ledger

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFull: where there is no room for more, that is what is said.
func TestFull(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.db.Exec("PRAGMA max_page_count = 1"); err != nil { // which is to say, as many as there are
		t.Fatal(err)
	}
	for range 10_000 {
		if _, err = l.BeginJob(strings.Repeat("j", 1000), time.Now()); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "is its file system full") {
		t.Errorf("%v", err)
	}
}
