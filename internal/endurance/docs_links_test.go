package endurance

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// linkTarget is where a link leads.
var linkTarget = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// TestDocsLinks: what the pages refer to within the house is there, down to the
// heading.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	links := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join("../..", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range linkTarget.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			target, anchor, _ := strings.Cut(m[1], "#")
			file := filepath.Join("../..", page)
			if target != "" {
				file = filepath.Join(filepath.Dir(file), target)
			}
			there, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && (there.IsDir() || !slices.Contains(anchors(t, file), anchor)) {
				t.Errorf("%s: %s: there is no such heading", page, m[1])
			}
		}
	}
	if links == 0 {
		t.Error("there are no links")
	}
}

// anchors returns what the headings of a page are called in links: small letters and
// digits, with dashes for spaces (https://docs.github.com, "Section links").
func anchors(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		m := headingLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}
