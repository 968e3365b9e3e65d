package cli

import (
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestHumanSize(t *testing.T) {
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
		if got := humanSize(c.n); got != c.want {
			t.Errorf("humanSize(%v) = %q, want %q", c.n, got, c.want)
		}
	}
}

func TestSizeText(t *testing.T) {
	for _, c := range []struct {
		size snapshot.Size
		want string
	}{
		{snapshot.Size{}, "None"},
		{snapshot.ExactSize(0), "0 bytes"},
		{snapshot.ExactSize(1536), "1.5 KiB"},
		{snapshot.AboutSize(1536), "~1.5 KiB"},
	} {
		if got := sizeText(c.size); got != c.want {
			t.Errorf("sizeText(%+v) = %q, want %q", c.size, got, c.want)
		}
	}
}

func TestRateText(t *testing.T) {
	for _, c := range []struct {
		n    int64
		d    time.Duration
		want string
	}{
		{0, time.Second, ""},
		{1, 0, ""},
		{1 << 20, 2 * time.Second, "512 KiB/s"},
		{123456789, time.Second, "117.7 MiB/s"},
	} {
		if got := rateText(c.n, c.d); got != c.want {
			t.Errorf("rateText(%d, %v) = %q, want %q", c.n, c.d, got, c.want)
		}
	}
}

func TestDurationText(t *testing.T) {
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
		if got := durationText(c.d); got != c.want {
			t.Errorf("durationText(%v) = %q, want %q", c.d, got, c.want)
		}
	}
}
