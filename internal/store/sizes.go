package store

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// SizesSuffix ends the name of the file beside a snapshot in which the lengths
// of streams that make it are noted: "A.bs" for the snapshot "A". ButterSink
// made these files, and reads ours.
const SizesSuffix = ".bs"

const (
	maxSizesLine = 1 << 10
	maxSizesRows = 100_000
)

// ReadSizes reads a file of sizes: one line for each known edge, with the
// UUIDs of its ends and the length of its stream in decimal, separated by tabs.
//
//	6dc79d55-8f46-da4f-a5a3-f63b54ac3ad8	ea7c1d34-c782-584b-8144-845760163ea1	1501459
//
// Any white space separates, a later line overrides an earlier one, a line with
// a bad size is left out, and any other bad line ends the file: what came before
// it counts. Complaints are for people. It reads 100,000 lines at most.
func ReadSizes(r io.Reader) (sizes map[snapshot.Edge]int64, complaints []string) {
	sizes = map[snapshot.Edge]int64{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSizesLine)
	for n := 1; lines.Scan(); n++ {
		if n > maxSizesRows {
			return sizes, append(complaints, fmt.Sprintf("it has more than %d lines", maxSizesRows))
		}
		words := strings.Fields(lines.Text())
		if len(words) != 3 {
			return sizes, append(complaints, fmt.Sprintf("line %d has %d words, not 3", n, len(words)))
		}
		to, err := snapshot.ParseID(words[0])
		if err != nil {
			return sizes, append(complaints, fmt.Sprintf("line %d: %v", n, err))
		}
		from, err := snapshot.ParseID(words[1])
		if err != nil {
			return sizes, append(complaints, fmt.Sprintf("line %d: %v", n, err))
		}
		bytes, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil || bytes <= 0 || to.IsZero() || from.IsZero() {
			complaints = append(complaints, fmt.Sprintf("line %d: Bad size: %s", n, words[2]))
			continue
		}
		sizes[snapshot.Edge{To: to, From: from}] = bytes
	}
	if err := lines.Err(); err != nil {
		complaints = append(complaints, err.Error())
	}
	return sizes, complaints
}

// SizesText returns the content of a file of sizes, in an order that depends on
// nothing but the sizes. The format has no full streams, so these are left out.
func SizesText(sizes map[snapshot.Edge]int64) []byte {
	var lines []string
	for e, n := range sizes {
		if !e.IsFull() {
			lines = append(lines, fmt.Sprintf("%s\t%s\t%d\n", e.To, e.From, n))
		}
	}
	slices.Sort(lines)
	var text bytes.Buffer
	for _, line := range lines {
		text.WriteString(line)
	}
	return text.Bytes()
}
