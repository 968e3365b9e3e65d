package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
)

func TestMoney(t *testing.T) {
	for amount, want := range map[float64]string{
		0: "0.00 USD", 0.00001: "less than 0.0001 USD", -0.00001: "less than 0.0001 USD", 0.00012: "0.0001 USD",
		0.5: "0.5000 USD", -0.5: "-0.5000 USD", 1: "1.00 USD", 12345.678: "12345.68 USD",
	} {
		if got := money(amount, "USD"); got != want {
			t.Errorf("%v: %q, want %q", amount, got, want)
		}
	}
}

func TestWaitText(t *testing.T) {
	for want, w := range map[string]bill.Wait{
		"readable at once":                {},
		"readable after 1 min to 5 min":   {Least: time.Minute, Most: 5 * time.Minute},
		"readable after 12 h to 48 h":     {Least: 12 * time.Hour, Most: 48 * time.Hour},
		"readable after about 3 days":     {Least: 72 * time.Hour, Most: 73 * time.Hour},
		"readable after 1 min to 12 h":    {Least: time.Second, Most: 12 * time.Hour},
		"readable after 30 min to 4 days": {Least: 30 * time.Minute, Most: 96 * time.Hour},
	} {
		if got := waitText(w); got != want {
			t.Errorf("%v: %q, want %q", w, got, want)
		}
	}
}

// estimated is an estimate of one item.
func estimated(what, class string, bytes int64, cost float64, assumed ...string) bill.Estimate {
	return bill.Estimate{
		Lines: []bill.Line{{What: what, Class: class, Bytes: bytes, Cost: cost, Monthly: what == bill.Storage}},
		Once:  map[bool]float64{false: cost}[what == bill.Storage], Monthly: map[bool]float64{true: cost}[what == bill.Storage],
		Currency: "USD", Assumptions: assumed,
	}
}

func TestOneStream(t *testing.T) {
	got := restoringLines("Estimate", &job.Restoring{Streams: 1, Bytes: 3 << 30, Cold: 1})
	if want := "Estimate: 1 stream, 3 GiB, 1 of them cold:"; got[0] != want {
		t.Errorf("told %q, want %q", got[0], want)
	}
}

func TestForecastLines(t *testing.T) {
	storing := estimated(bill.Storage, "DEEP_ARCHIVE", 5<<30, 0.00495, "one", "two")
	removing := estimated(bill.Early, "GLACIER", 1<<30, 1.5, "one")
	f := &job.Forecast{
		Storing: &storing, Removing: &removing,
		Restoring: &job.Restoring{Streams: 2, Bytes: 3 << 30, Tiers: map[store.Tier]job.TierCost{
			store.Bulk: {Estimate: estimated(bill.Transfer, "", 3<<30, 0.27)}, store.Standard: {Estimate: estimated(bill.Transfer, "", 3<<30, 0.27)},
		}},
		Back: &job.Restoring{Streams: 3, Bytes: 5 << 30, Cold: 3, Pending: 1, Tiers: map[store.Tier]job.TierCost{
			store.Bulk:     {Estimate: estimated(bill.Retrieval, "DEEP_ARCHIVE", 5<<30, 0.5, "three"), Wait: bill.Wait{Least: 12 * time.Hour, Most: 48 * time.Hour}},
			store.Standard: {Estimate: estimated(bill.Retrieval, "DEEP_ARCHIVE", 5<<30, 2), Wait: bill.Wait{Most: 12 * time.Hour}},
		}},
	}
	want := []string{
		"Estimate of storing it: 0.0050 USD a month",
		"  storage  DEEP_ARCHIVE  5 GiB  0.0050 USD a month",
		"Estimate of removing for good: 1.50 USD once",
		"  early deletion  GLACIER  1 GiB  1.50 USD",
		"Estimate of reading the source: 2 streams, 3 GiB, readable at once: 0.2700 USD once",
		"Estimate of having the newest back later: 3 streams, 5 GiB, 1 of them asked for already, 3 of them cold:",
		"  bulk       0.5000 USD once               readable after 12 h to 48 h",
		"  standard   2.00 USD once                 readable after 1 min to 12 h",
		"  expedited  not possible for all of them",
		"  assumed: one",
		"  assumed: two",
		"  assumed: three",
	}
	if diff := cmp.Diff(want, forecastLines(f)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := forecastLines(nil); len(got) != 0 {
		t.Errorf("nothing: %q", got)
	}
}

func TestEarlyLine(t *testing.T) {
	settled := time.Date(2027, 1, 5, 12, 0, 0, 0, time.Local)
	e := &job.Early{Estimate: estimated(bill.Early, "GLACIER", 1<<30, 1.5), Settled: settled, Later: true}
	const want = "Estimate: emptying the trash of it now costs 1.50 USD, since it has not been stored for as long as is charged; from 2027-01-05 on it costs nothing"
	if got := earlyLine(e); got != want {
		t.Errorf("%q", got)
	}
	e.Later = false
	if got := earlyLine(e); !strings.HasPrefix(got, "Estimate: removing it for good now costs 1.50 USD, ") {
		t.Errorf("%q", got)
	}
	e.Estimate = estimated(bill.Storage, "GLACIER", 1<<30, -1.5)
	if got := earlyLine(e); got != "" {
		t.Errorf("what costs nothing: %q", got)
	}
}

func TestItemsWithoutPrices(t *testing.T) {
	e := bill.Estimate{Lines: []bill.Line{{What: bill.Uploading, Class: "STANDARD", Count: 3}, {What: bill.Monitoring, Count: 2}}}
	if diff := cmp.Diff([]string{"  uploading   STANDARD  3 requests", "  monitoring            2 objects"}, itemLines(e)); diff != "" {
		t.Error(diff)
	}
	if got := priceText(e); got != "no prices are known" {
		t.Errorf("%q", got)
	}
}
