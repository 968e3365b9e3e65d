package local

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// TestRegrown: files that were cut short, and got their end back by a reflink or
// by going back in time, arrive whole, by every protocol.
func TestRegrown(t *testing.T) {
	for _, protocol := range []uint32{1, 2} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			a, b := btrfstest.New(t), btrfstest.New(t)
			a.Subvolume("live")
			live := func(name string) string { return a.Path("live/" + name) }
			noise := rand.NewChaCha8([32]byte{1})
			write := func(name string, n int) {
				t.Helper()
				data := make([]byte, n)
				noise.Read(data)
				if err := os.WriteFile(live(name), data, 0o4755); err != nil {
					t.Fatal(err)
				}
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.MkdirAll(live("z/old"), 0o755))
			files := map[string]int{"small": 3700, "tiny": 1000, "large": 103_700, "z/old/moved": 9000, "cap": 7000, "two names": 5000, "aligned": 8192}
			for name, n := range files {
				write(name, n)
			}
			must(os.Link(live("two names"), live("z/second")))
			capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			a.Sync()
			a.Snapshot("live", "whole", true)
			for name, n := range files {
				must(os.Truncate(live(name), int64(n)-700))
			}
			a.Snapshot("live", "short", true)
			for name := range files {
				must(exec.Command("cp", "--reflink=always", a.Path("whole/"+name), live(name)).Run())
			}
			must(unix.Setxattr(live("cap"), "security.capability", capability, 0))
			must(os.Rename(live("z/old"), live("z/new")))
			f, err := os.OpenFile(live("appended"), os.O_CREATE|os.O_WRONLY, 0o644)
			must(err)
			must(f.Close())
			a.Snapshot("live", "again", true)

			src, dst := mustOpen(t, a.Dir, Options{Protocol: protocol}), mustOpen(t, b.Dir)
			inv := mustList(t, src)
			whole, short, again := at(t, inv, "whole"), at(t, inv, "short"), at(t, inv, "again")
			for _, edge := range [][2]snapshot.Snapshot{{short, {}}, {again, short}, {whole, short}} {
				must(carry(t.Context(), src, dst, wantOf(inv, edge[0], edge[1])))
				if diff := btrfstest.Diff(t, a.Path(edge[0].Path), b.Path(edge[0].Path)); diff != "" {
					t.Errorf("%s:\n%s", edge[0].Path, diff)
				}
			}
			for _, e := range []snapshot.Edge{{To: again.ID, From: short.ID}, {To: whole.ID, From: short.ID}} {
				measured, err := src.Measure(t.Context(), store.Request{Edge: e})
				must(err)
				r, err := src.Open(t.Context(), store.Request{Edge: e})
				must(err)
				stats, _, err := stream.Verify(r)
				must(err)
				must(r.Close())
				if stats.Bytes != measured.Bytes {
					t.Errorf("%d bytes were measured, and %d came", measured.Bytes, stats.Bytes)
				}
			}
		})
	}
}
