package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// TestTooDearForSome: a way of thawing that is not there for all streams costs what
// it does for the others, and they are not asked for if that is too much.
func TestTooDearForSome(t *testing.T) {
	for _, limit := range []float64{0.001, 1} {
		src, edges := coldChain(2)
		src.Freeze("GLACIER", edges[0])
		src.Freeze("DEEP_ARCHIVE", edges[1])
		thaw := store.ThawOptions{Tier: store.Expedited} // 0.01 for a request
		var seen *Restoring
		_, thawing := (&Engine{}).Thaw(t.Context(), src, ThawOptions{Thaw: thaw, MaxCost: limit, Planned: func(r *ThawReport) { seen = r.Restoring }})
		_, syncing := (&Engine{}).Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{Thaw: thaw, MaxCost: limit})
		dear := limit < 0.01
		for _, err := range []error{thawing, syncing} {
			if e, ok := err.(*CostError); ok != dear || dear && (e.Cost < 0.01 || e.Currency != "USD") {
				t.Errorf("limit %v: %v", limit, err)
			}
		}
		if asked := src.Asks(edges[0]) > 0; asked == dear || src.Asks(edges[1]) > 0 {
			t.Errorf("limit %v: asked for %v, %d", limit, asked, src.Asks(edges[1]))
		}
		if _, all := seen.Tiers[store.Expedited]; all || seen.Partly[store.Expedited].Once < 0.01 {
			t.Errorf("%+v", seen)
		}
	}
	src, edges := coldChain(1)
	src.Freeze("DEEP_ARCHIVE", edges...)
	_, err := (&Engine{}).Thaw(t.Context(), src, ThawOptions{Thaw: store.ThawOptions{Tier: store.Expedited}, MaxCost: 1e-9})
	if err == nil || is[*CostError](err) {
		t.Errorf("what cannot be asked for at all costs nothing: %v", err)
	}
}

// tableOf is a table of prices for the tariff glacier.
func tableOf(t *testing.T, classes string) *bill.Table {
	t.Helper()
	const head = "format = 1\ndate = \"2026-01-01\"\ncurrency = \"EUR\"\n[[place]]\nprovider = \"aws\"\nservice = \"s3\"\nregion = \"us-east-1\"\negress = 1e-9\n[place.class.STANDARD]\nstorage = 1\n"
	table, err := bill.Parse("mine", []byte(head+classes))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestLimitWithoutPricesOfThawing: a table that has prices for a place, but none for
// having what is cold there, tells nothing that a limit could be compared with.
func TestLimitWithoutPricesOfThawing(t *testing.T) {
	e := &Engine{Prices: tableOf(t, "[place.class.GLACIER]\nstorage = 1\n")}
	for _, class := range []string{"GLACIER", "DEEP_ARCHIVE"} {
		src, edges := coldChain(1)
		src.Freeze(class, edges...)
		var seen *Restoring
		_, err := e.Sync(t.Context(), src, storetest.NewMemory("dst"), SyncOptions{MaxCost: 100, Planned: func(o *Outlook) { seen = o.Forecast.Restoring }})
		if c, ok := err.(*CostError); !ok || c.Currency != "" || src.Asks(edges[0]) > 0 {
			t.Errorf("%s: %v, asked %d times", class, err, src.Asks(edges[0]))
		}
		said := slices.ContainsFunc(seen.Tiers[store.Bulk].Assumptions, func(a string) bool {
			return strings.Contains(a, "thawing") && strings.Contains(a, class)
		})
		if seen.Cold != 1 || !said {
			t.Errorf("%s: %+v", class, seen)
		}
	}
}

// TestColdByOneTier: what is cold is so whichever ways of thawing a table has, and
// whether it says how long they take or not.
func TestColdByOneTier(t *testing.T) {
	for _, tier := range []store.Tier{store.Bulk, store.Standard, store.Expedited} {
		e := &Engine{Prices: tableOf(t, fmt.Sprintf("[place.class.GLACIER]\nstorage = 1\n[place.class.GLACIER.tier.%s]\ngb = 1\n", tier))}
		r := e.back(&glacier, []bill.Object{{Class: "GLACIER", Bytes: 1 << 30}, {Bytes: 1}}, 7)
		if _, there := r.Tiers[tier]; r.Cold != 1 || len(r.Tiers) != 1 || !there {
			t.Errorf("%s: %+v", tier, r)
		}
		r = e.restoring(t.Context(), billed(glacier), []store.Thawing{{Edge: snapshot.Edge{}, Class: "GLACIER", Bytes: 1 << 30, State: store.Cold}}, 7)
		if r.Cold != 1 {
			t.Errorf("%s: %+v", tier, r)
		}
	}
}

// billed is a store with a tariff.
func billed(tariff store.Tariff) store.Store {
	src := storetest.NewMemory("archive")
	src.SetTariff(tariff)
	return src
}
