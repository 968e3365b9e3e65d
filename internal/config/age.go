package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// letters are units of time.
var letters = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var (
	ageForm  = regexp.MustCompile(`^([0-9]{1,6})([hdw])$`)
	spanForm = regexp.MustCompile(`^([0-9]{1,6})([smhdw])$`)
)

// ParseAge reads how old something may be: a number of hours, days or weeks, as in
// 12h, 30d or 8w. There are no minutes: "3m" is three months to somebody who says
// how long something is kept.
func ParseAge(text string) (time.Duration, error) {
	return parse(text, ageForm, "%q is no age: want a number of hours, days or weeks, as in 12h, 30d or 8w")
}

// ParseSpan reads how long something takes, or after which time it is done again:
// an age, or a number of seconds or minutes, as in 30s or 15m.
func ParseSpan(text string) (time.Duration, error) {
	return parse(text, spanForm, "%q is no length of time: want a number of seconds, minutes, hours, days or weeks, as in 30s, 15m, 12h, 1d or 8w")
}

func parse(text string, form *regexp.Regexp, otherwise string) (time.Duration, error) {
	parts := form.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf(otherwise, text)
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return 0, err
	}
	unit := letters[parts[2]]
	if n > int64(100*365*24*time.Hour/unit) {
		return 0, fmt.Errorf("%q is more than a hundred years", text)
	}
	return time.Duration(n) * unit, nil
}

// FormatSpan writes a time of whole seconds as ParseSpan reads it, in the largest
// unit in which it is a whole number.
func FormatSpan(d time.Duration) string {
	for _, letter := range []string{"w", "d", "h", "m"} {
		if unit := letters[letter]; d >= unit && d%unit == 0 {
			return fmt.Sprintf("%d%s", d/unit, letter)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
