package seal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkSeal is how fast streams are sealed, of which half can be compressed
// away.
func BenchmarkSeal(b *testing.B) {
	to, _ := keyPair(b)
	data := content(64<<20, 1)
	for _, o := range append(forms(to)[1:], Options{Compress: true, Level: 1, Recipients: to}) {
		for _, o.Workers = range []int{1, 2} {
			b.Run(fmt.Sprintf("form=%s/level=%d/workers=%d", o.Form().Suffix(), o.level(), o.Workers), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					w, err := NewWriter(context.Background(), io.Discard, o, nil)
					if err != nil {
						b.Fatal(err)
					}
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 128<<10)
						if _, err := w.Write(rest[:n]); err != nil {
							b.Fatal(err)
						}
						rest = rest[n:]
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkOpen is how fast they are opened again.
func BenchmarkOpen(b *testing.B) {
	to, keys := keyPair(b)
	data := content(64<<20, 1)
	for _, o := range forms(to)[1:] {
		stored := sealed(b, o, nil, data)
		b.Run("form="+o.Form().Suffix(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewReader(context.Background(), bytes.NewReader(stored), o.Form(), keys)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(data)) {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkTools is how fast zstd and age do the same on the same data, through
// a pipe.
func BenchmarkTools(b *testing.B) {
	need(b, "age")
	need(b, "zstd")
	to, _ := keyPair(b)
	data := content(64<<20, 1)
	file := filepath.Join(b.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		cmd := exec.Command("sh", "-c", `zstd -q -T0 -c <"$1" | age -r "$2" >/dev/null`, "sh", file, strings.TrimPrefix(to[0].String(), "age:"))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
