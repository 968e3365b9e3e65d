package btrsend_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// verified is what Verify says of each backup: of its stream, and if that cannot be
// had back, of the snapshot after it.
func (b *bench) verified(data bool) map[string]string {
	b.Helper()
	said := map[string]string{}
	found, err := b.store.Verify(b.Context(), store.VerifyOptions{Data: data, Found: func(f store.Finding) {
		if f.Object == "" {
			said[f.Path] += ", lost"
		} else {
			said[f.Path] = string(f.Verdict)
		}
		if (f.Verdict == store.Sound) != (f.Why == "") {
			b.Errorf("%+v has no reason, or one too many", f)
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	streams := 0
	for n := range maps.Values(found.Streams) {
		streams += n
	}
	if streams != len(said) || found.Snapshots[store.Damaged] != strings.Count(strings.Join(slices.Collect(maps.Values(said)), ""), "lost") {
		b.Errorf("counted are %+v, and told of %v", found, said)
	}
	return said
}

func TestVerify(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	add := func(date, parent string, archive []byte) string {
		row := btrsend.Row{Date: date, Parent: parent, Size: int64(len(archive))}
		row.Archive = b.server.Put(t, vault, btrsend.Describe(date, parent), archive)
		if err := b.rows.Add(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		return row.Archive
	}
	whole, on := old(t, made(t, first, snapshot.ID{}, 100)), old(t, made(t, second, first, 100))
	add("2014-01-01", "", whole)
	add("2014-01-07", "2014-01-01", on)
	add("2014-02-01", "", whole[:len(whole)-20])
	gone := add("2014-02-07", "2014-02-01", on)
	add("2014-03-07", "2014-03-01", on)
	add(b.server.Now().AddDate(0, 0, -5).Format(time.DateOnly), "", whole) // which took a week to store
	late := b.rows.all[5]
	b.rows.all[2].Size++
	b.server.Delete(t, vault, gone)

	all := func(verdict string) map[string]string {
		m := map[string]string{}
		for _, r := range b.rows.all {
			m[r.Date] = verdict
		}
		m["2014-03-07"] += ", lost" // as its parent is not there
		return m
	}
	if diff := cmp.Diff(all("unchecked"), b.verified(false)); diff != "" {
		t.Errorf("without an inventory (-want +got):\n%s", diff)
	}
	b.server.Delete(t, vault, late.Archive) // as if it came after the inventory
	b.server.Advance(3 * 24 * time.Hour)
	b.open()
	b.verified(false) // asks
	b.server.Advance(glaciertest.InventoryTime + time.Minute)
	b.open()
	want := map[string]string{
		"2014-01-01": "sound", "2014-01-07": "sound", "2014-02-01": "damaged, lost", "2014-02-07": "damaged, lost",
		"2014-03-07": "sound, lost", late.Date: "unchecked",
	}
	if diff := cmp.Diff(want, b.verified(false)); diff != "" {
		t.Errorf("with the inventory (-want +got):\n%s", diff)
	}

	if strings.Contains(b.said.String(), "no row") {
		t.Errorf("it says of strays: %s", &b.said)
	}
	b.rows.all = b.rows.all[:3]
	b.verified(false)
	if n := strings.Count(b.said.String(), "no row"); n != 1 {
		t.Errorf("there is one stray, and it tells of %d: %s", n, &b.said)
	}
	cold := map[string]string{"2014-01-01": "unchecked", "2014-01-07": "unchecked", "2014-02-01": "unchecked"}
	if diff := cmp.Diff(cold, b.verified(true)); diff != "" {
		t.Errorf("reading what is cold (-want +got):\n%s", diff)
	}
	b.thaw()
	b.open()
	want = map[string]string{"2014-01-01": "sound", "2014-01-07": "sound", "2014-02-01": "damaged, lost"}
	if diff := cmp.Diff(want, b.verified(true)); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
}
