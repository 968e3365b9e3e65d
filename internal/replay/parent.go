package replay

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// maxSources bounds the subvolumes held open to clone from.
const maxSources = 16

// CheckParent reports whether a stream that starts from the given parent, by
// UUID and transaction number as in its first command, would find it intact. It
// answers with a [*ParentError] if not. Receive looks again.
func CheckParent(fs *btrfs.Filesystem, parent btrfs.UUID, transid uint64) error {
	s, err := find(fs, parent, transid)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

// source is a subvolume that the stream builds upon, found intact.
type source struct {
	candidate
	tree    *tree
	transid uint64 // as the stream says
	used    uint64
}

func (s *source) close() { s.tree.close() }

// source finds the subvolume that a stream calls u. The verdict is kept.
func (r *Receiver) source(u btrfs.UUID, transid uint64) (*source, error) {
	r.sourceTick++
	if s := r.sources[u]; s != nil {
		s.used = r.sourceTick
		return s, nil
	}
	s, err := find(r.o.Filesystem, u, transid)
	if err != nil {
		return nil, err
	}
	if len(r.sources) >= maxSources {
		if err := r.evictSource(); err != nil {
			s.close()
			return nil, err
		}
	}
	s.used = r.sourceTick
	r.sources[u] = s
	return s, nil
}

func (r *Receiver) evictSource() error {
	var oldest btrfs.UUID
	for u, s := range r.sources {
		if o := r.sources[oldest]; o == nil || s.used < o.used {
			oldest = u
		}
	}
	s := r.sources[oldest]
	err := s.check(oldest)
	s.close()
	if r.from.uuid == oldest && !r.from.own {
		r.from.close()
	}
	delete(r.sources, oldest)
	return err
}

// check proves that the source is still what it was when it was found. A change
// meanwhile may have got into what was made of it.
func (s *source) check(u btrfs.UUID) error {
	now := candidate{file: s.file, own: s.own}
	err := now.judge(s.transid)
	if err != nil {
		return fmt.Errorf("looking at parent %s again: %w", u, err)
	}
	if !now.intact {
		return now.refusal(u)
	}
	return nil
}

// checkSources checks all sources that are held.
func (r *Receiver) checkSources() error {
	for u, s := range r.sources {
		if err := s.check(u); err != nil {
			return err
		}
	}
	return nil
}

// candidate is a subvolume with the right UUID.
type candidate struct {
	file   *os.File
	info   btrfs.Subvolume
	own    bool // found by its own UUID, so it is the original
	reason ParentReason
	intact bool
}

// find looks a subvolume up by its received UUID, then by its own. Of several
// the newest of the intact ones is taken, and received ones before the
// original.
func find(fs *btrfs.Filesystem, u btrfs.UUID, transid uint64) (*source, error) {
	var all []candidate
	defer func() {
		for _, c := range all {
			if c.file != nil {
				c.file.Close()
			}
		}
	}()
	for _, own := range []bool{false, true} {
		lookup := fs.ByReceivedUUID
		if own {
			lookup = fs.ByUUID
		}
		ids, err := lookup(u)
		if err != nil {
			return nil, fmt.Errorf("looking for parent %s: %w", u, err)
		}
		for _, id := range ids {
			c, err := look(fs, id, own, transid)
			if err != nil {
				return nil, fmt.Errorf("looking at parent %s: %w", u, err)
			}
			if c != nil {
				all = append(all, *c)
			}
		}
	}
	if len(all) == 0 {
		return nil, &ParentError{UUID: u, Reason: ParentMissing}
	}
	best := slices.MaxFunc(all, better)
	if !best.intact {
		return nil, best.refusal(u)
	}
	for i := range all {
		if all[i].file == best.file {
			all[i].file = nil
		}
	}
	t, err := newTree(best.file, maxSourceDirs)
	if err != nil {
		best.file.Close()
		return nil, err
	}
	return &source{candidate: best, tree: t, transid: transid}, nil
}

// refusal says why a candidate cannot be used.
func (c *candidate) refusal(u btrfs.UUID) error {
	// The path is for people; without it the error is still true.
	_, path, _ := btrfs.Locate(c.file)
	return &ParentError{UUID: u, Path: path, Reason: c.reason}
}

// better orders candidates; the greatest is the one to take.
func better(a, b candidate) int {
	rank := func(c candidate) int {
		n := 0
		if c.intact {
			n += 2
		}
		if !c.own {
			n++
		}
		return n
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	switch {
	case a.info.Otransid < b.info.Otransid:
		return -1
	case a.info.Otransid > b.info.Otransid:
		return 1
	}
	return 0
}

// look opens a subvolume and judges it; nil if it is gone.
func look(fs *btrfs.Filesystem, id uint64, own bool, transid uint64) (*candidate, error) {
	f, err := fs.OpenSubvolume(id)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESTALE) {
			return nil, nil
		}
		return nil, err
	}
	c := &candidate{file: f, own: own}
	if err := c.judge(transid); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// judge decides whether a candidate is what its UUID promises.
//
// A received one must not have changed since it was received. The original may
// be at the very transaction that the stream was made against; or it has never
// changed since it was created, so that all streams from it are of what it is
// now (a snapshot that is made read-only has no later change than its
// creation). The latter also judges originals in streams whose numbers were
// counted by another file system.
func (c *candidate) judge(transid uint64) error {
	var err error
	if c.info, err = btrfs.Info(c.file); err != nil {
		return err
	}
	if !c.info.ReadOnly {
		c.reason = ParentWritable
		return nil
	}
	c.reason = ParentChanged
	if c.own {
		c.intact = c.info.Ctransid == transid || c.info.Ctransid <= c.info.Otransid
	}
	if !c.intact && !c.info.ReceivedUUID.IsZero() {
		if c.intact, err = btrfs.Untouched(c.file); err != nil {
			return err
		}
	}
	return nil
}
