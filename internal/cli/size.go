package cli

import (
	"fmt"
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
	return fmt.Sprintf("%.4g %s", n, units[unit])
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
// none yet.
func rateText(n int64, d time.Duration) string {
	if n <= 0 || d < time.Millisecond {
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
