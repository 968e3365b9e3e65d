package btrfstest

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// An Extent is a part of a file that is stored in one piece, all in bytes. Two
// extents share their storage if their Physical ranges overlap.
type Extent struct {
	Logical  int64 // where it begins in the file
	Physical int64 // where it begins on the file system, 0 if Inline
	Length   int64

	Shared    bool // others refer to it too: reflinks, snapshots
	Encoded   bool // compressed
	Unwritten bool // preallocated
	Inline    bool // inside the metadata
}

var extentLine = regexp.MustCompile(`^ *\d+: *(\d+)\.\. *\d+: *(\d+)\.\. *\d+: *(\d+): *(?:\d+: *)?(\S*)$`)

// Extents returns how a file is stored, as filefrag (e2fsprogs) tells it. It
// writes the file out first.
func Extents(t testing.TB, path string) []Extent {
	t.Helper()
	Program(t, "filefrag")
	var out bytes.Buffer
	if err := pipe(t, filepath.Dir(path), nil, &out, "filefrag", "-s", "-v", "-b1", "./"+filepath.Base(path)); err != nil {
		t.Fatal(err)
	}
	var extents []Extent
	for line := range strings.Lines(out.String()) {
		m := extentLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		var n [3]int64
		for i := range n {
			n[i], _ = strconv.ParseInt(m[i+1], 10, 64)
		}
		has := func(flag string) bool { return strings.Contains(fmt.Sprintf(",%s,", m[4]), ","+flag+",") }
		extents = append(extents, Extent{
			Logical: n[0], Physical: n[1], Length: n[2],
			Shared: has("shared"), Encoded: has("encoded"), Unwritten: has("unwritten"), Inline: has("inline"),
		})
	}
	return extents
}
