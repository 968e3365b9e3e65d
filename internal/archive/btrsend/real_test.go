package btrsend_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// steps are what happens in a subvolume between its backups: reflinks within it and
// to what was there before, so that the streams have clones of both kinds.
var steps = []string{
	"seq 1 20000 >a; head -c 300000 /dev/urandom >b; cp --reflink=always b c; mkdir d",
	"cp --reflink=always b d/e; seq 1 100 >>a; mv c d/c; cp --reflink=always a f; cp --reflink=always f g",
	"rm b; cp --reflink=always d/e h; setfattr -n user.x -v y a; ln a d/link; truncate -s 1000 g",
}

// A chain that gzip and gpg themselves have made in part, and this program in part,
// is received by btrfs receive out of the store, and out of the archives by gpg and
// gunzip, and is what it was.
func TestRealChain(t *testing.T) {
	btrfstest.Require(t)
	keyring(t)
	src := btrfstest.New(t)
	live := src.Subvolume("live")
	b := begin(t, &rows{})
	dates := []string{"2014-01-01", "2014-01-07", "2014-01-14"}
	digests := map[string]string{}
	clones := int64(0)
	for i, date := range dates {
		sh := exec.CommandContext(t.Context(), "sh", "-euc", steps[i])
		sh.Dir = live
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		src.Snapshot("live", date, true)
		digests[date] = btrfstest.Digest(t, src.Path(date), btrfstest.WithoutRootTime())
		parent, args := "", []string(nil)
		if i > 0 {
			parent = dates[i-1]
			args = []string{"-p", src.Path(parent)}
		}
		raw := src.Send(date, args...)
		stats, _, err := stream.Verify(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		clones += stats.Clones
		if i < 2 {
			archive := old(t, raw)
			id := b.server.Put(t, vault, btrsend.Describe(date, parent), archive)
			if err := b.rows.Add(t.Context(), btrsend.Row{Archive: id, Date: date, Parent: parent, Size: int64(len(archive))}); err != nil {
				t.Fatal(err)
			}
		} else if err := b.put(date, parent, raw); err != nil {
			t.Fatal(err)
		} else if !strings.Contains(b.said.String(), "taken on trust") {
			t.Error("nobody is told that the parent is not known")
		}
	}
	if clones == 0 {
		t.Error("there is no clone in any of the streams")
	}
	b.thaw()
	dst, byHand := btrfstest.New(t), btrfstest.New(t)
	all := edges(b.list())
	for i, date := range dates {
		got, err := b.read(all[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.Receive("", bytes.NewReader(got)); err != nil {
			t.Fatalf("receiving %s: %v", date, err)
		}
		if got := btrfstest.Digest(t, dst.Path(date), btrfstest.WithoutRootTime()); got != digests[date] {
			t.Errorf("%s is not what it was", date)
		}
		if uuid := dst.Show(date)["Received UUID"]; uuid != all[i].To.String() {
			t.Errorf("%s is received as %s, and is listed as %s", date, uuid, all[i].To)
		}
		if err := byHand.Receive("", bytes.NewReader(undone(t, b.server.Content(t, vault, b.rows.all[i].Archive)))); err != nil {
			t.Fatalf("receiving %s by hand: %v", date, err)
		}
		if got := btrfstest.Digest(t, byHand.Path(date), btrfstest.WithoutRootTime()); got != digests[date] {
			t.Errorf("%s by hand is not what it was", date)
		}
	}
}
