package glacier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// TestMadeAnew has somebody else delete the vault and make it again: what the
// catalogue knows of is gone.
func TestMadeAnew(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	upload(t, openBucket(t, server, "v", file), "o", big(1, 1<<20))
	lists(t, openBucket(t, server, "v", file), "o")
	server.Drop(t, "v")
	b := bucketOf(t, openVault(t, server, "v"), file)
	if _, err := b.Stat(t.Context(), "o"); !errors.Is(err, errNoVault) {
		t.Errorf("looking at what was in a vault that is not there: %v", err)
	}
	server.Make(t, "v")
	b = bucketOf(t, openVault(t, server, "v"), file)
	if _, err := b.Stat(t.Context(), "o"); !errors.Is(err, store.ErrCold) {
		t.Errorf("looking at what was in another vault: %v, want an inventory to be waited for", err)
	}
	lists(t, openBucket(t, server, "v", file))
}

// TestOtherAccount reaches a vault of the same name with the keys of another
// account.
func TestOtherAccount(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	b := openBucket(t, server, "v", file)
	upload(t, b, "o", big(1, 1<<20))
	inner := b.(*bucket)
	entries, err := inner.load()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(entries.state.Vault, glaciertest.Account) {
		t.Fatalf("the catalogue is that of %q", entries.state.Vault)
	}
	entries.state.Vault = strings.ReplaceAll(entries.state.Vault, glaciertest.Account, "999900001111")
	if err := inner.enter(stateName, entries.state); err != nil {
		t.Fatal(err)
	}
	b = openBucket(t, server, "v", file)
	_, err = b.Stat(t.Context(), "o")
	if err == nil || !strings.Contains(err.Error(), "999900001111") || !strings.Contains(err.Error(), "?account="+glaciertest.Account) {
		t.Errorf("looking: %v", err)
	}
	entries.state.Vault = strings.ReplaceAll(entries.state.Vault, "999900001111", glaciertest.Account)
	if err := inner.enter(stateName, entries.state); err != nil {
		t.Fatal(err)
	}
	lists(t, openBucket(t, server, "v", file), "o")
}

// TestEmptyVault uses a vault that somebody else has made, or a run that died
// before it wrote that down: it never has an inventory as long as it is empty.
func TestEmptyVault(t *testing.T) {
	server := glaciertest.Start(t)
	server.Make(t, "v")
	file := filepath.Join(t.TempDir(), "ledger.db")
	err := bucketOf(t, openVault(t, server, "v"), file).Put(t.Context(), "o", []byte("text"), true)
	if !errors.Is(err, store.ErrCold) || !strings.Contains(err.Error(), "buttersink init glacier://v/") || strings.Contains(err.Error(), "has been asked for") {
		t.Errorf("storing without having made it: %v", err)
	}
	b := openBucket(t, server, "v", file) // as init does
	if err := b.Put(t.Context(), "o", []byte("text"), true); err != nil {
		t.Fatal(err)
	}
	// What was in it all the same, the first inventory tells.
	server.Put(t, "v", describe("other", false), []byte("x"))
	lists(t, b, "o")
	server.Advance(72 * time.Hour)
	open := func() []string { return keys(t, bucketOf(t, openVault(t, server, "v"), file)) }
	open()
	server.Advance(glaciertest.InventoryTime)
	if got := open(); !slices.Equal(got, []string{"o", "other"}) {
		t.Errorf("listed: %v", got)
	}
}

// TestChangedElsewhere has others store and delete in a vault: the inventory tells,
// and is asked for only then.
func TestChangedElsewhere(t *testing.T) {
	server := glaciertest.Start(t)
	file := filepath.Join(t.TempDir(), "ledger.db")
	for i := range 5 {
		b := openBucket(t, server, "v", file)
		if err := b.Put(t.Context(), fmt.Sprint(i), []byte("text"), true); err != nil {
			t.Fatal(err)
		}
		server.Advance(24 * time.Hour)
	}
	b := days(t, server, file, 4)
	lists(t, b, "0", "1", "2", "3", "4")
	if n := server.Count("InitiateJob"); n != 0 {
		t.Errorf("the vault is asked %d times though nobody else has changed it", n)
	}
	server.Delete(t, "v", idOf(t, server, "v", "1"))
	server.Put(t, "v", describe("theirs", false), []byte("x"))
	b = days(t, server, file, 5)
	lists(t, b, "0", "2", "3", "4", "theirs")
	server.Forget()
	days(t, server, file, 3)
	if n := server.Count("InitiateJob"); n != 0 {
		t.Errorf("in the end the vault is still asked: %d times", n)
	}
}

// TestOldLedger has a ledger come back from a backup: what it does not know is found,
// and not stored a second time for ever.
func TestOldLedger(t *testing.T) {
	server := glaciertest.Start(t)
	dir := t.TempDir()
	put := func(file, key string) {
		t.Helper()
		if err := openBucket(t, server, "v", filepath.Join(dir, file)).Put(t.Context(), key, []byte(key), true); err != nil {
			t.Fatal(err)
		}
	}
	put("ledger.db", "old")
	saved, err := os.ReadFile(filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if wal, err := os.ReadFile(filepath.Join(dir, "ledger.db-wal")); err != nil || os.WriteFile(filepath.Join(dir, "back.db-wal"), wal, 0o600) != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "back.db"), saved, 0o600); err != nil {
		t.Fatal(err)
	}
	server.Advance(4 * 24 * time.Hour)
	put("ledger.db", "new")
	lists(t, days(t, server, filepath.Join(dir, "back.db"), 4), "new", "old")
}
