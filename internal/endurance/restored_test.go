package endurance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// TestRestoredFile cuts a file short and restores it by a reflink from an older
// snapshot, as people do. Both versions have the same extent then, and Linux 6.18
// takes it for unchanged: its increment says only how long the file is, and what
// was cut off comes out as zeros.
func TestRestoredFile(t *testing.T) {
	s := plain(t, 0, 0)
	live := s.src.Path("live-a")
	content := make([]byte, 3862)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	file := live + "/letter"
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	s.src.Sync()
	s.snapshot(live, "a0")
	if err := os.Truncate(file, 2678); err != nil {
		t.Fatal(err)
	}
	s.snapshot(live, "a1")
	s.finish()
	if err := tool("cp", "--reflink=always", s.src.Path("snaps/a0/letter"), file); err != nil {
		t.Fatal(err)
	}
	s.snapshot(live, "a2")
	s.finish()
}

// TestOldFromNew sends snapshots to a destination that has later ones only.
// Whatever they are made from, they are what they were.
func TestOldFromNew(t *testing.T) {
	s := plain(t, 6, 200_000)
	for _, name := range []string{"a5", "a3", "a4"} { // one alone, then between two
		r := start(t, s.state, "--json", s.src.Path("snaps/"+name), s.to())
		if code := r.wait(); code != done {
			t.Fatalf("%s: it ends with %d:\n%s", name, code, r.story())
		}
		s.whole()
	}
	live := s.src.Path("live-a")
	for i := range 3 { // files of which less and less is left
		for j := range 20 {
			file := fmt.Sprintf("%s/short%d", live, j)
			if i == 0 {
				if err := os.WriteFile(file, bytes.Repeat([]byte("content "), 125*(j+1)), 0o644); err != nil {
					t.Fatal(err)
				}
				s.src.Sync()
			}
			if err := os.Truncate(file, int64(1000*(j+1)-300*i)); err != nil {
				t.Fatal(err)
			}
		}
		s.snapshot(live, fmt.Sprintf("b%d", i))
	}
	r := start(t, s.state, "--json", s.src.Path("snaps/b2"), s.to())
	if code := r.wait(); code != done {
		t.Fatalf("b2: it ends with %d:\n%s", code, r.story())
	}
	s.finish()
}
