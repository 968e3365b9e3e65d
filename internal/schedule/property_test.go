package schedule_test

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/schedule"
)

// anyItems are dated items with different names: dense or years apart, around a
// change of clocks or not.
func anyItems(t *rapid.T, z *time.Location) []schedule.Item {
	if z == nil {
		z = time.UTC
	}
	at := moment(t, z, "oldest")
	span := rapid.SampledFrom([]int{60, 3600, 40_000, 200_000, 3_000_000}).Draw(t, "seconds between them")
	var items []schedule.Item
	for i := range rapid.IntRange(0, 40).Draw(t, "items") {
		items = append(items, schedule.Item{Name: fmt.Sprintf("i%02d", i), Time: at})
		at = at.Add(time.Duration(rapid.IntRange(0, span).Draw(t, "seconds")) * time.Second)
	}
	return items
}

// after is a time at which all items count.
func after(t *rapid.T, items []schedule.Item) time.Time {
	now := time.Unix(1_200_000_000, 0)
	for _, it := range items {
		if it.Time.After(now) {
			now = it.Time
		}
	}
	return now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 3599, 86_400, 40_000_000}).Draw(t, "seconds later")) * time.Second)
}

// stays are the names of those that stay, for the reasons of the rules alone.
func stays(now time.Time, items []schedule.Item, r schedule.Rules) map[string]string {
	kept := map[string]string{}
	for i, v := range schedule.Judge(now, items, r) {
		if !v.Due && !v.Aside {
			kept[items[i].Name] = v.Reason
		}
	}
	return kept
}

func those(items []schedule.Item, is func(string) bool) []schedule.Item {
	return slices.DeleteFunc(slices.Clone(items), func(it schedule.Item) bool { return !is(it.Name) })
}

func TestAsTheOracleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		want := oracle(now, items, r)
		for i, v := range schedule.Judge(now, items, r) {
			if v.Keep != want[i] || v.Due == v.Keep || v.Aside || v.Reason == "" {
				t.Fatalf("%s at %v with %q: %+v, want %v", items[i].Name, items[i].Time, r, v, want[i])
			}
		}
	})
}

func TestTheOrderOfItemsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		if len(items) > 1 {
			items = append(items, items[rapid.IntRange(0, len(items)-1).Draw(t, "twice")])
		}
		shuffled := slices.Clone(items)
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))).Shuffle(len(items), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		if a, b := stays(now, items, r), stays(now, shuffled, r); !maps.Equal(a, b) {
			t.Fatalf("%v, and in another order %v", a, b)
		}
	})
}

// TestObeyingChangesNothing: whatever was removed before of what was due, even
// part of it, and whatever has come since, the same is kept for the same reasons.
func TestObeyingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		early := rapid.IntRange(0, len(items)).Draw(t, "items at first")
		first := items[:early]
		before := now.Add(-time.Duration(rapid.IntRange(0, 100_000).Draw(t, "seconds before")) * time.Second)
		first = those(first, func(name string) bool { return true })
		first = slices.DeleteFunc(first, func(it schedule.Item) bool { return it.Time.After(before) })
		kept := stays(before, first, r)
		spared := map[string]bool{}
		for _, it := range first {
			if _, ok := kept[it.Name]; !ok && rapid.Bool().Draw(t, "spared") {
				spared[it.Name] = true
			}
		}
		gone := func(name string) bool {
			_, ok := kept[name]
			return !ok && !spared[name] && slices.ContainsFunc(first, func(it schedule.Item) bool { return it.Name == name })
		}
		left := those(items, func(name string) bool { return !gone(name) })
		if a, b := stays(now, items, r), stays(now, left, r); !maps.Equal(a, b) {
			t.Fatalf("of all %v are kept, of what was left %v", a, b)
		}
	})
}

func TestIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		kept := stays(now, items, r)
		left := those(items, func(name string) bool { _, ok := kept[name]; return ok })
		if again := stays(now, left, r); !maps.Equal(kept, again) {
			t.Fatalf("of %v, %v are kept", kept, again)
		}
	})
}

// more draws rules that ask for at least as much of everything.
func more(t *rapid.T, r schedule.Rules) schedule.Rules {
	for _, n := range []*int{&r.Last, &r.Hourly, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly} {
		switch add := rapid.SampledFrom([]int{0, 0, 1, 2, 7, schedule.All}).Draw(t, "more"); {
		case add < 0:
			*n = schedule.All
		case *n >= 0:
			*n += add
		}
	}
	r.MinAge += time.Duration(rapid.SampledFrom([]int{0, 0, 1, 86_400, 4_000_000}).Draw(t, "longer")) * time.Second
	return r
}

func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		if r.None() {
			r.Last = 1
		}
		items := anyItems(t, r.Zone)
		now := after(t, items)
		generous := more(t, r)
		kept := stays(now, items, generous)
		for name := range stays(now, items, r) {
			if _, ok := kept[name]; !ok {
				t.Fatalf("%s is kept by %q and not by %q", name, r, generous)
			}
		}
	})
}

// TestTimeOnlyTakes: where nothing is made, nothing that was due is kept later.
func TestTimeOnlyTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		kept := stays(now, items, r)
		for name := range stays(after(t, append(items, schedule.Item{Time: now})), items, r) {
			if _, ok := kept[name]; !ok {
				t.Fatalf("%s was due", name)
			}
		}
	})
}

// TestWhatHasNoSay: what is set aside changes nothing for the others, and what is
// kept for other reasons counts as if it were not.
func TestWhatHasNoSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t, "rules")
		items := anyItems(t, r.Zone)
		now := after(t, items)
		want := stays(now, items, r)
		more := slices.Clone(items)
		for i := range more {
			if rapid.Bool().Draw(t, "held") {
				more[i].Keep = "held"
			}
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "aside") {
			it := schedule.Item{Name: fmt.Sprintf("a%d", i), Time: now}
			switch rapid.IntRange(0, 2).Draw(t, "why") {
			case 0:
				it.Time = time.Time{}
			case 1:
				it.Time = now.Add(schedule.Slack + 1)
			case 2:
				it.Aside = "foreign"
			}
			more = append(more, it)
		}
		counted := 0
		for i, v := range schedule.Judge(now, more, r) {
			it := more[i]
			_, stay := want[it.Name]
			switch {
			case i >= len(items):
				if !v.Aside || !v.Keep || v.Due {
					t.Fatalf("%+v: %+v", it, v)
				}
			case v.Due == stay || v.Aside || v.Keep != (stay || it.Keep != "") || it.Keep != "" && v.Reason != it.Keep:
				t.Fatalf("%+v: %+v, and the rules keep %v", it, v, want)
			case !v.Due:
				counted++
			}
		}
		if len(items) > 0 && counted == 0 {
			t.Fatal("all are due")
		}
	})
}
