package meter

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// units are ButterSink's: powers of 1024, and nothing beyond TiB.
var units = []string{"bytes", "KiB", "MiB", "GiB", "TiB"}

// Bytes writes a number of bytes with four significant digits: "1.5 KiB".
// The form is ButterSink's; people's scripts read it.
func Bytes[N int64 | float64](bytes N) string {
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	return strconv.FormatFloat(n, 'g', 4, 64) + " " + units[unit]
}

// sizeForm is what ParseBytes takes: digits, perhaps a fraction, perhaps a unit.
var sizeForm = regexp.MustCompile(`^([0-9]{1,30}(?:\.[0-9]{1,30})?) ?(?:([Bb]|[Bb][Yy][Tt][Ee][Ss])|([KMGTPEkmgtpe])([Ii]?[Bb])?)?$`)

// ParseBytes reads a number of bytes as people write it: "500M", "1.5 TiB",
// "4096". K, M, G, T, P and E, alone or as KiB and so on, are powers of 1024; KB,
// MB and so on are powers of 1000. What is less than a byte is left out.
func ParseBytes(text string) (int64, error) {
	parts := sizeForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("%q is no size: want a number and a unit, as in 10GiB, 500M or 1.5T", text)
	}
	n, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, fmt.Errorf("%q is no size", text)
	}
	if parts[3] != "" {
		base := int64(1024)
		if strings.EqualFold(parts[4], "B") {
			base = 1000
		}
		power := int64(strings.Index("KMGTPE", strings.ToUpper(parts[3])) + 1)
		unit := new(big.Int).Exp(big.NewInt(base), big.NewInt(power), nil)
		n.Mul(n, new(big.Rat).SetInt(unit))
	}
	whole := new(big.Int).Quo(n.Num(), n.Denom())
	if !whole.IsInt64() {
		return 0, fmt.Errorf("%q is more than can be", text)
	}
	return whole.Int64(), nil
}

// Size writes a size as it is known: "None" if it is not, with a tilde if
// it is an estimate.
func Size(s snapshot.Size) string {
	switch {
	case !s.Known:
		return "None"
	case !s.Exact:
		return "~" + Bytes(s.Bytes)
	}
	return Bytes(s.Bytes)
}

// Rate writes the pace of n bytes in d: "117.7 MiB/s"; "" where there is
// none: what is shorter than a MiB takes the time of the commit, however long it
// is.
func Rate(n int64, d time.Duration) string {
	if n < 1<<20 || d < time.Millisecond {
		return ""
	}
	return Bytes(float64(n)/d.Seconds()) + "/s"
}

// Duration writes a duration as hours, minutes and seconds: "0:01:30".
func Duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	sign := ""
	if s < 0 {
		sign, s = "-", -s
	}
	return fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
}

// Took writes how long something took: "0:01:30", or "0.25 s" where seconds
// alone would say little.
func Took(d time.Duration) string {
	if d < 10*time.Second {
		return strconv.FormatFloat(max(d.Seconds(), 0.01), 'g', 2, 64) + " s"
	}
	return Duration(d)
}

// Span writes a duration as people say it, in one unit: "40 s", "5 min",
// "3 h".
func Span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(d/time.Minute))
	}
	return fmt.Sprintf("%d h", int64(d/time.Hour))
}

// Skipped says how much of an object was there from an interrupted upload, behind what
// else is said of it; "" if nothing was.
func Skipped(n int64) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("; %s of it were there already", Bytes(n))
}

// Amount writes how much of a whole is done, and, if rest is set, when the rest
// will be: "1.2 GiB of ~2.6 GiB (45%), 117.7 MiB/s, 0:00:12 left". A whole that
// turned out too small is not mentioned any more.
func Amount(done int64, whole snapshot.Size, rate float64, rest bool) string {
	text := Bytes(done)
	inTime := whole.Known && whole.Bytes > 0 && done <= whole.Bytes
	if inTime {
		text += fmt.Sprintf(" of %s (%d%%)", Size(whole), int64(100*float64(done)/float64(whole.Bytes)))
	}
	if rate > 0 {
		text += ", " + Bytes(rate) + "/s"
		if left := float64(whole.Bytes-done) / rate; inTime && rest && left >= 1 {
			text += ", " + Duration(time.Duration(left*float64(time.Second))) + " left"
		}
	}
	return text
}
