package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/stream"
)

func someRecord(t testing.TB) *record {
	t.Helper()
	in := stream.NewReader(bytes.NewReader(manyFiles(t)))
	for range 5 {
		if _, err := in.Next(); err != nil {
			t.Fatal(err)
		}
	}
	return &record{name: "home.1", rootTime: &[2]unix.Timespec{{Sec: -5, Nsec: 6}, {Sec: 7, Nsec: 8}}, state: in.State(), mark: in.Mark()}
}

func TestRecord(t *testing.T) {
	c := someRecord(t)
	b := c.encode()
	got, err := decodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.name != c.name || *got.rootTime != *c.rootTime || got.mark != c.mark || got.identity.UUID != forgedUUID {
		t.Errorf("%+v", got)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if _, err := decodeRecord(bad); !errors.Is(err, errRecord) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := decodeRecord(b[:i]); !errors.Is(err, errRecord) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	whole := someRecord(f).encode()
	f.Add(whole[:len(whole)-4])
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, recordTable))
		c, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeRecord(c.encode())
		if err != nil || again.name != c.name || again.mark != c.mark || again.identity != c.identity || checkName(c.name) != nil {
			t.Fatalf("%+v, then %+v: %v", c, again, err)
		}
	})
}
