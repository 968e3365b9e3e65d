package meter

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestBytes(t *testing.T) {
	// Observed on ButterSink.
	for _, c := range []struct {
		n    float64
		want string
	}{
		{0, "0 bytes"},
		{1, "1 bytes"},
		{1.5, "1.5 bytes"},
		{1000, "1000 bytes"},
		{1023, "1023 bytes"},
		{1024, "1 KiB"},
		{1536, "1.5 KiB"},
		{16384, "16 KiB"},
		{1000000, "976.6 KiB"},
		{1048575, "1024 KiB"},
		{1 << 20, "1 MiB"},
		{123456789, "117.7 MiB"},
		{1 << 50, "1024 TiB"},
		{1 << 60, "1.049e+06 TiB"},
	} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("Bytes(%v) = %q, want %q", c.n, got, c.want)
		}
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		size snapshot.Size
		want string
	}{
		{snapshot.Size{}, "None"},
		{snapshot.ExactSize(0), "0 bytes"},
		{snapshot.ExactSize(1536), "1.5 KiB"},
		{snapshot.AboutSize(1536), "~1.5 KiB"},
	} {
		if got := Size(c.size); got != c.want {
			t.Errorf("Size(%+v) = %q, want %q", c.size, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		n    int64
		d    time.Duration
		want string
	}{
		{0, time.Second, ""},
		{1 << 20, 0, ""},
		{1<<20 - 1, time.Second, ""},
		{1 << 20, 2 * time.Second, "512 KiB/s"},
		{123456789, time.Second, "117.7 MiB/s"},
	} {
		if got := Rate(c.n, c.d); got != c.want {
			t.Errorf("Rate(%d, %v) = %q, want %q", c.n, c.d, got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0:00:00"},
		{90 * time.Second, "0:01:30"},
		{1499 * time.Millisecond, "0:00:01"},
		{59*time.Minute + 59*time.Second + 600*time.Millisecond, "1:00:00"},
		{100 * time.Hour, "100:00:00"},
		{-3 * time.Second, "-0:00:03"},
	} {
		if got := Duration(c.d); got != c.want {
			t.Errorf("Duration(%v) = %q, want %q", c.d, got, c.want)
		}
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.01 s", 254 * time.Millisecond: "0.25 s", 3 * time.Second: "3 s", 9960 * time.Millisecond: "10 s",
		10 * time.Second: "0:00:10", 90 * time.Second: "0:01:30",
	} {
		if got := Took(d); got != want {
			t.Errorf("Took(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 59999 * time.Millisecond: "59 s", time.Minute: "1 min", 119 * time.Minute: "119 min", 150 * time.Minute: "2 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0":           0,
		"4096":        4096,
		"4096B":       4096,
		"1 bytes":     1,
		"10GiB":       10 << 30,
		"500M":        500 << 20,
		"1.5T":        3 << 39,
		"1.5 TiB":     3 << 39,
		"1k":          1024,
		"1KB":         1000,
		"1.5mb":       1500000,
		"2P":          2 << 50,
		"1EiB":        1 << 60,
		"0.0001K":     0,
		"976.6 KiB":   1000038,
		"00010":       10,
		"7.999999EiB": 9223370883933271201,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "GiB", "-1", "+1", "1e9", "0x10", "1_000", "1/2", ".5", "1.", "1,5G", "1  G", " 1G", "1G ", "1GiBs", "1iB", "1Gi", "1KiBB",
		"inf", "NaN", "8EiB", "9223372036854775808", "99999999999999999999999999999E", "\u0661G", "1G\n", "1\u212a", "1m\u0131b",
	} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("ParseBytes(%q): %v", text, err)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, text := range []string{"10GiB", "500M", "1.5 TiB", "4096", "1e9", "8EiB", "0.0001K"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseBytes(text)
		if err != nil {
			if n != 0 {
				t.Errorf("ParseBytes(%q) = %d besides %v", text, n, err)
			}
			return
		}
		if n < 0 || strings.Trim(strings.ToUpper(text), "0123456789.KMGTPEIBYS ") != "" {
			t.Errorf("ParseBytes(%q) = %d", text, n)
		}
		if again, err := ParseBytes(fmt.Sprint(n)); err != nil || again != n {
			t.Errorf("%d bytes are read as %d, %v", n, again, err)
		}
		// What the program prints can be typed.
		shown := Bytes(n)
		if back, err := ParseBytes(shown); err != nil && !strings.Contains(shown, "e+") || err == nil && math.Abs(float64(back-n)) > float64(n)/1000 {
			t.Errorf("%d bytes are shown as %q and read as %d, %v", n, shown, back, err)
		}
	})
}
