package bill

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var (
	virginia = Place{Provider: "aws", Service: "s3", Region: "us-east-1"}
	about    = cmpopts.EquateApprox(1e-9, 1e-12)
)

const gib = 1 << 30

// costs are the lines of an estimate, by what they are about.
func costs(e Estimate) map[string]float64 {
	all := map[string]float64{}
	for _, l := range e.Lines {
		all[strings.TrimSpace(l.What+" "+l.Class)] += l.Cost
	}
	return all
}

// 10 GiB in DEEP_ARCHIVE in 101 parts, with beginning and ending 103 requests: the
// last at 0.05 per 1000, the others at 0.005. Two objects of 2 KiB in STANDARD.
//
//	1 x 0.05/1000                                            = 0.00005
//	(102 + 2) x 0.005/1000                                   = 0.00052
//	10 GB x 0.00099                                          = 0.0099 a month
//	32 KiB x 0.00099 + 8 KiB x 0.023, in GB:
//	3.0517578125e-5 x 0.00099 + 7.62939453125e-6 x 0.023     = 2.05688477e-7 a month
//	4 KiB: 3.814697265625e-6 x 0.023                         = 8.77380371e-8 a month
func TestStoring(t *testing.T) {
	e := Default().Storing(virginia, []Object{{Class: "DEEP_ARCHIVE", Bytes: 10 * gib, Parts: 103}, {Bytes: 2048}, {Bytes: 2048}})
	want := map[string]float64{
		"uploading DEEP_ARCHIVE": 0.00005,
		"uploading STANDARD":     0.00052,
		"storage DEEP_ARCHIVE":   0.0099,
		"overhead DEEP_ARCHIVE":  2.0568847656e-7,
		"storage STANDARD":       8.7738037109e-8,
	}
	if diff := cmp.Diff(want, costs(e), about); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if e.Currency != "USD" || math.Abs(e.Once-0.00057) > 1e-12 || math.Abs(e.Monthly-0.0099002934265) > 1e-10 {
		t.Errorf("%v once, %v a month, %q", e.Once, e.Monthly, e.Currency)
	}
	if len(e.Assumptions) == 0 || !strings.Contains(e.Assumptions[0], "2026-08-18") || !strings.Contains(e.Assumptions[0], "estimate") {
		t.Errorf("the prices are not dated: %q", e.Assumptions)
	}
}

// 1 KiB in STANDARD_IA counts as 128 KiB: 1.220703125e-4 GB x 0.0125.
func TestKeepingSmallObjects(t *testing.T) {
	e := Default().Keeping(virginia, []Object{{Class: "STANDARD_IA", Bytes: 1024}})
	if diff := cmp.Diff(map[string]float64{"storage STANDARD_IA": 1.52587890625e-6}, costs(e), about); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if e.Lines[0].Bytes != 1024 {
		t.Errorf("%d bytes are stored", e.Lines[0].Bytes)
	}
}

// 1 GiB and 1 KiB in INTELLIGENT_TIERING: only the first is watched, at 0.0025 per
// 1000 objects.
func TestMonitoring(t *testing.T) {
	e := Default().Keeping(virginia, []Object{{Class: "INTELLIGENT_TIERING", Bytes: gib}, {Class: "INTELLIGENT_TIERING", Bytes: 1024}})
	if got := costs(e)["monitoring INTELLIGENT_TIERING"]; math.Abs(got-0.0000025) > 1e-15 {
		t.Errorf("monitoring costs %v", got)
	}
}

// 100 GiB in DEEP_ARCHIVE, stored 30 days ago, have 150 of 180 days left, 5 months:
//
//	(100 + 3.0517578125e-5) GB x 0.00099 x 5 = 0.495000151
//
// and each month 0.099 are saved, with 2.05688e-7 for what is kept beside it. After
// 180 days nothing is to be paid.
func TestRemoving(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	o := Object{Class: "DEEP_ARCHIVE", Bytes: 100 * gib, Since: now.AddDate(0, 0, -30)}
	e := Default().Removing(virginia, []Object{o}, now)
	if math.Abs(e.Once-0.495000151062) > 1e-9 || math.Abs(e.Monthly+0.099000205688) > 1e-9 {
		t.Errorf("%v once, %v a month", e.Once, e.Monthly)
	}
	settled := Default().SettledAt(virginia, o)
	if want := o.Since.AddDate(0, 0, 180); !settled.Equal(want) {
		t.Errorf("settled at %v, want %v", settled, want)
	}
	if e := Default().Removing(virginia, []Object{o}, settled); e.Once != 0 || e.Monthly >= 0 {
		t.Errorf("after that %v once, %v a month", e.Once, e.Monthly)
	}
	o.Since = time.Time{}
	if e := Default().Removing(virginia, []Object{o}, now); math.Abs(e.Once-0.5940001812744) > 1e-9 {
		t.Errorf("stored at a time that is not known: %v", e.Once)
	}
	if at := Default().SettledAt(virginia, Object{Bytes: 5, Since: now}); !at.IsZero() {
		t.Errorf("STANDARD is settled at %v", at)
	}
}

// 50 GiB in GLACIER, standard, for 3 days:
//
//	1 x 0.05/1000        = 0.00005
//	50 x 0.01            = 0.5
//	50 x 0.023 x 3/30    = 0.115
//	1 x 0.0004/1000      = 0.0000004
//	50 x 0.09            = 4.5
func TestRestoring(t *testing.T) {
	o := Object{Class: "GLACIER", Bytes: 50 * gib}
	e, w, err := Default().Restoring(virginia, []Object{o}, "standard", 3)
	want := map[string]float64{
		"asking GLACIER": 0.00005, "retrieval GLACIER": 0.5, "readable copy STANDARD": 0.115, "reading GLACIER": 0.0000004, "transfer": 4.5,
	}
	if diff := cmp.Diff(want, costs(e), about); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if w != (Wait{3 * time.Hour, 5 * time.Hour}) {
		t.Errorf("takes %v", w)
	}

	o.Readable = true
	if e, w, err = Default().Restoring(virginia, []Object{o}, "standard", 3); err != nil || w != (Wait{}) || math.Abs(e.Once-4.5000004) > 1e-9 {
		t.Errorf("readable already: %v, %v, %v", e.Once, w, err)
	}
	o = Object{Class: "GLACIER_IR", Bytes: 50 * gib} // 50 x (0.03 + 0.09), and 0.01/1000
	if e, w, err = Default().Restoring(virginia, []Object{o}, "expedited", 3); err != nil || w != (Wait{}) || math.Abs(e.Once-6.00001) > 1e-9 {
		t.Errorf("readable at once: %v, %v, %v", e.Once, w, err)
	}
}

// The worked example of https://repost.aws/knowledge-center/s3-manage-data-retrieval,
// a thousandth of it: 15,000 objects with 102.4 GB in GLACIER. Standard: 0.75 for
// requests and 1.024 for bytes. Expedited: 150 and 3.072.
func TestRestoringAsInTheProvidersExample(t *testing.T) {
	objects := make([]Object, 15000)
	total := int64(1024 * gib / 10)
	for i := range objects {
		objects[i] = Object{Class: "GLACIER", Bytes: total / 15000}
	}
	for tier, want := range map[string][2]float64{"standard": {0.75, 1.024}, "expedited": {150, 3.072}, "bulk": {0, 0}} {
		e, _, err := Default().Restoring(virginia, objects, tier, 1)
		got := costs(e)
		if err != nil || math.Abs(got["asking GLACIER"]-want[0]) > 1e-9 || math.Abs(got["retrieval GLACIER"]-want[1]) > 1e-4 {
			t.Errorf("%s: %v, %v", tier, got, err)
		}
	}
}

func TestNothingIsExpeditedFromDeepArchive(t *testing.T) {
	_, _, err := Default().Restoring(virginia, []Object{{Class: "DEEP_ARCHIVE"}}, "expedited", 1)
	e, ok := errors.AsType[*NoTierError](err)
	if !ok || cmp.Diff([]string{"bulk", "standard"}, e.Tiers) != "" {
		t.Errorf("%v", err)
	}
	if _, err := Default().Thawing(virginia, "DEEP_ARCHIVE", "expedited"); err == nil {
		t.Error("it is thawed")
	}
	for class, want := range map[string]Wait{"DEEP_ARCHIVE": {12 * time.Hour, 48 * time.Hour}, "GLACIER": {5 * time.Hour, 12 * time.Hour}, "": {}, "GLACIER_IR": {}} {
		if w, err := Default().Thawing(virginia, class, "bulk"); err != nil || w != want {
			t.Errorf("%s: %v, %v", class, w, err)
		}
	}
}

// In a vault all is cold, whatever the class is called, and nothing is charged for
// the copy: 20 x 0.01 + 0.05/1000 + 20 x 0.09.
func TestVaults(t *testing.T) {
	vault := Place{Provider: "aws", Service: "glacier", Region: "us-east-1"}
	for _, class := range []string{"", "GLACIER"} {
		e, w, err := Default().Restoring(vault, []Object{{Class: class, Bytes: 20 * gib}}, "standard", 7)
		if err != nil || w.Most != 5*time.Hour || math.Abs(e.Once-2.00005) > 1e-9 {
			t.Errorf("%q: %v, %v, %v", class, e.Once, w, err)
		}
	}
	for _, l := range Default().Storing(vault, []Object{{Class: "GLACIER", Bytes: gib, Parts: 3}}).Lines {
		if l.Class != "GLACIER" {
			t.Errorf("a part of what storing costs is called %+v", l)
		}
	}
}

func TestWherePricesAreNotKnown(t *testing.T) {
	sydney := Place{Provider: "aws", Service: "s3", Region: "ap-south-9"}
	e := Default().Keeping(sydney, []Object{{Bytes: gib}})
	if e.Monthly != 0.023 || !strings.Contains(strings.Join(e.Assumptions, "\n"), "ap-south-9: those of us-east-1") {
		t.Errorf("another region: %+v", e)
	}
	far := Place{Provider: "s3.example.org", Service: "s3"}
	objects := []Object{{Class: "GLACIER", Bytes: gib, Since: time.Unix(1e9, 0)}, {Bytes: 5}}
	for what, e := range map[string]Estimate{
		"keeping":  Default().Keeping(far, objects),
		"storing":  Default().Storing(far, objects),
		"removing": Default().Removing(far, objects, time.Unix(1e9+5, 0)),
	} {
		if e.Once != 0 || e.Monthly != 0 || e.Currency != "" || len(e.Lines) < 2 || !strings.Contains(e.Assumptions[0], "no prices are known for s3.example.org") {
			t.Errorf("%s: %+v", what, e)
		}
	}
	e, w, err := Default().Restoring(far, objects, "bulk", 7)
	if e.Once != 0 || e.Currency != "" || w.Most != 12*time.Hour || err != nil {
		t.Errorf("restoring: %+v, %v, %v", e, w, err)
	}
	if !Default().SettledAt(far, objects[0]).IsZero() {
		t.Error("somebody charges for a least time")
	}
	strange := Default().Keeping(virginia, []Object{{Class: "ICE", Bytes: gib}})
	if strange.Monthly != 0.023 || !strings.Contains(strings.Join(strange.Assumptions, "\n"), "class ICE") {
		t.Errorf("another class: %+v", strange)
	}
}

// Everywhere in the table: more bytes never cost less, two estimates make that of
// both, nothing is negative, and the order of objects does not matter.
func TestEstimatesAddUp(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	table := Default()
	object := rapid.Custom(func(t *rapid.T) Object {
		o := Object{
			Class:    rapid.SampledFrom([]string{"", "STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING", "ICE"}).Draw(t, "class"),
			Bytes:    rapid.OneOf(rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, 1<<45)).Draw(t, "bytes"),
			Parts:    rapid.IntRange(0, 10000).Draw(t, "parts"),
			Readable: rapid.Bool().Draw(t, "readable"),
		}
		if rapid.Bool().Draw(t, "dated") {
			o.Since = now.Add(-time.Duration(rapid.IntRange(-24, 24*400).Draw(t, "hours")) * time.Hour)
		}
		return o
	})
	rapid.Check(t, func(t *rapid.T) {
		q := rapid.SampledFrom(table.places).Draw(t, "place")
		p := Place{q.Provider, q.Service, q.Region}
		if rapid.IntRange(0, 9).Draw(t, "elsewhere") == 0 {
			p.Provider = "elsewhere"
		}
		tier := rapid.SampledFrom([]string{"bulk", "standard"}).Draw(t, "tier")
		days := rapid.IntRange(0, 100).Draw(t, "days")
		all := map[string]func([]Object) Estimate{
			"storing": func(o []Object) Estimate { return table.Storing(p, o) },
			"keeping": func(o []Object) Estimate { return table.Keeping(p, o) },
			"removing": func(o []Object) Estimate {
				e := table.Removing(p, o, now)
				e.Monthly = -e.Monthly // what is saved
				return e
			},
			"restoring": func(o []Object) Estimate {
				e, w, err := table.Restoring(p, o, tier, days)
				if err != nil || w.Least > w.Most {
					t.Fatalf("%v, %v", w, err)
				}
				return e
			},
		}
		some, others := rapid.SliceOfN(object, 0, 8).Draw(t, "some"), rapid.SliceOfN(object, 1, 8).Draw(t, "others")
		grown := append([]Object{}, others...)
		grown[0].Bytes += rapid.Int64Range(0, 1<<40).Draw(t, "more")
		for name, estimate := range all {
			a, b, c := estimate(some), estimate(others), estimate(append(append([]Object{}, others...), some...))
			near := func(x, y float64) bool { return math.Abs(x-y) <= 1e-9*(1+math.Abs(x)) }
			if !near(a.Once+b.Once, c.Once) || !near(a.Monthly+b.Monthly, c.Monthly) {
				t.Fatalf("%s: %v + %v = %v, %v + %v = %v", name, a.Once, b.Once, c.Once, a.Monthly, b.Monthly, c.Monthly)
			}
			once, monthly := 0.0, 0.0
			for _, l := range c.Lines {
				if l.Monthly {
					monthly += l.Cost
				} else {
					once += l.Cost
				}
			}
			if !near(once, c.Once) || !near(math.Abs(monthly), c.Monthly) {
				t.Fatalf("%s: the lines make %v and %v of %v and %v", name, once, monthly, c.Once, c.Monthly)
			}
			if a.Once < 0 || a.Monthly < 0 {
				t.Fatalf("%s: %v and %v", name, a.Once, a.Monthly)
			}
			if g := estimate(grown); g.Once < b.Once-1e-12 || g.Monthly < b.Monthly-1e-12 {
				t.Fatalf("%s: more bytes cost less: %v after %v", name, g, b)
			}
		}
	})
}
