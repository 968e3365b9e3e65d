package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// changelog writes the changes of a directory in the form of deb-changelog(5): one entry
// for the version, with the first line of each file.
func changelog(dir, version, maintainer string, when time.Time) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("reading %s: %w", dir, errNoChanges)
	}
	slices.Sort(names)
	var b bytes.Buffer
	fmt.Fprintf(&b, "buttersink (%s) unstable; urgency=medium\n\n", version)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		fmt.Fprintf(&b, "%s\n", folded("  * ", first, 78))
	}
	fmt.Fprintf(&b, "\n -- %s  %s\n", maintainer, when.Format(time.RFC1123Z))
	return b.Bytes(), nil
}

// folded breaks a text into lines of a width, the later ones indented like the
// first.
func folded(bullet, text string, width int) string {
	lines := []string{bullet}
	for i, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case i == 0:
			*last += word
		case len(*last)+1+len(word) > width:
			lines = append(lines, strings.Repeat(" ", len(bullet))+word)
		default:
			*last += " " + word
		}
	}
	return strings.Join(lines, "\n")
}
