package compose

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/buttersink/buttersink/internal/btrfs"
)

const (
	// surveyParts is how many parts the inode numbers are divided into for the
	// survey, since nobody knows where among them the inodes are.
	surveyParts = 64
	// surveyBuffer is for searching one of them.
	surveyBuffer = 128 << 10
)

// A survey finds in a part of the tree the directories, and counts extents.
type survey struct {
	dirs   dirs
	starts []uint64 // of extents that are not counted yet
	err    error
}

// survey goes through the tree for the first time: for the directories, and for
// extents that occur more than once. That is done in several parts at a time, for
// it waits for the disk most of the time.
func (c *composer) survey() error {
	bound, err := c.tree.bound()
	if err != nil {
		return err
	}
	c.shared.expect(bound)
	each := bound/surveyParts + 1
	var parts [surveyParts]survey
	var next atomic.Int64
	var counting sync.Mutex
	var searchers sync.WaitGroup
	for range c.o.Workers {
		searchers.Go(func() {
			search := c.tree.search(surveyBuffer)
			for at := next.Add(1) - 1; at < surveyParts; at = next.Add(1) - 1 {
				s := &parts[at]
				first := uint64(at) * each
				if s.err = s.run(c.ctx, search(first, first+each-1), &c.shared, &counting); s.err != nil {
					next.Store(surveyParts)
				}
			}
		})
	}
	searchers.Wait()
	for i := range parts {
		if err := parts[i].err; err != nil {
			return err
		}
		c.dirs.append(&parts[i].dirs)
		parts[i] = survey{}
	}
	return c.dirs.link()
}

func (s *survey) run(ctx context.Context, items iter.Seq2[btrfs.Item, error], counts *shared, counting *sync.Mutex) error {
	count := func() {
		counting.Lock()
		defer counting.Unlock()
		for _, start := range s.starts {
			counts.count(start)
		}
		s.starts = s.starts[:0]
	}
	var at btrfs.Inode
	ino, seen := uint64(0), 0
	for it, err := range items {
		if err != nil {
			return err
		}
		if seen++; seen%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case it.Kind == btrfs.InodeItem:
			ino = it.Inode
			if at, err = btrfs.ParseInode(it.Data); err == nil && ino == btrfs.RootInode && at.Mode&typeMask == typeDir {
				err = s.dirs.add(ino, ino, nil)
			}
		case it.Inode != ino || at.Links == 0:
		case it.Kind == btrfs.InodeRef && at.Mode&typeMask == typeDir && ino != btrfs.RootInode:
			var name []byte
			if name, _, err = btrfs.CutRef(it.Data); err == nil {
				if !usable(name) {
					err = fmt.Errorf("%q is no name", name)
				} else {
					err = s.dirs.add(ino, it.Offset, name)
				}
			}
		case it.Kind == btrfs.ExtentData && at.Mode&typeMask == typeFile:
			var x btrfs.Extent
			if x, err = btrfs.ParseExtent(it.Data); err == nil && x.Kind == btrfs.ExtentRegular && x.Start != 0 {
				if s.starts = append(s.starts, x.Start); len(s.starts) == 1024 {
					count()
				}
			}
		}
		if err != nil {
			return fmt.Errorf("inode %d: %w", it.Inode, err)
		}
	}
	count()
	s.starts = nil
	return nil
}
