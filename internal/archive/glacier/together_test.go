package glacier

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// dying is a catalogue of a process that dies before a write.
type dying struct {
	Catalogue
	left int // writes before that
}

func (d *dying) Enter(place, name string, data []byte) error {
	if d.left == 0 {
		panic("killed")
	}
	d.left--
	return d.Catalogue.Enter(place, name, data)
}

// TestKilledReplacing kills a run at each write of replacing an object: what the
// catalogue says is there is in the vault.
func TestKilledReplacing(t *testing.T) {
	for writes := range 6 {
		server := glaciertest.Start(t)
		file := filepath.Join(t.TempDir(), "ledger.db")
		b := openBucket(t, server, "v", file)
		if err := b.Put(t.Context(), "o", []byte("one"), false); err != nil {
			t.Fatal(err)
		}
		inner := b.(*bucket)
		inner.c = &dying{inner.c, writes}
		func() {
			defer func() { _ = recover() }()
			if err := b.Put(t.Context(), "o", []byte("two"), false); err != nil {
				t.Error(err)
			}
		}()
		for range 2 {
			b = openBucket(t, server, "v", file)
			keys(t, b)
		}
		e, err := b.(*bucket).find("o")
		if err != nil || e == nil {
			t.Fatalf("after %d writes there is no entry (%v)", writes, err)
		}
		there := false
		for _, a := range server.Archives(t, "v") {
			there = there || a.ID == e.ID
		}
		if !there {
			t.Errorf("after %d writes the archive of what holds %q has been deleted", writes, e.Content)
		}
	}
}

// TestMergeSeesOthers has another process delete what it knows while this one reads
// the inventory.
func TestMergeSeesOthers(t *testing.T) {
	server := glaciertest.Start(t)
	dir := t.TempDir()
	b := openBucket(t, server, "v", filepath.Join(dir, "lost.db"))
	for _, key := range []string{"kept", "removed"} {
		if err := b.Put(t.Context(), key, []byte(key), true); err != nil {
			t.Fatal(err)
		}
	}
	server.Advance(72 * time.Hour)
	file := filepath.Join(dir, "new.db")
	open := func() *bucket { return bucketOf(t, openVault(t, server, "v"), file).(*bucket) }
	one, two := open(), open()
	if err := one.ready(t.Context()); err == nil {
		t.Fatal("the inventory is there at once")
	}
	server.Advance(glaciertest.InventoryTime)
	stale, err := two.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Delete(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	if err := two.takeInventory(t.Context(), stale); err != nil {
		t.Fatal(err)
	}
	lists(t, open(), "kept")
}

// TestFillSeesOthers has another process delete an object while this one fetches
// its content.
func TestFillSeesOthers(t *testing.T) {
	b := lostLedger(t, "a", "b")
	entries, err := b.load()
	if err != nil {
		t.Fatal(err)
	}
	a := entries.objects["a"]
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := b.fetch(t.Context(), "a", a); err != nil {
		t.Log(err)
	}
	lists(t, b, "b")
}

// lostLedger is a bucket with small objects of which only the inventory has told,
// and which have been asked for and can be read.
func lostLedger(t *testing.T, names ...string) *bucket {
	t.Helper()
	server := glaciertest.Start(t)
	dir := t.TempDir()
	old := openBucket(t, server, "v", filepath.Join(dir, "lost.db"))
	for _, name := range names {
		if err := old.Put(t.Context(), name, []byte(name), true); err != nil {
			t.Fatal(err)
		}
	}
	server.Advance(72 * time.Hour)
	open := func() *bucket {
		return bucketOf(t, openVault(t, server, "v"), filepath.Join(dir, "new.db")).(*bucket)
	}
	_ = open().ready(t.Context())
	server.Advance(glaciertest.InventoryTime)
	b := open()
	thaw(t, b, store.ThawOptions{Ask: true, Tier: store.Standard}, names...)
	server.Advance(glaciertest.StandardTime)
	return open()
}

// TestFillGoesOn holds that one small object that cannot be had does not keep the
// others from being read.
func TestFillGoesOn(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	b := lostLedger(t, names...)
	e, err := b.find("a")
	if err != nil || e == nil {
		t.Fatal(err)
	}
	e.Tree = TreeHash{}.String() // it is not what the inventory says
	if err := b.enter(objectPrefix+"a", e); err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:] {
		holds(t, b, name, []byte(name))
	}
	if _, err := content(t, b, "a", 0, 1); err == nil {
		t.Error("what is damaged can be read")
	}
}
