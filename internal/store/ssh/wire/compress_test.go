package wire

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestRule looks at which level is taken for how fast a way, with how much the
// data shrink, on a machine of today.
func TestRule(t *testing.T) {
	const mega = 1e6
	for _, c := range []struct {
		name       string
		way, ratio float64
		want       zstd.EncoderLevel // 0: none
	}{
		{"a slow way", 1 * mega, 0.5, zstd.SpeedBetterCompression},
		{"100 Mbit/s", 12 * mega, 0.5, zstd.SpeedBetterCompression},
		{"100 Mbit/s, data that shrink well", 12 * mega, 0.2, zstd.SpeedDefault},
		{"1 Gbit/s", 117 * mega, 0.5, zstd.SpeedFastest},
		{"loopback", 450 * mega, 0.3, 0},
		{"a pipe", 3000 * mega, 0.1, 0},
		{"1 Gbit/s, data that hardly shrink", 117 * mega, 0.9, 0},
		{"data that do not shrink", 1 * mega, 1, 0},
	} {
		p := newPress()
		p.way, p.begun = meter{c.way, 1}, absorbed
		for i, speed := range []float64{300 * mega, 150 * mega, 60 * mega} {
			p.levels[i].speed = meter{speed, 1}
		}
		got := zstd.EncoderLevel(0)
		if l := p.choose(c.ratio); l != nil {
			got = l.zstd
		}
		if got != c.want {
			t.Errorf("%s: level %v, want %v", c.name, got, c.want)
		}
	}
	// Buffers on the way take in the first megabytes as fast as they come.
	p := newPress()
	p.sent(absorbed-1, time.Microsecond)
	if p.choose(0.5) == nil {
		t.Error("a way is taken for fast before it has been filled")
	}
	if p.sent(1, time.Microsecond); p.choose(0.5) != nil {
		t.Error("a way is not known to be fast when it has taken much")
	}
}

// TestCompressed sends data over ways of different speed, and looks at how much
// crosses them, and that it arrives as it was.
func TestCompressed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise, text := make([]byte, 1<<20), make([]byte, 0, 1<<20)
	for len(text) < cap(text) {
		text = fmt.Appendf(text, "file %d of %d\n", r.IntN(1000), r.IntN(1000))
	}
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range []struct {
		name        string
		data        []byte
		delay       time.Duration // of 32 KiB
		piece       int
		compress    bool
		least, most float64 // what crosses, of the data
	}{
		{"slow, shrinks", text, 10 * time.Millisecond, 1 << 20, true, 0, 0.45},
		{"slow, shrinks, small writes", text, 10 * time.Millisecond, 3000, true, 0, 0.5},
		{"slow, does not shrink", noise, 10 * time.Millisecond, 1 << 20, true, 1, 1.001},
		{"slow, first shrinks, then not, then again", bytes.Join([][]byte{text, noise, noise, text, text}, nil), 10 * time.Millisecond, 1 << 20, true, 0.4, 0.6},
		{"slow, not allowed", text, 10 * time.Millisecond, 1 << 20, false, 1, 1.001},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up, down := newWay(64<<10), newWay(64<<10)
				up.delay = c.delay
				n := newNetwork(t, up, down, Options{Compress: c.compress}, Options{})
				n.serve(t, func(k *Call, _ []byte) {
					got, err := io.ReadAll(k)
					if err != nil || !bytes.Equal(got, c.data) {
						t.Errorf("%d bytes arrived of %d, or differ: %v", len(got), len(c.data), err)
					}
					_ = k.End(nil)
				})
				k, err := n.cl.Call(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for rest := c.data; len(rest) > 0; {
					m, err := k.Write(rest[:min(len(rest), c.piece)])
					if err != nil {
						t.Fatal(err)
					}
					rest = rest[m:]
				}
				if err := k.End(nil); err != nil {
					t.Fatal(err)
				}
				if _, err := k.Receive(t.Context()); err != io.EOF {
					t.Error(err)
				}
				cl, sv := n.cl.Stats(), n.sv.Stats()
				if cl.PlainOut != int64(len(c.data)) || sv.PlainIn != cl.PlainOut || sv.WireIn != cl.WireOut {
					t.Errorf("%+v at the client, %+v at the server, of %d bytes", cl, sv, len(c.data))
				}
				if part := float64(cl.WireOut) / float64(len(c.data)); part < c.least || part > c.most {
					t.Errorf("%.3f of it crossed, want %g to %g", part, c.least, c.most)
				}
				n.end()
				time.Sleep(time.Minute)
			})
		})
	}
}
