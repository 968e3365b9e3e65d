package ssh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// A directory's file system may hold snapshots outside of it, those of other
// machines for one. Stores know them, since they can be parents, and so a client
// could read them: as they are, as a copy, as an increment from one that changes
// nothing, or through a clone command in a stream of its own making. So nothing
// outside of the directory is served, neither as what is sent nor as what a stream
// builds upon, and it is as if it were not there.

// confined returns what an inventory has of the directory itself. Of the lineage
// there is what leads up from its snapshots.
func confined(inv *snapshot.Inventory) *snapshot.Inventory {
	out := &snapshot.Inventory{
		Dir: inv.Dir, Partials: inv.Partials, Occupied: inv.Occupied, Warnings: slices.Clone(inv.Warnings),
		Lineage: map[snapshot.ID]snapshot.ID{}, Born: map[snapshot.ID]uint64{},
	}
	for _, x := range inv.Snapshots {
		var inside []snapshot.Snapshot
		for _, c := range append([]snapshot.Snapshot{x}, x.Copies...) {
			if c.Outside {
				// Where it is, is nobody's business who may not see it.
				name := "'" + inv.Where(c) + "'"
				out.Warnings = slices.DeleteFunc(out.Warnings, func(w string) bool { return strings.Contains(w, name) })
			} else {
				c.Copies = nil
				if y := c.Created.Year(); y < 0 || y > 9999 {
					c.Created = time.Time{} // no clock has said that, and JSON cannot
				}
				inside = append(inside, c)
			}
		}
		if len(inside) == 0 {
			continue
		}
		for _, c := range inside {
			// Up to where it has been before.
			for id := c.UUID; out.Lineage[id].IsZero(); {
				parent, ok := inv.Lineage[id]
				if !ok || parent.IsZero() {
					break
				}
				out.Lineage[id] = parent
				if born, ok := inv.Born[id]; ok {
					out.Born[id] = born
				}
				id = parent
			}
		}
		inside[0].Copies = inside[1:len(inside):len(inside)]
		out.Snapshots = append(out.Snapshots, inside[0])
	}
	return out
}

// permitted returns an error unless all of the snapshots are in the directory.
func (s *server) permitted(ctx context.Context, ids ...snapshot.ID) error {
	missing := s.missing(ids)
	if missing.IsZero() {
		return nil
	}
	if err := s.renew(ctx); err != nil {
		return err
	}
	if missing = s.missing(ids); !missing.IsZero() {
		return fmt.Errorf("%s: %w: %s", s.st, store.ErrNotFound, missing)
	}
	return nil
}

// missing returns one of the snapshots that is not known to be in the directory;
// zero if all are.
func (s *server) missing(ids []snapshot.ID) snapshot.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if !id.IsZero() && !s.fresh[id] && (s.listed == nil || !s.listed.ids[id]) {
			return id
		}
	}
	return snapshot.ID{}
}

// permitParent returns *store.ParentError unless the start of an increment is in
// the directory.
func (s *server) permitParent(ctx context.Context, e snapshot.Edge) error {
	err := s.permitted(ctx, e.From)
	if errors.Is(err, store.ErrNotFound) {
		return &store.ParentError{ID: e.From, Why: "is not in the directory that is served"}
	}
	return err
}

// permitClones returns an error unless the data that some commands of a stream
// refer to are in the directory, or in the snapshot that is being made.
func (s *server) permitClones(ctx context.Context, commands []byte, to snapshot.ID) error {
	return cloneSources(commands, func(id snapshot.ID) error {
		if id == to {
			return nil
		}
		if err := s.permitted(ctx, id); err != nil {
			return fmt.Errorf("the stream refers to data of another snapshot: %w", err)
		}
		return nil
	})
}

// cloneSources tells of each snapshot that clone commands name. The commands are
// whole; the first ones of a stream have its header before them.
func cloneSources(commands []byte, each func(snapshot.ID) error) error {
	const header, attribute = 17, 4
	if bytes.HasPrefix(commands, []byte("btrfs-stream\x00")) {
		commands = commands[min(header, len(commands)):]
	}
	for len(commands) >= commandHead {
		kind := stream.Kind(binary.LittleEndian.Uint16(commands[4:]))
		n := min(commandHead+int(binary.LittleEndian.Uint32(commands)), len(commands))
		attrs := commands[commandHead:n]
		commands = commands[n:]
		if kind != stream.Clone {
			continue
		}
		// A clone command has no data, so all its attributes say how long they are.
		for len(attrs) >= attribute {
			kind := stream.Attr(binary.LittleEndian.Uint16(attrs))
			value := attrs[attribute:min(attribute+int(binary.LittleEndian.Uint16(attrs[2:])), len(attrs))]
			attrs = attrs[attribute+len(value):]
			if kind != stream.AttrCloneUUID {
				continue
			}
			if len(value) != len(snapshot.ID{}) {
				return fmt.Errorf("%w: a clone source of %d bytes", stream.ErrMalformed, len(value))
			}
			if err := each(snapshot.ID(value)); err != nil {
				return err
			}
		}
	}
	return nil
}
