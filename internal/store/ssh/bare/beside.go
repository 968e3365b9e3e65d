package bare

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// Origin returns the UUID of the subvolume that Options.Of names.
func (s *Store) Origin(ctx context.Context) (snapshot.ID, error) {
	if s.opt.Of == "" {
		return snapshot.ID{}, fmt.Errorf("%s: %w", s.name, store.ErrNoOrigin)
	}
	if err := ctx.Err(); err != nil {
		return snapshot.ID{}, err
	}
	v, err := s.look(ctx, false)
	if err != nil {
		return snapshot.ID{}, fmt.Errorf("looking at %s: %w", s.name, err)
	}
	return s.origin(ctx, v)
}

// origin finds the subvolume to make snapshots of in a view. Its number says which
// one it is, and its UUID that it is of the same file system.
func (s *Store) origin(ctx context.Context, v *view) (snapshot.ID, error) {
	of := s.origins()
	doing := func(err error) (snapshot.ID, error) {
		return snapshot.ID{}, fmt.Errorf("looking at the subvolume %s: %w", s.opt.Of, err)
	}
	c := s.script()
	c.must("inode", c.words("ls", "-di", strings.TrimSuffix(of, "/")+"/."))
	c.must("rootid", c.words("btrfs", "inspect-internal", "rootid", of))
	c.must("show", c.words("btrfs", "subvolume", "show", of))
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return doing(err)
	}
	inode, _, _ := strings.Cut(strings.TrimSpace(sections["inode"].out), " ")
	for _, step := range []struct{ name, command string }{
		{"inode", "ls"}, {"rootid", "btrfs inspect-internal rootid"}, {"show", "btrfs subvolume show"},
	} {
		got, ran := sections[step.name]
		switch {
		case !ran:
			return doing(errCut)
		case got.status != 0 && step.name == "show" && inode != subvolumeInode:
			return doing(errors.New("it is not a subvolume, and only of those there are snapshots"))
		case got.status != 0:
			return doing(&commandError{step.command, got, said})
		}
	}
	if inode != subvolumeInode {
		return doing(errors.New("it is not a subvolume, and only of those there are snapshots"))
	}
	number, err := strconv.ParseUint(strings.TrimSpace(sections["rootid"].out), 10, 64)
	if err != nil {
		return doing(fmt.Errorf("btrfs inspect-internal rootid prints %q", clip(sections["rootid"].out)))
	}
	if number == topLevel { // listings leave it out
		return shownUUID(sections["show"].out)
	}
	for i := range v.all {
		sub := &v.all[i]
		switch {
		case sub.id != number:
			continue
		case !isShown(sections["show"].out, sub.uuid):
			return doing(fmt.Errorf("it is on another file system than %s", s.root()))
		case !sub.received.IsZero():
			return doing(errors.New("it has been received, and all its snapshots would pass for the one that it came from: go on working in a snapshot of it (btrfs subvolume snapshot), and name that"))
		}
		return sub.uuid, nil
	}
	return doing(fmt.Errorf("it is on another file system than %s, or has just been made", s.root()))
}

// origins is the path of the subvolume to make snapshots of, without slashes at its
// end.
func (s *Store) origins() string { return "/" + strings.Trim(s.opt.Of, "/") }

// subvolumeInode is the inode number of the root of each subvolume
// (BTRFS_FIRST_FREE_OBJECTID in linux/btrfs_tree.h), as ls prints it.
const subvolumeInode = "256"

// isShown reports whether btrfs subvolume show has told that UUID.
func isShown(shown string, uuid snapshot.ID) bool {
	for line := range strings.Lines(shown) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "UUID:"); ok && strings.TrimSpace(value) == uuid.String() {
			return true
		}
	}
	return false
}

// shownUUID is what btrfs subvolume show tells of the top level, whose name is no
// one's choice.
func shownUUID(shown string) (snapshot.ID, error) {
	for line := range strings.Lines(shown) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "UUID:"); ok {
			id, err := snapshot.ParseID(strings.TrimSpace(value))
			if err != nil {
				break // "-", on file systems of before Linux 4.16
			}
			return id, nil
		}
	}
	return snapshot.ID{}, errors.New("the top level of the file system there has no UUID, and cannot be told from others: name a subvolume")
}

// Snapshot makes a snapshot of the subvolume that Options.Of names, and writes it
// out. Where the connection is lost meanwhile, it may have been made.
func (s *Store) Snapshot(ctx context.Context, p string) (snapshot.Snapshot, error) {
	none := snapshot.Snapshot{}
	if s.opt.Of == "" {
		return none, fmt.Errorf("%s: %w", s.name, store.ErrNoOrigin)
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := s.writable("making", p); err != nil {
		return none, err
	}
	if !usable(p) {
		return none, fmt.Errorf("making %q in %s: not a usable path for a snapshot", p, s.name)
	}
	doing := func(err error) (snapshot.Snapshot, error) {
		return none, fmt.Errorf("making a snapshot of %s at %s: %w", s.opt.Of, s.at(p), err)
	}
	v, err := s.look(ctx, false, ancestors([]string{p})...)
	if err != nil {
		return doing(err)
	}
	if what := s.inTheWay(v, p); what != "" {
		return none, &store.ExistsError{Path: s.at(p), What: what}
	}
	of, err := s.origin(ctx, v)
	if err != nil {
		return none, err
	}
	if err := s.ready(ctx, v, path.Dir(p)); err != nil {
		return doing(err)
	}
	c := s.script()
	c.must("snapshot", c.words("btrfs", "subvolume", "snapshot", "-r", s.origins(), s.at(p)))
	c.must("sync", c.words("btrfs", "filesystem", "sync", s.at(path.Dir(p))))
	c.must("show", c.words("btrfs", "subvolume", "show", s.at(p)))
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return doing(err)
	}
	for _, step := range []struct{ name, command string }{
		{"snapshot", "btrfs subvolume snapshot"}, {"sync", "btrfs filesystem sync"}, {"show", "btrfs subvolume show"},
	} {
		if got, ran := sections[step.name]; !ran {
			return doing(errCut)
		} else if got.status != 0 {
			return doing(&commandError{step.command, got, said})
		}
	}
	d, err := parseShow(sections["show"].out, s.fromTop(p))
	if err == nil && (d.parent != of || !d.readOnly || !d.received.IsZero()) {
		err = errors.New("what is there is not a read-only snapshot of it")
	}
	if err != nil {
		return doing(err)
	}
	return s.remember(d, p), nil
}

// remember makes a new snapshot known as if it had been listed, so that it can be
// sent on.
func (s *Store) remember(d details, p string) snapshot.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown[d.uuid] = d.transid
	snap := s.values(&subvolume{id: d.id, cgen: d.cgen, uuid: d.uuid, parent: d.parent, received: d.received, readOnly: d.readOnly}, p)
	s.known[snap.ID] = &snap
	return snap
}

// Reclaim waits until all subvolumes of the file system that were deleted are gone.
// The kernel begins with that half a minute later, or when the file system is
// synchronised.
func (s *Store) Reclaim(ctx context.Context) error {
	c := s.script()
	c.must("sync", c.words("btrfs", "filesystem", "sync", s.root()))
	c.section("wait", c.words("btrfs", "subvolume", "sync", s.root()))
	sections, said, err := s.execute(ctx, c)
	for _, step := range []struct{ name, command string }{{"sync", "btrfs filesystem sync"}, {"wait", "btrfs subvolume sync"}} {
		if got := sections[step.name]; err == nil && got.status != 0 {
			err = &commandError{step.command, got, said}
		}
	}
	if err != nil {
		return fmt.Errorf("waiting for the space of what was removed from %s: %w", s.name, err)
	}
	return nil
}

// RemoveLeftover deletes what an interrupted btrfs receive has left.
func (s *Store) RemoveLeftover(ctx context.Context, p string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !usable(p) {
		return fmt.Errorf("removing %q from %s: not a usable path for a snapshot", p, s.name)
	}
	return s.remove(ctx, p, func(v *view, sub *subvolume) error {
		switch {
		case sub.readOnly || !sub.received.IsZero():
			return fmt.Errorf("it is not what an interrupted receive leaves, but %s", describe(sub))
		case v.holds(p):
			return errors.New("other subvolumes lie in it")
		}
		if s.opt.Of != "" {
			if of, err := s.origin(ctx, v); err != nil {
				return err
			} else if of == sub.uuid {
				return errors.New("it is the subvolume of which snapshots are made")
			}
		}
		return nil
	})
}

// holds reports whether there are subvolumes below a path.
func (v *view) holds(rel string) bool {
	for i := range v.all {
		if p, ok := v.below(v.all[i].path); ok && strings.HasPrefix(p, rel+"/") {
			return true
		}
	}
	return false
}

// ready makes a directory that is not there, and makes sure that nothing is mounted
// there.
func (s *Store) ready(ctx context.Context, v *view, dir string) error {
	if !v.has(dir) {
		if _, err := s.run(ctx, "mkdir", "-p", s.at(dir)); err != nil {
			return err
		}
	}
	if dir == "." {
		return nil
	}
	return s.checkDirectory(ctx, v, dir)
}

// orMade does something in the store's directory. Where that is not there, and is
// to be made, it makes it first.
func (s *Store) orMade(ctx context.Context, do func() error) error {
	err := do()
	if !errors.Is(err, ErrNotDirectory) || !s.opt.MakeDir || !s.opt.Writes {
		return err
	}
	if err := s.makeDir(ctx); err != nil {
		return err
	}
	return do()
}

// makeDir makes the store's directory, if what is there of its path is on btrfs:
// else a file system that is not mounted would get it.
func (s *Store) makeDir(ctx context.Context) error {
	c := s.script()
	c.line("d=" + dial.Quote(s.root()))
	c.line("until " + c.words("ls", "-d") + ` "$d/." >/dev/null 2>&1; do`)
	c.line(`[ "$d" != / ] || break; d=${d%/*}; [ -n "$d" ] || d=/`)
	c.line("done")
	c.must("rootid", c.words("btrfs", "inspect-internal", "rootid")+` "$d"`)
	c.must("mkdir", c.words("mkdir", "-p", s.root()))
	sections, said, err := s.execute(ctx, c)
	switch {
	case err != nil:
	case sections["rootid"].status != 0:
		err = &commandError{"btrfs inspect-internal rootid", sections["rootid"], said}
		if strings.Contains(said, "not a btrfs filesystem") {
			err = fmt.Errorf("it would not be on btrfs; is the file system mounted? %w", err)
		}
	case sections["mkdir"].status != 0:
		err = &commandError{"mkdir", sections["mkdir"], said}
	}
	if err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	s.opt.Log.Info("directory made", "store", s.name)
	return nil
}
