package systemd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// moment is how systemd writes times where LC_ALL=C and TZ=UTC hold.
const moment = "Mon 2006-01-02 15:04:05 MST"

// nextForm finds the answer in what systemd-analyze says about a calendar.
var nextForm = regexp.MustCompile(`(?m)^\s*(?:Next elapse|\(in UTC\)): (.+)$`)

// SpecError says that a calendar or a span of time is none.
type SpecError struct{ message string }

func (e *SpecError) Error() string { return e.message }

func specErrorf(format string, args ...any) error { return &SpecError{fmt.Sprintf(format, args...)} }

// Next asks systemd when a calendar, as systemd.time(7) has it, comes next. It
// fails with *SpecError if systemd does not understand it, or if that is never.
func Next(ctx context.Context, spec string) (time.Time, error) {
	none := specErrorf("%q is no calendar: want times as in daily, 02:30 or Mon..Fri 12:00 (man systemd.time)", spec)
	// What has a % in it systemd would put something else in the place of.
	if strings.ContainsFunc(spec, unicode.IsControl) || strings.ContainsRune(spec, '%') || strings.TrimSpace(spec) == "" {
		return time.Time{}, none
	}
	said, err := answer(ctx, []string{"systemd-analyze", "calendar", "--", spec})
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return time.Time{}, none
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("asking about the calendar %q: %w", spec, err)
	}
	all := nextForm.FindAllStringSubmatch(said, -1)
	if len(all) == 0 {
		return time.Time{}, fmt.Errorf("asking about the calendar %q: cannot read the answer %q", spec, strings.TrimSpace(said))
	}
	next := strings.TrimSpace(all[len(all)-1][1])
	if next == "never" {
		return time.Time{}, specErrorf("the calendar %q never comes again", spec)
	}
	t, err := time.Parse(moment, next)
	if err != nil {
		return time.Time{}, fmt.Errorf("asking about the calendar %q: %w", spec, err)
	}
	return t, nil
}

// checkSpan fails with *SpecError if something is no span of time.
func checkSpan(ctx context.Context, span string) error {
	if span == "" {
		return nil
	}
	none := specErrorf("%q is no span of time: want one as in 30m or 2h", span)
	if strings.ContainsFunc(span, unicode.IsControl) || strings.ContainsRune(span, '%') || strings.TrimSpace(span) == "infinity" {
		return none
	}
	_, err := answer(ctx, []string{"systemd-analyze", "timespan", "--", span})
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return none
	}
	if err != nil {
		return fmt.Errorf("asking about the span %q: %w", span, err)
	}
	return nil
}

// timerDropIn writes when a job runs. The first line of times takes those of the
// template away.
func (t *Timer) timerDropIn() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which replaces it.\n[Timer]\nOnCalendar=\n", mark)
	for _, spec := range t.Calendar {
		fmt.Fprintf(&b, "OnCalendar=%s\n", spec)
	}
	if t.RandomDelay != "" {
		fmt.Fprintf(&b, "RandomizedDelaySec=%s\n", t.RandomDelay)
	}
	return b.String()
}

// serviceDropIn writes what of a run differs from the template; it is empty if
// nothing does.
func (t *Timer) serviceDropIn() (string, error) {
	var lines []string
	if t.Program != "" && t.Program != Program {
		if strings.ContainsAny(t.Program, `"'\`) { // which systemd does not run
			return "", fmt.Errorf("systemd runs no program at %s, with quotes or backslashes in the path", t.Program)
		}
		program, err := quoted(t.Program)
		if err != nil {
			return "", err
		}
		lines = append(lines, "ExecStart=", "ExecStart="+program+" run %i")
	}
	if t.Config != "" {
		config, err := quoted("BUTTERSINK_CONFIG=" + t.Config)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(t.Config) {
			return "", fmt.Errorf("%s is no full path", t.Config)
		}
		lines = append(lines, "Environment="+config)
	}
	if len(lines) == 0 {
		return "", nil
	}
	return mark + ", which replaces it.\n[Service]\n" + strings.Join(lines, "\n") + "\n", nil
}

// quoted writes a word as systemd.syntax(7) and systemd.service(5) want it.
func quoted(word string) (string, error) {
	if strings.ContainsFunc(word, unicode.IsControl) || strings.ContainsRune(word, unicode.ReplacementChar) {
		return "", errors.New("a path with control characters cannot stand in a unit")
	}
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(word)
	if escaped != word || strings.ContainsAny(word, " '$;") {
		return `"` + escaped + `"`, nil
	}
	return word, nil
}
