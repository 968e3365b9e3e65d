package ssh

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Bounds of what a listing may hold. A snapshot and what belongs to it takes some
// 2 KiB of memory.
const (
	maxEntries   = 2_000_000
	maxEntryLine = 1 << 20
)

// writeListing writes an inventory as JSON lines, each an entry.
func writeListing(to io.Writer, inv *snapshot.Inventory) error {
	buffered := bufio.NewWriterSize(to, 64<<10)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	put := func(e entry) error {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("sending the listing: %w", err)
		}
		return nil
	}
	if err := put(entry{Head: &head{Dir: path(inv.Dir)}}); err != nil {
		return err
	}
	for i := range inv.Snapshots {
		s := listedOf(inv.Snapshots[i])
		if err := put(entry{Snapshot: &s}); err != nil {
			return err
		}
	}
	for _, p := range inv.Partials {
		if err := put(entry{Partial: partialOf(p)}); err != nil {
			return err
		}
	}
	for id, parent := range inv.Lineage {
		if err := put(entry{Line: &line{ID: id, Parent: parent, Born: inv.Born[id]}}); err != nil {
			return err
		}
	}
	for id, born := range inv.Born {
		if _, ok := inv.Lineage[id]; !ok {
			if err := put(entry{Line: &line{ID: id, Born: born}}); err != nil {
				return err
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(inv.Occupied)) {
		if err := put(entry{Occupied: &in{Path: path(p), What: inv.Occupied[p]}}); err != nil {
			return err
		}
	}
	for _, w := range inv.Warnings {
		if err := put(entry{Warning: w}); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// readListing reads what writeListing wrote, to its end.
func readListing(from io.Reader) (*snapshot.Inventory, error) {
	var inv *snapshot.Inventory
	seen := map[snapshot.ID]bool{}
	err := readLines(from, func(raw []byte) error {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		if (inv == nil) != (e.Head != nil) {
			return errors.New("the first line, and only that, has to be the head")
		}
		switch {
		case e.Head != nil:
			inv = &snapshot.Inventory{
				Dir: string(e.Head.Dir), Lineage: map[snapshot.ID]snapshot.ID{}, Born: map[snapshot.ID]uint64{}, Occupied: map[string]string{},
			}
		case e.Snapshot != nil:
			s, err := e.Snapshot.snapshot()
			if err != nil {
				return err
			}
			if seen[s.ID] {
				return fmt.Errorf("the snapshot %s is there twice", s.ID)
			}
			seen[s.ID] = true
			inv.Snapshots = append(inv.Snapshots, s)
		case e.Partial != nil:
			inv.Partials = append(inv.Partials, e.Partial.partial())
		case e.Line != nil:
			if !e.Line.Parent.IsZero() {
				inv.Lineage[e.Line.ID] = e.Line.Parent
			}
			if e.Line.Born != 0 {
				inv.Born[e.Line.ID] = e.Line.Born
			}
		case e.Occupied != nil:
			inv.Occupied[string(e.Occupied.Path)] = e.Occupied.What
		case e.Warning != "":
			inv.Warnings = append(inv.Warnings, e.Warning)
		}
		return nil
	})
	if err == nil && inv == nil {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the listing: %w", err)
	}
	return inv, nil
}

// writeSizes writes lengths of streams as JSON lines, each a noted.
func writeSizes(to io.Writer, sizes map[snapshot.Edge]int64) error {
	buffered := bufio.NewWriterSize(to, 64<<10)
	enc := json.NewEncoder(buffered)
	for e, n := range sizes {
		if err := enc.Encode(noted{Edge: edgeOf(e), Bytes: n}); err != nil {
			return fmt.Errorf("sending sizes: %w", err)
		}
	}
	return buffered.Flush()
}

// readSizes reads what writeSizes wrote, to its end.
func readSizes(from io.Reader) (map[snapshot.Edge]int64, error) {
	sizes := map[snapshot.Edge]int64{}
	err := readLines(from, func(raw []byte) error {
		var n noted
		if err := json.Unmarshal(raw, &n); err != nil {
			return err
		}
		if n.Edge.To.IsZero() || n.Bytes <= 0 {
			return fmt.Errorf("an edge to %q has %d bytes", n.Edge.To, n.Bytes)
		}
		sizes[n.Edge.edge()] = n.Bytes
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading sizes: %w", err)
	}
	return sizes, nil
}

// readLines hands each line on, to the end of the input.
func readLines(from io.Reader, each func(raw []byte) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxEntryLine)
	n := 0
	for lines.Scan() {
		if n++; n > maxEntries {
			return fmt.Errorf("it has more than %d lines", maxEntries)
		}
		if err := each(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("behind line %d: %w", n, err)
	}
	return nil
}

func listedOf(s snapshot.Snapshot) listed {
	out := listed{
		ID: s.ID, Transid: s.Transid, Path: path(s.Path), Outside: s.Outside, UUID: s.UUID, Parent: s.Parent,
		Received: s.Received, Pristine: s.Pristine, Generation: s.Generation, Created: s.Created, Trust: int(s.Trust),
		Handle: s.Handle, Size: sizeOf(s.Size), Exclusive: sizeOf(s.Exclusive),
	}
	for _, c := range s.Copies {
		c.Copies = nil
		out.Copies = append(out.Copies, listedOf(c))
	}
	return out
}

// snapshot returns what a message says of a snapshot, if it can be one.
func (l *listed) snapshot() (snapshot.Snapshot, error) {
	s := snapshot.Snapshot{
		ID: l.ID, Transid: l.Transid, Path: string(l.Path), Outside: l.Outside, UUID: l.UUID, Parent: l.Parent,
		Received: l.Received, Pristine: l.Pristine, Generation: l.Generation, Created: l.Created, Trust: snapshot.Trust(l.Trust),
		Handle: l.Handle, Size: l.Size.size(), Exclusive: l.Exclusive.size(),
	}
	if s.ID.IsZero() || s.Path == "" || s.Trust < snapshot.Intact || s.Trust > snapshot.Touched || s.Size.Bytes < 0 || s.Exclusive.Bytes < 0 {
		return snapshot.Snapshot{}, fmt.Errorf("a snapshot at %q with the identity %q, trust %d and sizes %d and %d makes no sense", s.Path, s.ID, l.Trust, s.Size.Bytes, s.Exclusive.Bytes)
	}
	for i := range l.Copies {
		c, err := l.Copies[i].snapshot()
		if err != nil {
			return snapshot.Snapshot{}, err
		}
		if c.ID != s.ID || len(c.Copies) > 0 {
			return snapshot.Snapshot{}, fmt.Errorf("what is called a copy of the snapshot at %q is none", s.Path)
		}
		s.Copies = append(s.Copies, c)
	}
	return s, nil
}

func partialOf(p snapshot.Partial) *partial { return &partial{path(p.Path), p.Ours, p.Why} }

func (p *partial) partial() snapshot.Partial {
	return snapshot.Partial{Path: string(p.Path), Ours: p.Ours, Why: p.Why}
}

func edgeOf(e snapshot.Edge) edge { return edge{To: e.To, From: e.From} }

func (e edge) edge() snapshot.Edge { return snapshot.Edge{To: e.To, From: e.From} }

func wantOf(w store.Want) *want {
	return &want{
		Edge: edgeOf(w.Edge), Transid: w.Transid, FromTransid: w.FromTransid, Path: path(w.Path), Size: sizeOf(w.Size), Fresh: w.Fresh,
	}
}

func (w *want) want() store.Want {
	return store.Want{
		Edge: w.Edge.edge(), Transid: w.Transid, FromTransid: w.FromTransid, Path: string(w.Path), Size: w.Size.size(), Fresh: w.Fresh,
	}
}
