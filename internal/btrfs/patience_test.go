package btrfs

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// repeatedly runs do again and again until the function it returns is called.
func repeatedly(do func()) (stop func()) {
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				do()
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// renaming gives a subvolume the one name and the other in turn.
func renaming(one, other string) (stop func()) {
	return repeatedly(func() {
		_ = os.Rename(one, other)
		_ = os.Rename(other, one)
	})
}

// What is being renamed exists, whatever is asked of it.
func TestWhileRenamed(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("x")
	must(t, os.Mkdir(bench.Path("x/d"), 0o755))
	sub, dir := opened(t, bench.Path("x")), opened(t, bench.Path("x/d"))
	id := info(t, bench.Path("x")).ID
	f := filesystem(t, bench.Dir)
	defer renaming(bench.Path("x"), bench.Path("y"))()
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"Info", func() error {
			s, err := Info(sub)
			if err == nil && (s.ID != id || s.Name != "x" && s.Name != "y") {
				t.Errorf("info: %+v", s)
			}
			return err
		}},
		{"Locate", func() error {
			got, path, err := Locate(dir)
			if err == nil && (got != id || path != "x/d" && path != "y/d") {
				t.Errorf("located %d at %q", got, path)
			}
			return err
		}},
		{"OpenSubvolume", func() error {
			s, err := f.OpenSubvolume(id)
			if err == nil {
				s.Close()
			}
			return err
		}},
	} {
		times, failed := 0, 0
		var last error
		for end := time.Now().Add(time.Second); time.Now().Before(end); times++ {
			if err := c.do(); err != nil {
				failed, last = failed+1, err
			}
		}
		if failed > 0 {
			t.Errorf("%s failed %d of %d times, at last with %v", c.name, failed, times, last)
		}
	}
}

func TestPatiently(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	bench.Subvolume("gone")
	top := opened(t, bench.Dir)
	live, gone := info(t, bench.Path("live")).ID, info(t, bench.Path("gone")).ID
	hold := opened(t, bench.Path("gone"))
	must(t, DeleteSubvolume(top, "gone")) // which the tree of roots does not say yet
	for _, c := range []struct {
		name  string
		id    uint64
		tries []error // the last of them again and again
		want  error
		tried int
	}{
		{"at once", live, []error{nil}, nil, 1},
		{"the third time", live, []error{unix.ENOENT, unix.ENOENT, nil}, nil, 3},
		{"another error", live, []error{unix.ENOENT, unix.EIO}, unix.EIO, 2},
		{"never", live, []error{unix.ENOENT}, errUnplaced, 11},
		{"deleted", gone, []error{unix.ENOENT}, fs.ErrNotExist, 1},
		{"no subvolume", 99999, []error{unix.ENOENT}, fs.ErrNotExist, 1},
	} {
		tried := 0
		err := patiently(top, c.id, func() error {
			tried++
			return c.tries[min(tried, len(c.tries))-1]
		})
		if !errors.Is(err, c.want) || tried != c.tried {
			t.Errorf("%s: %v after %d tries, want %v after %d", c.name, err, tried, c.want, c.tried)
		}
	}
	if _, err := Info(hold); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking about a deleted one gives %v", err)
	}
}

// What is not deleted and has no place fails the listing, by its number.
func TestUnplaced(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("a") // 256
	bench.Subvolume("b") // 257
	top := opened(t, bench.Dir)
	begin := func() (listing, int, int) {
		l := listing{dir: top, index: make(map[uint64]int), dirs: make(map[dirKey]string)}
		must(t, l.read())
		return l, l.index[256], l.index[257]
	}
	for name, damage := range map[string]func(l *listing, a, b int){
		"in an unknown one": func(l *listing, _, _ int) { delete(l.index, TopLevel) },
		"in itself":         func(l *listing, a, _ int) { l.all[a].ParentID = 256 },
		"in one another":    func(l *listing, a, b int) { l.all[a].ParentID, l.all[b].ParentID = 257, 256 },
	} {
		l, a, b := begin()
		damage(&l, a, b)
		_, err := l.path(a)
		if !errors.Is(err, errUnplaced) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "subvolume 256") {
			t.Errorf("%s: %v; %+v", name, err, l.all[a])
		}
	}
}
