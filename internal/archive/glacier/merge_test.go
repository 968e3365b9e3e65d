package glacier

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/ledger"
)

// day is a time that many days from a beginning.
func day(n int) time.Time { return time.Date(2026, 1, 1+n, 12, 0, 0, 0, time.UTC) }

func archiveAt(n int, id, key string) Stored {
	return Stored{ID: id, Description: describe(key, false), Size: 7, Created: day(n)}
}

func TestMerge(t *testing.T) {
	entryAt := func(s Stored, seen time.Time) *entry {
		e := entryOf(s, false)
		e.Seen = seen
		return e
	}
	have := &contents{
		objects: map[string]*entry{
			"ours, newer":     entryAt(archiveAt(6, "A", ""), time.Time{}),
			"ours, with more": entryAt(archiveAt(4, "B", ""), time.Time{}),
			"told, still":     entryAt(archiveAt(1, "C", ""), day(2)),
			"told, gone":      entryAt(archiveAt(1, "D", ""), day(2)),
			"told, replaced":  entryAt(archiveAt(1, "E", ""), day(2)),
		},
		gone: map[string]*gone{
			"F": {When: day(4)}, "G": {When: day(1)}, "H": {When: day(4)}, "I": {When: day(1), Owed: true},
		},
		closing: map[string]*closing{"old": {Begun: day(1)}, "new": {Begun: day(4)}},
	}
	inventory := &Inventory{Taken: day(5), Archives: []Stored{
		archiveAt(3, "A0", "ours, newer"),
		archiveAt(3, "B2", "ours, with more"), archiveAt(4, "B", "ours, with more"),
		archiveAt(1, "C", "told, still"), archiveAt(2, "E2", "told, replaced"), archiveAt(1, "F", "deleted"),
		archiveAt(3, "J2", "twice"), archiveAt(2, "J", "twice"), archiveAt(4, "J3", "twice"),
		{ID: "K", Description: "btrsend backup for 2014-01-01 (complete)"},
	}}
	got := merge(have, inventory, slog.New(slog.DiscardHandler))
	var changed []string
	for key, e := range got.enter {
		changed = append(changed, key+": "+e.ID)
		if !e.Seen.Equal(day(5)) {
			t.Errorf("%s is seen at %v", key, e.Seen)
		}
	}
	slices.Sort(changed)
	if d := cmp.Diff([]string{"told, replaced: E2", "twice: J"}, changed); d != "" {
		t.Errorf("entered (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"told, gone"}, got.strike); d != "" {
		t.Errorf("struck (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"G"}, got.forget); d != "" {
		t.Errorf("forgotten (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"old"}, got.closed); d != "" {
		t.Errorf("closed (-want +got):\n%s", d)
	}
}

// TestMergeKeepsTrack plays a vault that is stored to and deleted from, whose
// catalogue is lost once, and whose inventories are a day or two behind: what is
// stored from here is always known, what is deleted from here never comes back, and
// when nothing has been stored for long all is as it is in the vault.
func TestMergeKeepsTrack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, err := ledger.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		b := &bucket{Vault: &Vault{log: slog.New(slog.DiscardHandler)}, c: l, place: "vault"}
		vault := map[string]Stored{} // by key
		var days []map[string]Stored // as it was at the end of each day
		own := map[string]bool{}     // stored since the loss
		struck := map[string]bool{}  // IDs deleted since the loss
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		merged := -1
		take := func(taken int) {
			if taken <= merged {
				return
			}
			merged = taken
			inventory := &Inventory{Taken: day(taken)}
			for _, s := range days[taken] {
				inventory.Archives = append(inventory.Archives, s)
			}
			c, err := b.load()
			must(err)
			must(b.apply(merge(c, inventory, b.log)))
		}
		lost := rapid.IntRange(1, 5).Draw(t, "lost")
		const last = 12
		for today := range last {
			if today == lost {
				entries, err := l.Entries("vault")
				must(err)
				for name := range entries {
					must(l.Strike("vault", name))
				}
				clear(own)
				clear(struck)
				take(max(0, today-2))
			}
			for i := range rapid.IntRange(0, 3).Draw(t, "steps") {
				if today >= last-5 {
					break
				}
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
				have, err := b.find(key)
				must(err)
				switch {
				case have == nil && vault[key].ID == "":
					s := archiveAt(today, fmt.Sprint(key, today, "-", i), key)
					vault[key] = s
					must(b.enter(objectPrefix+escape(key), entryOf(s, false)))
					own[key] = true
				case have != nil && have.ID == vault[key].ID:
					delete(vault, key)
					delete(own, key)
					struck[have.ID] = true
					must(b.enter(gonePrefix+have.ID, gone{When: day(today)}))
					must(l.Strike("vault", objectPrefix+escape(key)))
				}
			}
			days = append(days, maps.Clone(vault))
			if today > 1 && rapid.Bool().Draw(t, "inventory") || today == last-1 {
				take(today - rapid.IntRange(1, 2).Draw(t, "behind"))
			}
			c, err := b.load()
			must(err)
			for key := range own {
				if c.objects[key] == nil || c.objects[key].ID != vault[key].ID {
					t.Fatalf("day %d: %s is stored as %s and known as %+v", today, key, vault[key].ID, c.objects[key])
				}
			}
			for key, e := range c.objects {
				if struck[e.ID] {
					t.Fatalf("day %d: %s has come back as %s", today, key, e.ID)
				}
			}
		}
		c, err := b.load()
		must(err)
		got, want := map[string]string{}, map[string]string{}
		for key, e := range c.objects {
			got[key] = e.ID
		}
		for key, s := range vault {
			want[key] = s.ID
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("in the end (-want +got):\n%s", d)
		}
	})
}
