package glaciertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// zeros gives so many of them.
func zeros(n int) *bytes.Reader { return bytes.NewReader(make([]byte, n)) }

func TestTreeHashOfZeros(t *testing.T) {
	for _, tt := range []struct {
		length int
		want   string
	}{
		{megabyte, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"},
		{megabyte + 1, "28638dab8d5e1754a4ecb38b0ebe6df66c844f94aed142d4d0283d208bb786cd"},
		{3 * megabyte, "ca6cc129a4514ec765de86a4e7a49adf44842c9cac213c383ebe4071271bdf21"},
		{4 * megabyte, "27b557ba335a688f779a95e258a886ffa3b39b13533d6f9dcaa0497a2ed1fe18"},
		{5*megabyte + 7, "13d746fc53c7aea07e60f03dc3fe70aa35a8a3f08765e81ae7c77e0c81a51909"},
	} {
		got, err := TreeHash(zeros(tt.length))
		if err != nil || got != tt.want {
			t.Errorf("of %d zeros it is %s, %v, not %s", tt.length, got, err, tt.want)
		}
	}
}

// TestTreeHashAgainstBotocore holds it against Amazon's own computation.
func TestTreeHashAgainstBotocore(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import botocore.utils").Run(); err != nil {
		if os.Getenv("BUTTERSINK_TEST_REAL") == "1" {
			t.Fatalf("python3-botocore is not there: %v: run packaging/deps.sh", err)
		}
		t.Skip("needs python3-botocore")
	}
	// One program for all, since starting it takes longest: it reads the length of
	// each piece in a line, and its bytes.
	const program = `
import io, sys, botocore.utils
i = sys.stdin.buffer
for line in iter(i.readline, b''):
    print(botocore.utils.calculate_tree_hash(io.BytesIO(i.read(int(line)))))
`
	random := rand.NewChaCha8([32]byte{7})
	var (
		in   bytes.Buffer
		want []string
	)
	for _, length := range []int{
		1, 5, megabyte - 1, megabyte, megabyte + 1, 2*megabyte - 1, 2 * megabyte, 2*megabyte + 1, 3*megabyte + 5,
		5 * megabyte, 6*megabyte + 1, 7 * megabyte, 7*megabyte + 12345, 9 * megabyte, 11*megabyte + 1,
	} {
		data := make([]byte, length)
		_, _ = random.Read(data) // never fails
		sum, err := TreeHash(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, sum)
		fmt.Fprintf(&in, "%d\n", length)
		in.Write(data)
	}
	cmd := exec.Command(python, "-c", program)
	cmd.Stdin = &in
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.Fields(string(out))
	if len(got) != len(want) {
		t.Fatalf("%d hashes came, not %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("piece %d: botocore computes %s, and we %s", i, got[i], want[i])
		}
	}
}

// TestTreeAlignment holds what counts as aligned against the tree itself: a range
// is if its hash is that of a node.
func TestTreeAlignment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 40).Draw(t, "blocks")
		size := int64(blocks) * megabyte
		odd := rapid.Bool().Draw(t, "odd")
		if odd {
			size -= 100
		}
		nodes := map[[2]int]bool{}
		for width := 1; ; width *= 2 {
			for at := 0; at < blocks; at += width {
				nodes[[2]int{at, min(at+width, blocks)}] = true
			}
			if width >= blocks {
				break
			}
		}
		for from := range blocks {
			for to := from + 1; to <= blocks; to++ {
				if got := treeAligned(int64(from)*megabyte, min(int64(to)*megabyte, size), size); got != nodes[[2]int{from, to}] {
					t.Fatalf("of %d bytes, blocks %d to %d aligned: %t", size, from, to, got)
				}
			}
		}
		if odd && treeAligned(0, size-1, size) || treeAligned(1, size, size) || treeAligned(0, 0, size) || treeAligned(0, size+1, size) {
			t.Fatal("a range that is none is aligned")
		}
	})
}

// TestTreeOfParts holds that the tree hash of the whole is that over those of parts
// of a power of two.
func TestTreeOfParts(t *testing.T) {
	data := make([]byte, 11*megabyte+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	want, err := TreeHash(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{megabyte, 2 * megabyte, 4 * megabyte, 8 * megabyte, 16 * megabyte} {
		var parts [][]byte
		for at := 0; at < len(data); at += size {
			tree := newTree()
			_, _ = tree.Write(data[at:min(at+size, len(data))]) // never fails
			parts = append(parts, tree.root())
		}
		if got := hex.EncodeToString(join(parts)); got != want {
			t.Errorf("of parts of %d bytes: %s, not %s", size, got, want)
		}
	}
	empty := sha256.Sum256(nil)
	if got, err := TreeHash(zeros(0)); err != nil || got != hex.EncodeToString(empty[:]) {
		t.Errorf("of nothing: %s, %v", got, err)
	}
}
