package ledger

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCatalogue(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Enter("here", "a", []byte("1")))
	must(l.Enter("here", "a", []byte("2")))
	must(l.Enter("here", "b", nil))
	must(l.Enter("there", "a", []byte{0, 255}))
	for name, want := range map[string]bool{"a": false, "c": true} {
		entered, err := l.EnterNew("here", name, []byte("new"))
		must(err)
		if entered != want {
			t.Errorf("%q was entered: %v, want %v", name, entered, want)
		}
	}
	must(l.Strike("here", "b"))
	must(l.Strike("here", "b"))
	must(l.Close())

	if l, err = Open(file); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for place, want := range map[string]map[string][]byte{
		"here": {"a": []byte("2"), "c": []byte("new")}, "there": {"a": {0, 255}}, "nowhere": {},
	} {
		got, err := l.Entries(place)
		must(err)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", place, d)
		}
	}
	if data, ok, err := l.Entry("here", "a"); err != nil || !ok || string(data) != "2" {
		t.Errorf("the entry is %q, %v, %v", data, ok, err)
	}
	if data, ok, err := l.Entry("here", "b"); err != nil || ok {
		t.Errorf("what has been struck is %q, %v, %v", data, ok, err)
	}
}

// TestCatalogueNotPruned holds the promise that no limit of the ledger's is about
// the catalogue.
func TestCatalogueNotPruned(t *testing.T) {
	l, err := OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const many = keepNotes/10 + 10
	for i := range many {
		if err := l.Enter("vault", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.prune(limits{}); err != nil {
		t.Fatal(err)
	}
	if err := l.pruneNotes(0); err != nil {
		t.Fatal(err)
	}
	entries, err := l.Entries("vault")
	if err != nil || len(entries) != many {
		t.Errorf("%d entries of %d are left (%v)", len(entries), many, err)
	}
}

// TestCatalogueOneWins lets two openings of one ledger enter the same name.
func TestCatalogueOneWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger.db")
	var both [2]*Ledger
	for i := range both {
		l, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		both[i] = l
	}
	var won atomic.Int32
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			entered, err := both[i%2].EnterNew("vault", "name", []byte{byte(i)})
			if err != nil {
				t.Error(err)
			}
			if entered {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have won", won.Load())
	}
}
