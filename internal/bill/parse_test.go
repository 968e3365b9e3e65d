package bill

import (
	"strings"
	"testing"
	"time"
)

func TestTheProgramsOwnTable(t *testing.T) {
	table, err := Parse("prices.toml", Text())
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]int{}
	for _, p := range table.places {
		if len(p.Source) == 0 {
			t.Errorf("%s %s has no source", p.Service, p.Region)
		}
		if p.Default {
			defaults[p.Service]++
		}
		classes := []string{"STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING"}
		if p.Service == "glacier" {
			classes = classes[:1]
		}
		for _, name := range classes {
			if c := p.Class[name]; c == nil || *c.Storage <= 0 {
				t.Errorf("%s %s: %s costs nothing", p.Service, p.Region, name)
			}
		}
	}
	for _, service := range []string{"s3", "glacier"} {
		if defaults[service] != 1 {
			t.Errorf("%d places stand in for others of %s", defaults[service], service)
		}
		for _, region := range []string{"us-east-1", "us-west-2", "eu-central-1", "eu-west-1", "ap-southeast-2"} {
			if f := table.find(Place{"aws", service, region}); len(f.assumptions) == 0 || strings.Contains(f.assumptions[0], "has no prices") {
				t.Errorf("%s has no prices for %s", service, region)
			}
		}
	}
}

// head begins a table in which the first place is on line 4.
const head = "format = 1\ndate = \"2026-01-02\"\ncurrency = \"EUR\"\n"

const small = head + `[[place]]
provider = "s3.example.org"
service = "s3"
region = "*"
egress = 0.5
[place.class.STANDARD]
storage = 2
put = 1000
`

func TestOnesOwnTable(t *testing.T) {
	own, err := Parse("mine.toml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	all := own.Over(Default())
	e := all.Keeping(Place{"s3.example.org", "s3", "anything"}, []Object{{Bytes: gib}})
	if e.Monthly != 2 || e.Currency != "EUR" || !strings.Contains(e.Assumptions[0], "mine.toml") || !strings.Contains(e.Assumptions[0], "2026-01-02") {
		t.Errorf("%+v", e)
	}
	if e := all.Storing(Place{"s3.example.org", "s3", ""}, []Object{{Bytes: gib}}); e.Once != 1 {
		t.Errorf("%+v", e)
	}
	if e := all.Keeping(virginia, []Object{{Bytes: gib}}); e.Monthly != 0.023 || e.Currency != "USD" {
		t.Errorf("what is in the program's own is gone: %+v", e)
	}
	if e := own.Keeping(virginia, []Object{{Bytes: gib}}); e.Currency != "" {
		t.Errorf("a table of its own has prices of others: %+v", e)
	}

	alone, err := Parse("mine.toml", []byte("replace = true\n"+small))
	if err != nil {
		t.Fatal(err)
	}
	if e := alone.Over(Default()).Keeping(virginia, []Object{{Bytes: gib}}); e.Currency != "" {
		t.Errorf("it does not replace all: %+v", e)
	}

	same, err := Parse("mine.toml", []byte(head+"[[place]]\nprovider = \"aws\"\nservice = \"s3\"\nregion = \"us-east-1\"\n[place.class.STANDARD]\nstorage = 7\n"))
	if err != nil {
		t.Fatal(err)
	}
	if e := same.Over(Default()).Keeping(virginia, []Object{{Bytes: gib}}); e.Monthly != 7 || e.Currency != "EUR" {
		t.Errorf("it does not replace a place: %+v", e)
	}
	everywhere, err := Parse("mine.toml", []byte(strings.Replace(small, `"s3.example.org"`, `"*"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if e := everywhere.Keeping(Place{"127.0.0.1", "s3", ""}, []Object{{Bytes: gib}}); e.Monthly != 2 {
		t.Errorf("it does not hold everywhere: %+v", e)
	}
}

func TestLike(t *testing.T) {
	table, err := Parse("mine.toml", []byte(small+`[place.class.COLD]
storage = 1
minimum-days = 10
[place.class.COLD.tier.bulk]
gb = 3
least-hours = 1
most-hours = 2
[[place]]
provider = "s3.example.org"
service = "s3"
region = "north"
like = "*"
[place.class.COLD]
storage = 4
[place.class.COLD.tier.bulk]
most-hours = 8
`))
	if err != nil {
		t.Fatal(err)
	}
	north, south := Place{"s3.example.org", "s3", "north"}, Place{"s3.example.org", "s3", "south"}
	for p, want := range map[Place]struct {
		monthly, once float64
		most          time.Duration
	}{north: {4, 3.5, 8 * time.Hour}, south: {1, 3.5, 2 * time.Hour}} {
		o := []Object{{Class: "COLD", Bytes: gib}}
		k := table.Keeping(p, o)
		r, w, err := table.Restoring(p, o, "bulk", 1)
		if err != nil || k.Monthly != want.monthly || r.Once != want.once || w.Most != want.most {
			t.Errorf("%v: %v, %v, %v, %v", p, k.Monthly, r.Once, w, err)
		}
	}
}

func TestBadTables(t *testing.T) {
	place := func(text string) string {
		return head + "[[place]]\nprovider = \"a\"\nservice = \"s3\"\nregion = \"b\"\n" + text
	}
	class := func(text string) string { return place("[place.class.STANDARD]\nstorage = 1\n" + text) }
	for text, want := range map[string]string{
		"":                                      "format = 0",
		"format = 2\n":                          "1:1: format = 2 is not known",
		"format = 1\ndate = \"today\"":          "2:1: date = \"today\": want the day",
		"format = 1\nformat = 1":                "2:1: ",
		"format = 1\ndate = [":                  "2:8: ",
		strings.Replace(head, "EUR", "euro", 1): "3:1: currency = \"euro\": want three letters",
		head + "color = 1\n":                    "4:1: color is not known here",
		head + "[[place]]\n":                    "4:3: a place needs a provider",
		head + "[[place]]\nprovider = \"a\"\nservice = \"ftp\"\n": "6:1: service = \"ftp\": want",
		place(""):                         "4:3: a place needs the class STANDARD",
		place("egress = -1\n"):            "8:1: egress = -1: want a number, 0 or more",
		place("egress = nan\n"):           "8:1: egress = NaN",
		place("egress = inf\n"):           "8:1: egress = +Inf",
		place("egress = \"1\"\n"):         "8:10: ",
		place("like = \"c\"\n"):           "8:1: like = \"c\": there is no such place",
		place("[place.class.STANDARD]\n"): "8:2: the class STANDARD needs a price for storage",
		class("[place.class.ICE]\n[place.class.ICE.tier.soon]\n"): "\"soon\" is no way of thawing",
		class("minimum-days = 99999999\n"):                        "10:1: minimum-days = 99999999: want a number from 0 to 36500",
		class("minimum-bytes = -5\n"):                             "10:1: minimum-bytes = -5",
		class("parts-as = \"ICE\"\n"):                             "10:1: parts-as = \"ICE\": there is no such class",
		class("put = 1e300\n"):                                    "10:1: put = 1e+300",
		class("gets = 1\n"):                                       "10:1: place.class.STANDARD.gets is not known here",
		class("[place.class.STANDARD.tier.bulk]\nleast-hours = 5\nmost-hours = 2\n"): "10:2: bulk takes 5 hours at least, and 2 at most",
		class("[place.class.STANDARD.tier.bulk]\nmost-hours = 1e6\n"):                "11:1: most-hours",
		class("[[place]]\nprovider = \"a\"\nservice = \"s3\"\nregion = \"b\"\n"):     "10:3: a, s3, b is there twice",
		strings.Repeat("#", longest+1):                                               "is not longer than",
	} {
		_, err := Parse("mine.toml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "reading mine.toml: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: %v, want %q", text, err, want)
		}
	}
}

// Whatever is read can be reckoned with.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small + "[place.class.COLD]\nstorage = 1\n[place.class.COLD.tier.bulk]\ngb = 3\nmost-hours = 2\n[[place]]\nprovider = \"s3.example.org\"\nservice = \"s3\"\nregion = \"n\"\nlike = \"*\"\n"))
	f.Add([]byte(small))
	f.Add([]byte(head + "[[place]]\nprovider = \"a\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := Parse("x", data)
		if err != nil {
			return
		}
		objects := []Object{{Bytes: 1}, {Class: "GLACIER", Bytes: 1 << 40, Parts: 3}, {Class: "DEEP_ARCHIVE"}}
		at := time.Unix(1e9, 0)
		for _, p := range append(table.places, place{Provider: "aws", Service: "s3", Region: "x"}) {
			where := Place{p.Provider, p.Service, p.Region}
			for class := range p.Class {
				objects = append(objects[:3:3], Object{Class: class, Bytes: 7, Since: at})
				for _, e := range []Estimate{table.Storing(where, objects), table.Keeping(where, objects)} {
					if e.Once < 0 || e.Monthly < 0 || e.Once != e.Once {
						t.Fatalf("%+v", e)
					}
				}
				table.Removing(where, objects, at)
				table.SettledAt(where, objects[3])
				for _, tier := range tierNames {
					if e, w, err := table.Restoring(where, objects, tier, 7); err == nil && (e.Once < 0 || w.Least > w.Most) {
						t.Fatalf("%+v %v", e, w)
					}
				}
			}
		}
	})
}
