package endurance

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// alike is what of a line is otherwise in every run or on every machine. What a page
// shows and what a run here prints are compared with this in its place: all else has
// to be the same, line by line.
var alike = []struct {
	here    *regexp.Regexp
	as, why string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID", "each snapshot has its own"},
	{regexp.MustCompile(`\b[0-9a-f]{4}\.\.\.[0-9a-f]{4}\b`), "UUID", "likewise, in short"},
	{regexp.MustCompile(`, [0-9.]+ (bytes|[KMGT]iB)/s`), "", "a rate depends on the machine, and what takes no time has none"},
	{regexp.MustCompile(`\b[0-9.]+ (bytes|[KMGT]iB)\b`), "SIZE", "what is here is shorter than what the page tells of"},
	{regexp.MustCompile(`(less than )?\b[0-9.]+ USD\b`), "COST", "so it costs less"},
	{regexp.MustCompile(`\b[0-9]+ requests\b`), "N requests", "and goes in fewer parts"},
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2})?\b`), "DATE", "the days pass"},
	{regexp.MustCompile(`\bin [0-9.]+ s\b`), "in SPAN", "how long it takes depends on the machine"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  ", "columns are as wide as what is in them"},
}

// plainly are the lines of a text with what is otherwise each time taken out.
func plainly(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		for _, a := range alike {
			line = a.here.ReplaceAllString(line, a.as)
		}
		all = append(all, line)
	}
	return all
}

// leftOut reports whether a line of a page stands for any number of lines.
func leftOut(line string) bool {
	text := strings.TrimSpace(line)
	return text == "…" || text == "..."
}

// unlike says what is otherwise in what a page shows and what is printed; "" if
// nothing is.
func unlike(shown, said string) string {
	want, got := plainly(shown), plainly(said)
	rest, from, free := got, 0, false
	for i := 0; i <= len(want); i++ {
		if i < len(want) && !leftOut(want[i]) {
			continue
		}
		piece := want[from:i]
		at := 0
		switch {
		case i == len(want) && free: // the end is the end
			at = max(len(rest)-len(piece), 0)
		case free:
			at = indexOf(rest, piece)
		}
		if at < 0 || at+len(piece) > len(rest) || !slices.Equal(rest[at:at+len(piece)], piece) {
			return cmp.Diff(want, got)
		}
		rest, from, free = rest[at+len(piece):], i+1, true
		if i == len(want) && len(rest) > 0 {
			return cmp.Diff(want, got)
		}
	}
	return ""
}

// indexOf is where some lines are among others, one behind the other; -1 if they are
// not.
func indexOf(lines, piece []string) int {
	for i := 0; i+len(piece) <= len(lines); i++ {
		if slices.Equal(lines[i:i+len(piece)], piece) {
			return i
		}
	}
	return -1
}

// TestDocsShown: a page whose output is out of date is found, and what is otherwise
// in each run is not taken for that.
func TestDocsShown(t *testing.T) {
	t.Parallel()
	const said = "  Xfer: 711b...3f82 /snaps/monday from None (292.7 KiB)\n  monday: 292.7 KiB in 0 s\n  NAME   SIZE       AT\n  day 1  292.7 KiB  2026-11-22 07:00\nERROR: no.\n"
	for _, c := range []struct {
		name, shown string
		same        bool
	}{
		{"the same", said, true},
		{"of another day", "  Xfer: 0a1b...ffff /snaps/monday from None (1.25 GiB)\n  monday: 1.25 GiB in 1.8 s, 80.02 MiB/s\n  NAME   SIZE      AT\n  day 1  1.25 GiB  2027-01-02 03:04\nERROR: no.\n", true},
		{"with lines left out", "  …\n  day 1  1 KiB  2027-01-02 03:04\n  …\n", true},
		{"nothing left out", "…\n" + said + "...\n", true},
		{"all left out", "…\n", true},
		{"the beginning and the end", "  Xfer: 0a1b...ffff /snaps/monday from None (3 bytes)\n  …\nERROR: no.\n", true},
		{"another word", "  …\nERROR: yes.\n", false},
		{"another number", "…\n  day 2  1 KiB  2027-01-02 03:04\n…\n", false},
		{"a line too few", "  Xfer: 0a1b...ffff /snaps/monday from None (3 bytes)\nERROR: no.\n", false},
		{"more at the end", "  …\n  day 1  1 KiB  2027-01-02 03:04\n", false},
		{"more at the beginning", "  monday: 1 KiB in 0 s\n  …\n", false},
		{"in another order", "…\n  day 1  1 KiB  2027-01-02 03:04\n…\n  monday: 1 KiB in 0 s\n…\n", false},
		{"the same line twice", "…\nERROR: no.\n…\nERROR: no.\n", false},
		{"nothing", "", false},
		{"indented otherwise", " " + said, false},
	} {
		if diff := unlike(c.shown, said); (diff == "") != c.same {
			t.Errorf("%s: it is told %q", c.name, diff)
		}
	}
}
