package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// A set is what the source's file system holds: snapshots in the directory
// snaps, made of the subvolumes beside it.
type set struct {
	name    string
	options string // of mount
	make    func(s *scene) error
}

var (
	// Many small files: 20,000 of up to 32 KiB, 330 MB.
	smallSet = &set{name: "small", make: func(s *scene) error {
		t, err := s.subvolume("live", 1)
		if err != nil {
			return err
		}
		if err := t.small(20_000, 32<<10, false); err != nil {
			return err
		}
		return s.snapshot("live", day(0))
	}}
	// Large files: 480 MB.
	largeSet = &set{name: "large", make: func(s *scene) error {
		t, err := s.subvolume("live", 2)
		if err != nil {
			return err
		}
		for i := range 4 {
			if err := t.large(fmt.Sprintf("large%d", i), 120, false); err != nil {
				return err
			}
		}
		return s.snapshot("live", day(0))
	}}
	// Small files and two large ones, which change twelve times by some 50 MB.
	increments = 12
	chainSet   = &set{name: "chain", make: func(s *scene) error {
		t, err := s.subvolume("live", 3)
		if err != nil {
			return err
		}
		if err := t.both(20_000, 64, "a", "b"); err != nil {
			return err
		}
		for i := range increments + 1 {
			if i > 0 {
				if err := t.change(100, "a", "b"); err != nil {
					return err
				}
			}
			if err := s.snapshot("live", day(i)); err != nil {
				return err
			}
		}
		return nil
	}}
	// Ten subvolumes that have changed once each, by some 10 MB.
	subvolumes = 10
	tenSet     = &set{name: "ten", make: func(s *scene) error {
		for i := range subvolumes {
			live := fmt.Sprintf("v%d", i)
			t, err := s.subvolume(live, uint64(10+i))
			if err != nil {
				return err
			}
			err = inTurn(
				func() error { return t.both(2_000, 16, "a") },
				func() error { return s.snapshot(live, live+".0") },
				func() error { return t.change(20, "a") },
				func() error { return s.snapshot(live, live+".1") },
			)
			if err != nil {
				return err
			}
		}
		return nil
	}}
	// 2,000 small files of which a few change each of fifty days, by some 50 KB.
	days    = 50
	tinySet = &set{name: "tiny", make: func(s *scene) error {
		t, err := s.subvolume("live", 6)
		if err != nil {
			return err
		}
		if err := t.small(2_000, 16<<10, false); err != nil {
			return err
		}
		for i := range days + 1 {
			if i > 0 {
				if err := t.small(5, 16<<10, false); err != nil {
					return err
				}
			}
			if err := s.snapshot("live", day(i)); err != nil {
				return err
			}
		}
		return nil
	}}
	// 60 MB of text in small files, and as much in large ones: it compresses to
	// about a third.
	textSet = &set{name: "text", make: func(s *scene) error {
		t, err := s.subvolume("live", 7)
		if err != nil {
			return err
		}
		t.allText = true
		if err := t.small(3_600, 32<<10, false); err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			if err := t.large(name, 30, false); err != nil {
				return err
			}
		}
		return s.snapshot("live", day(0))
	}}
	// 100,000 files of up to 64 KiB and 1.5 GB of large ones: 3 GB.
	mixedSet = &set{name: "mixed", make: makeMixed}
	zstdSet  = &set{name: "mixed, zstd", options: "compress=zstd", make: makeMixed}
)

// day names the snapshot of a day, as btrbk would.
func day(n int) string {
	return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC).Format("live.20060102")
}

func makeMixed(s *scene) error {
	t, err := s.subvolume("live", 4)
	if err != nil {
		return err
	}
	if err := t.small(100_000, 64<<10, true); err != nil {
		return err
	}
	for i := range 6 {
		if err := t.large(fmt.Sprintf("large%d", i), 256, i == 5); err != nil {
			return err
		}
	}
	return s.snapshot("live", day(0))
}

// listed is a set of so many empty snapshots, which are all alike for a listing.
func listed(count int) *set {
	return &set{name: fmt.Sprintf("%d snapshots", count), make: func(s *scene) error {
		if _, err := s.subvolume("live", 5); err != nil {
			return err
		}
		for i := range count {
			if err := s.snapshot("live", fmt.Sprintf("home.%05d", i)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// A scene is the mounted file system of a set that is being made.
type scene struct {
	dir   string
	snaps *os.File
}

func newScene(dir string) (*scene, error) {
	if err := os.Mkdir(filepath.Join(dir, snapsDir), 0o755); err != nil {
		return nil, err
	}
	snaps, err := os.Open(filepath.Join(dir, snapsDir))
	return &scene{dir: dir, snaps: snaps}, err
}

// subvolume makes an empty one, and a tree of it that depends on the seed.
func (s *scene) subvolume(name string, seed uint64) (*tree, error) {
	top, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := btrfs.CreateSubvolume(top, name); err != nil {
		return nil, err
	}
	return &tree{maker: newMaker(seed), dir: filepath.Join(s.dir, name)}, nil
}

// snapshot snapshots a subvolume. What was written to it is on the disk before,
// as what is snapshotted has usually been for a while: not of the transaction of
// the snapshot.
func (s *scene) snapshot(live, name string) error {
	if err := btrfs.Sync(s.snaps); err != nil {
		return err
	}
	src, err := os.Open(filepath.Join(s.dir, live))
	if err != nil {
		return err
	}
	defer src.Close()
	return btrfs.CreateSnapshot(s.snaps, name, src, true)
}
