package cli

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

// humanSize writes a number of bytes with four significant digits: "1.5 KiB".
// The form is ButterSink's; people's scripts read it.
func humanSize[N int64 | float64](bytes N) string {
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	return strconv.FormatFloat(n, 'g', 4, 64) + " " + units[unit]
}

// sizeForm is what parseSize takes: digits, perhaps a fraction, perhaps a unit.
var sizeForm = regexp.MustCompile(`^([0-9]{1,30}(?:\.[0-9]{1,30})?) ?(?:([Bb]|[Bb][Yy][Tt][Ee][Ss])|([KMGTPEkmgtpe])([Ii]?[Bb])?)?$`)

// parseSize reads a number of bytes as people write it: "500M", "1.5 TiB",
// "4096". K, M, G, T, P and E, alone or as KiB and so on, are powers of 1024; KB,
// MB and so on are powers of 1000. What is less than a byte is left out.
func parseSize(text string) (int64, error) {
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

// sizeFlag is a flag whose value is a size.
type sizeFlag struct {
	bytes int64
	given string // as it was typed; empty if it was not
}

func (f *sizeFlag) String() string { return f.given }
func (f *sizeFlag) Type() string   { return "SIZE" }

// Set takes what was typed.
func (f *sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	if err != nil {
		return err
	}
	f.bytes, f.given = n, text
	return nil
}

// sizeText writes a size as it is known: "None" if it is not, with a tilde if
// it is an estimate.
func sizeText(s snapshot.Size) string {
	switch {
	case !s.Known:
		return "None"
	case !s.Exact:
		return "~" + humanSize(s.Bytes)
	}
	return humanSize(s.Bytes)
}

// rateText writes the pace of n bytes in d: "117.7 MiB/s"; "" where there is
// none: what is shorter than a MiB takes the time of the commit, however long it
// is.
func rateText(n int64, d time.Duration) string {
	if n < 1<<20 || d < time.Millisecond {
		return ""
	}
	return humanSize(float64(n)/d.Seconds()) + "/s"
}

// durationText writes a duration as hours, minutes and seconds: "0:01:30".
func durationText(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	sign := ""
	if s < 0 {
		sign, s = "-", -s
	}
	return fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
}

// tookText writes how long something took: "0:01:30", or "0.25 s" where seconds
// alone would say little.
func tookText(d time.Duration) string {
	if d < 10*time.Second {
		return strconv.FormatFloat(max(d.Seconds(), 0.01), 'g', 2, 64) + " s"
	}
	return durationText(d)
}

// spanText writes a duration as people say it, in one unit: "40 s", "5 min",
// "3 h".
func spanText(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(d/time.Minute))
	}
	return fmt.Sprintf("%d h", int64(d/time.Hour))
}
