package archive

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// Kept is an object that holds the stream of an edge, for people to look at.
type Kept struct {
	snapshot.Edge
	Path     string // of the snapshot, relative to the prefix
	Key      string // of the object
	Size     int64  // as it is stored
	Modified time.Time
	Form     seal.Form
	// Class is where the bucket keeps it; empty for its usual place. Cold is set if
	// it has to be thawed before it can be read.
	Class string
	Cold  bool
	// Described is set if there is a manifest beside it.
	Described bool
}

// Kept gives the objects below the prefix that hold streams, as the last List
// found them, in order of the paths of their snapshots. It takes four bytes for
// each of them.
func (s *Store) Kept() iter.Seq[Kept] {
	s.mu.Lock()
	c := s.known
	s.mu.Unlock()
	return func(yield func(Kept) bool) {
		order := make([]uint32, 0, len(c.entries))
		for i := range c.entries {
			if !c.entries[i].has(flagOutside) {
				order = append(order, uint32(i))
			}
		}
		// Paths are numbered in order, and entries of one path are ordered by edge.
		slices.SortFunc(order, func(i, j uint32) int {
			return cmp.Or(cmp.Compare(c.entries[i].path, c.entries[j].path), cmp.Compare(i, j))
		})
		for _, i := range order {
			o := c.object(&c.entries[i])
			if !yield(Kept{
				Edge: o.Edge, Path: o.Path, Key: o.Key, Size: o.Size, Modified: o.Modified, Form: o.Form,
				Class: o.Class, Cold: o.Cold, Described: o.Described,
			}) {
				return
			}
		}
	}
}

// Writable says why no stream may be stored here in the form in which the options
// have them stored: there is no marker where there has to be one, or the archive
// takes only what is encrypted. It asks the bucket once.
func (s *Store) Writable(ctx context.Context) error { return s.writable(ctx) }
