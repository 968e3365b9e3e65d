package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxNumber is the most that a rule may count. Who wants more wants all.
const maxNumber = 1_000_000

// maxRules is how long the text of rules may be, in bytes.
const maxRules = 1000

// String returns the rules as ParseRules reads them, in a fixed order. It is empty
// if there are none. An age is rounded up to seconds. A Zone that
// time.LoadLocation does not know by its name cannot be read back.
func (r Rules) String() string {
	var words []string
	for _, f := range fields {
		switch n := *f.number(&r); {
		case n < 0:
			words = append(words, f.name+":all")
		case n > 0:
			words = append(words, f.name+":"+strconv.Itoa(n))
		}
	}
	if r.MinAge > 0 {
		words = append(words, "min-age:"+formatAge(r.MinAge))
	}
	if r.Zone != nil {
		words = append(words, "zone:"+r.Zone.String())
	}
	return strings.Join(words, ",")
}

// ParseRules reads rules: "last:3,daily:7,monthly:all,min-age:2d,zone:Europe/Berlin".
// They are separated by commas or blanks, and each may be given once. Empty text
// is no rules. An age is made of weeks, days, hours, minutes and seconds: "1d12h".
func ParseRules(text string) (Rules, error) {
	var r Rules
	if len(text) > maxRules {
		return r, fmt.Errorf("reading retention rules: they are longer than %d bytes", maxRules)
	}
	seen := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n", c) }) {
		name, value, ok := strings.Cut(word, ":")
		if !ok || value == "" {
			return Rules{}, fmt.Errorf("reading retention rules: %q has no value; write rules like daily:7 or yearly:all", word)
		}
		if seen[name] {
			return Rules{}, fmt.Errorf("reading retention rules: %q is given twice", name)
		}
		seen[name] = true
		if err := r.set(name, value); err != nil {
			return Rules{}, fmt.Errorf("reading retention rules: %w", err)
		}
	}
	return r, nil
}

func (r *Rules) set(name, value string) error {
	switch name {
	case "min-age":
		age, err := parseAge(value)
		if err != nil {
			return err
		}
		r.MinAge = age
		return nil
	case "zone":
		zone, err := time.LoadLocation(value)
		if err != nil {
			return fmt.Errorf("%q is no time zone that is known here; write zone:Europe/Berlin, zone:UTC or zone:Local", value)
		}
		r.Zone = zone
		return nil
	}
	for _, f := range fields {
		if f.name != name {
			continue
		}
		n, err := parseNumber(value)
		if err != nil {
			return fmt.Errorf("%s:%s: %w", name, value, err)
		}
		*f.number(r) = n
		return nil
	}
	return fmt.Errorf("there is no rule %q; there are last, hourly, daily, weekly, monthly, yearly, min-age and zone", name)
}

func parseNumber(value string) (int, error) {
	if value == "all" {
		return All, nil
	}
	n := 0
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf(`%q is neither a number nor "all"`, value)
		}
		if n = n*10 + int(c-'0'); n > maxNumber {
			return 0, fmt.Errorf(`more than %d; write "all"`, maxNumber)
		}
	}
	return n, nil
}

// units are what an age is made of, the longest first.
var units = []struct {
	letter byte
	length time.Duration
}{
	{'w', 7 * 24 * time.Hour},
	{'d', 24 * time.Hour},
	{'h', time.Hour},
	{'m', time.Minute},
	{'s', time.Second},
}

func parseAge(value string) (time.Duration, error) {
	bad := fmt.Errorf("min-age:%s: %q is no length of time; write 2d, 36h or 1d12h (w, d, h, m and s, the longest first)", value, value)
	var age time.Duration
	next := 0 // the longest unit that may come
	for rest := value; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 || digits == len(rest) {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, bad
		}
		for next < len(units) && units[next].letter != rest[digits] {
			next++
		}
		if next == len(units) {
			return 0, bad
		}
		unit := units[next].length
		if n > int64((math.MaxInt64-age)/unit) {
			return 0, fmt.Errorf("min-age:%s: that is longer than 292 years", value)
		}
		age += time.Duration(n) * unit
		next++
		rest = rest[digits+1:]
	}
	return age, nil
}

// formatAge writes an age as parseAge reads it. Weeks are told in days.
func formatAge(age time.Duration) string {
	if rest := age % time.Second; rest > 0 && age <= math.MaxInt64-time.Second {
		age += time.Second - rest
	}
	var text strings.Builder
	for _, u := range units[1:] {
		if n := age / u.length; n > 0 {
			fmt.Fprintf(&text, "%d%c", n, u.letter)
			age -= n * u.length
		}
	}
	return text.String()
}
