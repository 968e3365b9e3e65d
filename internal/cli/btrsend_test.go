package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/schedule"
)

// TestBtrsendSize has what btrsend wrote.
func TestBtrsendSize(t *testing.T) {
	for n, want := range map[float64]string{
		0: "     0  B", 1023: "  1023  B", 1024: "     1 KB", 1048575: "  1024 KB", 1234567: "  1.18 MB",
		16 << 20: "    16 MB", 15.06 * (1 << 20): " 15.06 MB", 123456789012: "114.98 GB", 1 << 60: "  1024 PB",
	} {
		if got := btrsendSize(n); got != want {
			t.Errorf("%.0f: %q, want %q", n, got, want)
		}
	}
}

func TestProtocolLine(t *testing.T) {
	for want, d := range map[string]schedule.Decision{
		"c":            {Create: true},
		"i 2014-01-01": {Create: true, Parent: schedule.Date{Year: 2014, Month: 1, Day: 1}},
	} {
		if got := protocolLine(d); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestBtrsendPartSize: a backup that does not fit into 10,000 parts of the usual
// length needs longer ones, in a vault and elsewhere.
func TestBtrsendPartSize(t *testing.T) {
	for _, o := range []btrsendOptions{
		{vault: "Backup", region: "us-east-1", database: ".btrsend.db", level: 4, recipients: []string{"me@example.org"}},
		{archive: "dir:///srv/archive/"},
	} {
		for mib, want := range map[int]int64{0: 0, 256: 256 << 20} {
			o.partSize = mib
			_, with, err := o.place(&Env{}, "buttersink btrsend")
			if err != nil || with.archive.PartSize != want {
				t.Errorf("%+v: parts of %d bytes, %v", o, with.archive.PartSize, err)
			}
		}
	}
}

// TestBtrsendAtStore: what a store of the configuration says of what is stored there
// holds for btrsend, unless a flag says otherwise; and what cannot hold is said.
func TestBtrsendAtStore(t *testing.T) {
	env := configured(t, "[stores.cold]\nurl = \"s3://bucket/mail/\"\npart-size = 64\ncompress = \"zstd:3\"\nmax-chain = 5\nmax-full = \"1GiB\"\n[stores.plain]\nurl = \"s3://bucket/plain/\"\n")
	for _, c := range []struct {
		o          btrsendOptions
		parts      int64
		compressed bool
		said       int
	}{
		{btrsendOptions{archive: "store://cold"}, 64 << 20, true, 2},
		{btrsendOptions{archive: "store://cold", partSize: 8}, 8 << 20, true, 2},
		{btrsendOptions{archive: "store://plain"}, 100 << 20, false, 0},
		{btrsendOptions{archive: "s3://bucket/mail/"}, 0, false, 0}, // which is the usual size
	} {
		var said bytes.Buffer
		env.Log = slog.New(slog.NewTextHandler(&said, nil))
		_, with, err := c.o.place(env, "buttersink btrsend")
		if err != nil {
			t.Fatal(err)
		}
		a := with.archive
		if n := strings.Count(said.String(), "has no effect here"); a.PartSize != c.parts || a.Seal.Compress != c.compressed || n != c.said {
			t.Errorf("%s: parts of %d, compressed: %t; and it says\n%s", c.o.archive, a.PartSize, a.Seal.Compress, &said)
		}
	}
}
