package btrsend

import (
	"fmt"
	"strings"

	"github.com/buttersink/buttersink/internal/schedule"
)

const (
	described       = "btrsend backup for "
	describedWhole  = " (complete)"
	describedParent = " (parent = "
)

// Describe is the description of an archive: "btrsend backup for 2014-01-01
// (complete)", or "btrsend backup for 2014-01-07 (parent = 2014-01-01)".
func Describe(date, parent string) string {
	if parent == "" {
		return described + date + describedWhole
	}
	return fmt.Sprintf("%s%s%s%s)", described, date, describedParent, parent)
}

// ParseDescription reads what Describe has written; not ok for anything else.
func ParseDescription(text string) (date, parent string, ok bool) {
	rest, ok := strings.CutPrefix(text, described)
	if !ok || len(rest) < len("2006-01-02") {
		return "", "", false
	}
	date, rest = rest[:10], rest[10:]
	if rest != describedWhole {
		parent = strings.TrimSuffix(strings.TrimPrefix(rest, describedParent), ")")
		if _, err := schedule.ReadDate(parent); err != nil {
			return "", "", false
		}
	}
	if _, err := schedule.ReadDate(date); err != nil || Describe(date, parent) != text {
		return "", "", false
	}
	return date, parent, true
}
