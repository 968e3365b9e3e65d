package bare

import (
	"context"
	"errors"
	"fmt"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Remove deletes the subvolume, if it is still the one that was listed. The
// directories that it was in stay.
func (s *Store) Remove(ctx context.Context, snap snapshot.Snapshot) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if snap.Outside {
		return fmt.Errorf("removing %s: it is outside of %s", snap.Path, s.root())
	}
	err := s.remove(ctx, snap.Path, func(_ *view, sub *subvolume) error {
		switch {
		case inPart(snap.Path):
			return errors.New("it is no snapshot")
		case sub.uuid != snap.UUID || sub.identity() != snap.ID:
			return fmt.Errorf("%w: another one is there now", store.ErrNotFound)
		case !sub.readOnly:
			return errors.New("it has been made writable")
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.known, snap.ID)
	s.mu.Unlock()
	return nil
}

// RemovePartial deletes a subvolume that is named ".part".
func (s *Store) RemovePartial(ctx context.Context, p snapshot.Partial) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !p.Ours || !snapshot.IsPart(p.Path) {
		return fmt.Errorf("removing %s: it may belong to somebody else", s.at(p.Path))
	}
	return s.remove(ctx, p.Path, func(_ *view, sub *subvolume) error {
		if isForeignPart(sub, p.Path) {
			return errors.New("it is a snapshot that is called like an unfinished receive")
		}
		return nil
	})
}

// remove deletes the subvolume at a path if check agrees with what is there now.
func (s *Store) remove(ctx context.Context, p string, check func(*view, *subvolume) error) error {
	if err := s.writable("removing", p); err != nil {
		return err
	}
	doing := func(err error) error { return fmt.Errorf("removing %s: %w", s.at(p), err) }
	v, err := s.look(ctx, false)
	if err != nil {
		return doing(err)
	}
	sub, ok := v.at(p)
	if !ok {
		return doing(fmt.Errorf("%w: it has been removed since it was listed", store.ErrNotFound))
	}
	if err := check(v, &sub); err != nil {
		return doing(err)
	}
	if err := s.removeExactly(ctx, s.at(p), sub.uuid); err != nil {
		return doing(err)
	}
	return nil
}

// removeExactly deletes the subvolume at an absolute path, if it has that UUID. The
// listing does not tell: it is of one file system, and a path may lead into another
// one that is mounted on the way, with a snapshot of the same name.
func (s *Store) removeExactly(ctx context.Context, at string, uuid snapshot.ID) error {
	c := s.script()
	c.must("show", c.words("btrfs", "subvolume", "show", at)+" >/dev/null")
	c.must("same", c.has(uuid, "btrfs", "subvolume", "show", at))
	s.delete(c, at)
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return err
	}
	for _, step := range []struct{ name, command string }{
		{"show", "btrfs subvolume show"},
		{"same", "grep"},
		{"writable", "btrfs property set"},
		{"delete", "btrfs subvolume delete"},
	} {
		got, ran := sections[step.name]
		switch {
		case !ran && step.name == "writable":
			continue
		case !ran:
			return errCut
		case got.status == 1 && step.name == "same":
			return fmt.Errorf("%w: another one is there, made meanwhile or of a file system that is mounted there", store.ErrNotFound)
		case got.status != 0:
			return missing(&commandError{step.command, got, said})
		}
	}
	return nil
}

// delete adds the deletion of a subvolume to a script. Where the kernel does not let
// the user delete what is read-only (it says EROFS then), it is made writable first,
// if that was asked for: not before, since that takes its received UUID away, and with
// btrfs-progs from 5.14.2 on has to be forced for the same reason.
func (s *Store) delete(c *script, at string) {
	command := c.words("btrfs", "subvolume", "delete", at)
	if !s.opt.MakeWritable {
		c.section("delete", command)
		return
	}
	c.section("delete", "said=$("+command+" 2>&1)")
	c.line(`case $status$said in`)
	c.line(`0*) ;;`)
	c.line(`*"Read-only file system"*)`)
	c.must("writable", c.words("btrfs", "property", "set", "-f", "-ts", at, "ro", "false")+" 2>/dev/null || "+c.words("btrfs", "property", "set", "-ts", at, "ro", "false"))
	c.section("delete", command)
	c.line(`[ $status = 0 ] || ` + c.words("btrfs", "property", "set", "-ts", at, "ro", "true"))
	c.line(`;;`)
	c.line(`*) printf '%s\n' "$said" >&2 ;;`)
	c.line(`esac`)
}
