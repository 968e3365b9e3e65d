// Package snapshot is the vocabulary that every other room speaks: what a
// snapshot is, when two of them are the same one, what a store holds, and what
// an edge between two snapshots is. It has values only, and does no I/O.
//
// # Identity
//
// A snapshot is known by one [ID]: its received UUID where it has one, else
// its own UUID. The ID travels with every stream made from the snapshot, so a
// copy of a copy still has the ID of the first. Two snapshots are the same,
// wherever they are, exactly when their IDs are equal; paths, names and times
// play no part in it.
//
// # Families
//
// Generations count changes of one file system. They can order two snapshots
// only where both were counted by the same file system; see [Snapshot.Transid]
// and [Snapshot.Generation].
package snapshot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// ID is the identity of a snapshot: a UUID, its bytes in the order in which
// btrfs stores them. The zero ID stands for none.
type ID [16]byte

// ErrID is returned by ParseID for text that is not a UUID.
var ErrID = errors.New("not a UUID (want 8-4-4-4-12 hexadecimal digits)")

// ParseID reads an ID from its canonical text, 8-4-4-4-12 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, fmt.Errorf("%q: %w", s, ErrID)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, fmt.Errorf("%q: %w", s, ErrID)
	}
	return id, nil
}

// IsZero reports whether id stands for no snapshot.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the canonical text of id, in lower case.
func (id ID) String() string {
	text := [36]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	hex.Encode(text[:], id[:4])
	hex.Encode(text[9:], id[4:6])
	hex.Encode(text[14:], id[6:8])
	hex.Encode(text[19:], id[8:10])
	hex.Encode(text[24:], id[10:])
	return string(text[:])
}

// Short returns the first and last four digits of id, as people read it in a
// plan: "ea7c...3ea1".
func (id ID) Short() string {
	x := hex.EncodeToString(id[:])
	return x[:4] + "..." + x[28:]
}

// MarshalText returns the canonical text of id, and nothing for the zero ID.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	v, err := ParseID(string(text))
	if err == nil {
		*id = v
	}
	return err
}

// Trust says whether a snapshot still holds what its ID promises.
type Trust int

const (
	// Intact: the file system's transaction numbers prove that nothing has
	// changed since the snapshot was received, or it was made here.
	Intact Trust = iota
	// Doubtful: it has changed after it was marked as received. Receivers that
	// do not flush file data first leave this behind too, so only a closer look
	// at the snapshot can tell (store.Prover).
	Doubtful
	// Touched: it has been made writable and changed; its ID is no longer true.
	Touched
)

// Snapshot is one read-only subvolume as one store holds it.
type Snapshot struct {
	// ID is the identity.
	ID ID
	// Transid is the effective transaction number: of the file system that the
	// ID comes from, so it is comparable between snapshots that share an
	// origin. Zero where the store cannot know it.
	Transid uint64
	// Path is relative to the store's directory, with slashes, where the
	// snapshot lies inside it. For one that lies outside (Outside) it is a path
	// for people to read.
	Path string
	// Copies are further subvolumes with the same ID in the same store, inside of
	// its directory or outside. They have no Copies themselves.
	Copies []Snapshot
	// Outside is set for a snapshot on the same file system but outside of the
	// store's directory. It is never wanted, listed or removed; it may serve as
	// a parent, and can be copied in.
	Outside bool

	// UUID and Parent are the subvolume's own UUID and that of the subvolume it
	// was made from, both as the store's file system numbers them.
	UUID, Parent ID
	// Received is set where the ID came with a stream.
	Received bool
	// Pristine is set where nothing has changed since the file system made the
	// snapshot, as is the rule for one that is not a copy.
	Pristine bool
	// Generation is the transaction number of the last change as the store's
	// own file system counts: it orders the snapshots of one store.
	Generation uint64
	// Created is when the store's file system made the snapshot.
	Created time.Time
	// Trust says whether the snapshot is still what its ID promises.
	Trust Trust
	// Handle is the store's own number for the snapshot (a subvolume ID).
	Handle uint64

	// Size is the data that the snapshot refers to, and Exclusive what only it
	// refers to, where the store knows them without measuring.
	Size, Exclusive Size
}

// Name returns the last element of the snapshot's path.
func (s Snapshot) Name() string { return path.Base(s.Path) }

// Preferring returns the copy of s that is at a path inside of the directory,
// with s among its Copies; s itself and false if there is none.
func (s Snapshot) Preferring(path string) (Snapshot, bool) {
	if !s.Outside && s.Path == path {
		return s, true
	}
	for i, c := range s.Copies {
		if !c.Outside && c.Path == path {
			c.Copies = slices.Clone(s.Copies)
			s.Copies = nil
			c.Copies[i] = s
			return c, true
		}
	}
	return s, false
}

// Edge names the stream that makes snapshot To out of snapshot From. A zero
// From makes it a full stream.
type Edge struct {
	To, From ID
}

// IsFull reports whether the edge needs nothing to start from.
func (e Edge) IsFull() bool { return e.From.IsZero() }

// Size is a number of bytes, and how well it is known.
type Size struct {
	Bytes int64
	Known bool // false: nothing is known, and Bytes is zero
	Exact bool // false: an estimate
}

// ExactSize returns the size of n bytes, counted or measured.
func ExactSize(n int64) Size { return Size{Bytes: n, Known: true, Exact: true} }

// AboutSize returns an estimate of n bytes.
func AboutSize(n int64) Size { return Size{Bytes: n, Known: true} }

// PartSuffix ends the name of a subvolume that is being received, or whose
// receive failed. ButterSink puts a time before it when the plain name is
// taken: "A.part", "A_2026-11-20T23:05:45.498000.part".
const PartSuffix = ".part"

// NoPlace begins the text about a path at which no snapshot can ever be.
const NoPlace = "no place: "

// IsPart reports whether a path has the name of an unfinished receive.
func IsPart(p string) bool { return strings.HasSuffix(p, PartSuffix) }

// Partial is something unfinished that a store found: never a snapshot.
type Partial struct {
	// Path is relative to the store's directory.
	Path string
	// Ours is set where the name says for sure that it is the remainder of an
	// unfinished receive, so that it may be removed.
	Ours bool
	// Why says, for people, how it was recognised.
	Why string
}

// Stored is an edge whose stream a store keeps.
type Stored struct {
	Edge
	// Size is what reading its stream carries.
	Size Size
}

// Inventory is what one store holds, as it was listed.
type Inventory struct {
	// Archive is set for a store that keeps streams, and can give back only
	// those (Edges), in place of any between two of its snapshots. Its Snapshots
	// are those to which any of its edges leads, and those of which only remains
	// show that they were there.
	Archive bool
	Edges   []Stored
	// ReceivedClones is set where only snapshots that were received can be clone
	// sources of what is received; the others can be parents all the same.
	ReceivedClones bool
	// Dir is what relative paths are relative to, for people to read.
	Dir string
	// Snapshots are ordered by path; one entry for each ID.
	Snapshots []Snapshot
	// Partials are the unfinished things inside the store's directory.
	Partials []Partial
	// Lineage has, for every subvolume of the file system that was made from
	// another one, writable ones too, the UUID of that other one. It joins
	// families whose common ancestor is not itself a snapshot.
	Lineage map[ID]ID
	// Born has the transaction in which each subvolume in Lineage was made from
	// the other, as the store's file system counts.
	Born map[ID]uint64
	// Occupied holds every path inside the directory at which a snapshot cannot
	// be made, with what is there, for people to read, or, behind NoPlace, with why
	// there can be nothing.
	Occupied map[string]string
	// Warnings are oddities that the listing met: duplicates, for example.
	Warnings []string

	byID map[ID]int
}

// Find returns the snapshot with the given ID.
func (inv *Inventory) Find(id ID) (Snapshot, bool) {
	if inv.byID == nil || len(inv.byID) != len(inv.Snapshots) {
		inv.byID = make(map[ID]int, len(inv.Snapshots))
		for i, s := range inv.Snapshots {
			inv.byID[s.ID] = i
		}
	}
	i, ok := inv.byID[id]
	if !ok || i >= len(inv.Snapshots) || inv.Snapshots[i].ID != id {
		return Snapshot{}, false
	}
	return inv.Snapshots[i], true
}

// SetTrust notes what a closer look at a snapshot has shown.
func (inv *Inventory) SetTrust(id ID, t Trust) {
	for i := range inv.Snapshots {
		if inv.Snapshots[i].ID == id {
			inv.Snapshots[i].Trust = t
		}
	}
}

// Prefer makes the copy of a snapshot that is at a path inside of the directory
// the one that Snapshots has, and the one that it had a copy of it.
func (inv *Inventory) Prefer(id ID, path string) {
	for i, s := range inv.Snapshots {
		if s.ID == id {
			inv.Snapshots[i], _ = s.Preferring(path)
		}
	}
}

// Where returns the path of a snapshot for people to read.
func (inv *Inventory) Where(s Snapshot) string {
	if s.Outside {
		return s.Path
	}
	return path.Join(inv.Dir, s.Path)
}

// Inside returns the snapshots that lie in the store's directory, in order of
// their paths.
func (inv *Inventory) Inside() []Snapshot {
	in := make([]Snapshot, 0, len(inv.Snapshots))
	for _, s := range inv.Snapshots {
		if !s.Outside {
			in = append(in, s)
		}
	}
	slices.SortFunc(in, func(a, b Snapshot) int { return strings.Compare(a.Path, b.Path) })
	return in
}
