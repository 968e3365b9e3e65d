package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotes(t *testing.T) {
	l := fresh(t)
	keep := func(place, name, data string) {
		t.Helper()
		if err := l.Keep(place, name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(place string, want map[string][]byte) {
		t.Helper()
		got, err := l.Notes(place)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("notes of %s (-want +got):\n%s", place, diff)
		}
	}
	check("s3://b", map[string][]byte{})
	keep("s3://b", "one", "1")
	keep("s3://b", "two é\xff", "2")
	keep("s3://c", "one", "3")
	keep("s3://b", "one", "4")
	if err := l.Keep("s3://c", "empty", nil); err != nil {
		t.Fatal(err)
	}
	check("s3://b", map[string][]byte{"one": []byte("4"), "two é\xff": []byte("2")})
	check("s3://c", map[string][]byte{"one": []byte("3"), "empty": nil})
	for range 2 {
		if err := l.Forget("s3://b", "one"); err != nil {
			t.Fatal(err)
		}
	}
	check("s3://b", map[string][]byte{"two é\xff": []byte("2")})
	check("s3://c", map[string][]byte{"one": []byte("3"), "empty": nil})

	memory, err := OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if err := memory.Keep("p", "n", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := memory.Forget("p", "n"); err != nil {
		t.Fatal(err)
	}
}

// What has been forgotten, and what was replaced before, is in no file of the
// ledger, whatever its length.
func TestForgottenIsErased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open1(t, path)
	other := open1(t, path) // as a second run has it open
	found := func(what []byte) bool {
		t.Helper()
		files, err := filepath.Glob(path + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, what) {
				return true
			}
		}
		return false
	}
	for _, n := range []int{1, 100, 50_000} {
		var secrets [][]byte
		for i := range 3 {
			secret := fmt.Appendf(nil, "secret-%d-of-%d-", i, n)
			secrets = append(secrets, secret)
			if err := l.Keep("place", "upload", bytes.Repeat(secret, n)); err != nil {
				t.Fatal(err)
			}
			if err := l.Keep("place", fmt.Sprintf("stays %d %d", n, i), bytes.Repeat([]byte("other "), n)); err != nil {
				t.Fatal(err)
			}
			if !found(secret) {
				t.Fatalf("%s is not in the ledger while it is kept", secret)
			}
			if i == 1 {
				// It gets from the log into the ledger itself.
				if _, err := l.db.Exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := other.Notes("place"); err != nil {
			t.Fatal(err)
		}
		if err := l.Forget("place", "upload"); err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if found(secret) {
				t.Errorf("%s is still there", secret)
			}
		}
	}
	if notes, err := other.Notes("place"); err != nil || len(notes) != 9 {
		t.Errorf("%d notes are left, want 9 (%v)", len(notes), err)
	}
}

func TestOldNotesGo(t *testing.T) {
	l := fresh(t)
	for i := range 10 {
		if err := l.Keep("p", fmt.Sprint(i), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := l.pruneNotes(4); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Notes("p")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{"6": {1}, "7": {1}, "8": {1}, "9": {1}}, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}
