package outstanding_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/outstanding"
)

// left is what btrfs-backup 0.3.1 has left after an increment that failed.
const left = `{
    "20261120-231457": {
        "parent_locks": [
            "/mnt/d2/bk"
        ]
    },
    "20261120-231524": {
        "locks": [
            "/mnt/d2/bk"
        ]
    }
}`

func parse(t testing.TB, text string) *outstanding.Transfers {
	t.Helper()
	transfers, err := outstanding.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return transfers
}

func formats(t testing.TB, transfers *outstanding.Transfers, want string) {
	t.Helper()
	if diff := cmp.Diff(want, string(transfers.Format())); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheOldProgramLeft(t *testing.T) {
	transfers := parse(t, left)
	formats(t, transfers, left)
	if got := transfers.Names(); !slices.Equal(got, []string{"20261120-231457", "20261120-231524"}) {
		t.Error(got)
	}
	if got := transfers.Destinations("20261120-231457", outstanding.Sent); got != nil {
		t.Error(got)
	}
	if got := transfers.Destinations("20261120-231457", outstanding.Parent); !slices.Equal(got, []string{"/mnt/d2/bk"}) {
		t.Error(got)
	}
	if got := transfers.All(); !slices.Equal(got, []string{"/mnt/d2/bk"}) {
		t.Error(got)
	}
	if transfers.Drop("20261120-231457", outstanding.Sent, "/mnt/d2/bk") {
		t.Error("what was not locked is unlocked")
	}
	for name, k := range map[string]outstanding.Kind{"20261120-231457": outstanding.Parent, "20261120-231524": outstanding.Sent} {
		if !transfers.Drop(name, k, "/mnt/d2/bk") {
			t.Error("it was not locked")
		}
	}
	formats(t, transfers, "{}")
}

// TestMadeAnew writes the same, begun with nothing, in any order.
func TestMadeAnew(t *testing.T) {
	var transfers outstanding.Transfers
	formats(t, &transfers, "{}")
	if !transfers.Add("20261120-231524", outstanding.Sent, "/mnt/d2/bk") ||
		!transfers.Add("20261120-231457", outstanding.Parent, "/mnt/d2/bk") {
		t.Error("it was locked before")
	}
	if transfers.Add("20261120-231457", outstanding.Parent, "/mnt/d2/bk") {
		t.Error("it was not locked before")
	}
	formats(t, &transfers, left)
}

func TestNothing(t *testing.T) {
	for _, text := range []string{"", " \n", "\t", "{}", " { } \n", `{"a": {}}`, `{"a": {"locks": []}, "b": {"parent_locks": [ ], "locks": []}}`} {
		transfers := parse(t, text)
		formats(t, transfers, "{}")
		if names := transfers.Names(); names != nil {
			t.Error(names)
		}
	}
}

func TestBothWays(t *testing.T) {
	transfers := parse(t, `{"n": {"parent_locks": ["p"], "locks": ["b", "a", "b"]}, "m": {"locks": ["c", "a"]}, "n": {"locks": ["d", "a"]}}`)
	formats(t, transfers, `{
    "n": {
        "locks": [
            "b",
            "a",
            "d"
        ],
        "parent_locks": [
            "p"
        ]
    },
    "m": {
        "locks": [
            "c",
            "a"
        ]
    }
}`)
	if got := transfers.All(); !slices.Equal(got, []string{"b", "a", "d", "c"}) {
		t.Error(got)
	}
}

func TestPlaces(t *testing.T) {
	const before = `{"x-20260101-000000": {"locks": ["i"]}, "by hand": {"locks": ["i"]}, "y-20260103-000000": {"locks": ["i"]}, "x-20260102-000000": {"locks": ["i"]}, "also": {"locks": ["i"]}}`
	for name, want := range map[string]int{
		"20251231-235959":   0,
		"x-20260101-000001": 2,
		"y-20260101-000000": 2,
		"z-20260102-000000": 5,
		"a-20260102-235959": 5,
		"x-20260104-000000": 5,
		"no time":           5,
		"20260101-00000":    5,
		"20260101x000000":   5,
	} {
		transfers := parse(t, before)
		transfers.Add(name, outstanding.Sent, "i")
		if got := slices.Index(transfers.Names(), name); got != want {
			t.Errorf("%s: at %d of %q, want %d", name, got, transfers.Names(), want)
		}
	}
}

// TestAsPython has what json.dumps(…, indent=4) of Python 3 writes.
func TestAsPython(t *testing.T) {
	var transfers outstanding.Transfers
	transfers.Add("\x00\x08\t\n\x0b\x0c\r\x1f \"\\/<>&'\x7f\u0080é\u2028\uffff\U0001f9c8", outstanding.Sent, "raw \xe9\xff")
	const want = `{
    "\u0000\b\t\n\u000b\f\r\u001f \"\\/<>&'\u007f\u0080\u00e9\u2028\uffff\ud83e\uddc8": {
        "locks": [
            "raw \udce9\udcff"
        ]
    }
}`
	formats(t, &transfers, want)
	formats(t, parse(t, want), want)
}

func TestEscapes(t *testing.T) {
	transfers := parse(t, `{"\/\b\f\n\r\t\"\\\u00E9\uD83E\uddC8": {"locks": ["é\udce9"]}}`)
	const name = "/\b\f\n\r\t\"\\é\U0001f9c8"
	if got := transfers.Names(); !slices.Equal(got, []string{name}) {
		t.Errorf("%q", got)
	}
	if got := transfers.Destinations(name, outstanding.Sent); !slices.Equal(got, []string{"é\xe9"}) {
		t.Errorf("%q", got)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                         "line 1, column 1: an object of snapshots",
		`null`:                       "line 1, column 1: an object of snapshots",
		"\xef\xbb\xbf{}":             "line 1, column 1: an object",
		`{"a"`:                       `line 1, column 5: ":" is expected, and there is the end of the file`,
		`{"a": 1}`:                   `line 1, column 7: an object with "locks" and "parent_locks"`,
		`{"a": ["x"]}`:               "line 1, column 7: an object",
		"{\n  \"é\": {\"other\": []": `line 2, column 9: "locks" or "parent_locks" is expected`,
		`{"a": {"locks": {}}}`:       "line 1, column 17: a list of destinations",
		`{"a": {"locks": [1]}}`:      `line 1, column 18: the id of a destination in quotes is expected, and there is '1'`,
		`{"a": {"locks": ["x",]}}`:   "line 1, column 22: the id of a destination",
		`{"a": {"locks": ["x" "y"]`:  `"," or "]"`,
		`{"a": {"locks": ["x"]},}`:   "line 1, column 24: the name of a snapshot",
		`{"a": {}} x`:                `line 1, column 11: nothing more`,
		`{"a`:                        "the end of the quoted text",
		"{\"a\n\": {}}":              `line 1, column 4: the end of the quoted text`,
		`{"\x": {}}`:                 "an escape that JSON has",
		`{"\u12": {}}`:               "an escape that JSON has",
		`{"\`:                        "an escape that JSON has",
		`{"\ud83d": {}}`:             "a whole character",
		`{"\ud83d\u0041": {}}`:       "a whole character",
		`{"\udf00": {}}`:             "a whole character",
		strings.Repeat("[", 100000):  "line 1, column 1: an object",
		strings.Repeat(`{"a":`, 99):  "line 1, column 7",
		strings.Repeat(" ", outstanding.MaxSize) + "{}": "longer than",
	} {
		transfers, err := outstanding.Parse([]byte(text))
		if err == nil || transfers != nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "invalid lock file format: ") {
			t.Errorf("%.50q: got %v, want %q", text, err, want)
		}
	}
}

// TestMany reads as many as can be, all in one list or each in its own.
func TestMany(t *testing.T) {
	var list, apart strings.Builder
	list.WriteString(`{"a": {"locks": ["x"`)
	apart.WriteString(`{"a": {}`)
	for i := range 100_000 {
		id, _ := json.Marshal(i)
		list.WriteString(`, "` + string(id) + `"`)
		apart.WriteString(`, "` + string(id) + `": {"locks": ["x"]}`)
	}
	if got := len(parse(t, list.String()+"]}}").All()); got != 100_001 {
		t.Error(got)
	}
	if got := len(parse(t, apart.String()+"}").Names()); got != 100_000 {
		t.Error(got)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	transfers := parse(t, left)
	c := transfers.Clone()
	c.Add("20261120-231457", outstanding.Parent, "x")
	c.Drop("20261120-231524", outstanding.Sent, "/mnt/d2/bk")
	c.Add("new", outstanding.Sent, "x")
	formats(t, transfers, left)
	formats(t, c.Clone(), string(c.Format()))
	new(outstanding.Transfers).Clone().Add("a", outstanding.Sent, "x")
}

// TestModel compares with lists of triples.
func TestModel(t *testing.T) {
	type lock struct {
		name string
		kind outstanding.Kind
		id   string
	}
	rapid.Check(t, func(t *rapid.T) {
		var transfers outstanding.Transfers
		locks := map[lock]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			l := lock{
				rapid.SampledFrom([]string{"20260101-000000", "p-20260101-000000", "20260102-000000", "20260103-000000", "20260104-000000", "q", ""}).Draw(t, "name"),
				rapid.SampledFrom([]outstanding.Kind{outstanding.Sent, outstanding.Parent}).Draw(t, "kind"),
				rapid.SampledFrom([]string{"/bk", "ssh://h/bk", "shell://cat > \"a\"", ""}).Draw(t, "id"),
			}
			if rapid.Bool().Draw(t, "add") {
				if transfers.Add(l.name, l.kind, l.id) == locks[l] {
					t.Fatalf("adding %v", l)
				}
				locks[l] = true
			} else {
				if transfers.Drop(l.name, l.kind, l.id) != locks[l] {
					t.Fatalf("dropping %v", l)
				}
				delete(locks, l)
			}
		}
		again, err := outstanding.Parse(transfers.Format())
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range []*outstanding.Transfers{&transfers, again} {
			n := 0
			for _, name := range tr.Names() {
				for _, k := range []outstanding.Kind{outstanding.Sent, outstanding.Parent} {
					for _, id := range tr.Destinations(name, k) {
						n++
						if !locks[lock{name, k, id}] {
							t.Fatalf("%s is locked for %q as %s", name, id, k)
						}
					}
				}
			}
			if n != len(locks) {
				t.Fatalf("%d locks, want %d", n, len(locks))
			}
			dated := slices.DeleteFunc(tr.Names(), func(n string) bool { return len(n) < 15 })
			if !slices.IsSortedFunc(dated, func(a, b string) int { return strings.Compare(a[len(a)-15:], b[len(b)-15:]) }) {
				t.Fatalf("%q are not in the order of their times", dated)
			}
		}
		if !bytes.Equal(transfers.Format(), again.Format()) {
			t.Fatal("what was read is written otherwise")
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "{}", left, `{"a": {"locks": ["x", "x"], "parent_locks": []}, "a": {"locks": ["y"]}}`,
		`{"\u00e9\ud83e\uddc8\udce9": {"locks": ["\/"]}}`, `{"a": {"locks": [1]}}`, `{"a": ["x"]}`, "{\"\xff\": {\"locks\": [\"\xed\xa0\x80\"]}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		transfers, err := outstanding.Parse(text)
		if err != nil {
			return
		}
		written := transfers.Format()
		if !json.Valid(written) || bytes.ContainsFunc(written, func(c rune) bool { return c > '~' }) {
			t.Fatalf("%q is not JSON in ASCII", written)
		}
		again, err := outstanding.Parse(written)
		if len(written) > outstanding.MaxSize {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Format(), written) {
			t.Fatalf("%q is written as %q", written, again.Format())
		}
		// What the standard library takes, and what it does not, is the same.
		var any map[string]map[string][]string
		if len(bytes.TrimSpace(text)) > 0 && json.Unmarshal(text, &any) != nil {
			t.Fatalf("%q is not JSON of this shape", text)
		}
	})
}
