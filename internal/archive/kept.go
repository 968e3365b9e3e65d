package archive

import (
	"context"
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

// Kept returns the objects below the prefix that hold streams, as the last List
// found them, in no order. It takes some memory for each of them.
func (s *Store) Kept() []Kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known
	all := make([]Kept, 0, len(c.entries))
	for i := range c.entries {
		if e := &c.entries[i]; !e.has(flagOutside) {
			o := c.object(e)
			all = append(all, Kept{
				Edge: o.Edge, Path: o.Path, Key: o.Key, Size: o.Size, Modified: o.Modified, Form: o.Form,
				Class: o.Class, Cold: o.Cold, Described: o.Described,
			})
		}
	}
	return all
}

// Writable says why no stream may be stored here in the form in which the options
// have them stored: there is no marker where there has to be one, or the archive
// takes only what is encrypted. It asks the bucket once.
func (s *Store) Writable(ctx context.Context) error { return s.writable(ctx) }
