package archive

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// catalogue is what is known of the objects of an archive, in little memory:
// there may be a million of them.
type catalogue struct {
	prefix  string
	entries []entry  // ordered by edge, then path, form and key
	paths   []string // ordered; those of outside snapshots begin with a slash
	first   []uint32 // for each path, an entry that has it
	sizes   map[uint32]string
	since   map[snapshot.Edge][]*stored // added later
	gone    map[string]bool             // keys that were removed later
}

// entry is an object that holds a stream.
type entry struct {
	to, from snapshot.ID
	size     int64
	modified int64 // microseconds since 1970; 0 if it is not known
	tag      string
	odd      *oddity
	path     uint32
	form     uint8
	flags    uint8
}

const (
	flagOutside uint8 = 1 << iota
	flagDescribed
	flagCold
)

// oddity is what few objects have. Objects that have the same share it.
type oddity struct {
	key   string // as the bucket has it; empty if it is the one that we would give
	class string
}

var forms = []seal.Form{
	{}, {Compressed: true}, {Cipher: seal.Age}, {Compressed: true, Cipher: seal.Age}, {Cipher: seal.GPG}, {Compressed: true, Cipher: seal.GPG},
}

func (e *entry) edge() snapshot.Edge { return snapshot.Edge{To: e.to, From: e.from} }

func (e *entry) has(flag uint8) bool { return e.flags&flag != 0 }

// oddKey is the key that cannot be made again.
func (e *entry) oddKey() string {
	if e.odd == nil {
		return ""
	}
	return e.odd.key
}

// compare orders entries.
func (e *entry) compare(f *entry) int {
	if c := bytes.Compare(e.to[:], f.to[:]); c != 0 {
		return c
	}
	if c := bytes.Compare(e.from[:], f.from[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(e.flags&flagOutside, f.flags&flagOutside), cmp.Compare(e.path, f.path),
		cmp.Compare(e.form, f.form), strings.Compare(e.oddKey(), f.oddKey()))
}

// to returns the range of entries that lead to a snapshot.
func (c *catalogue) to(id snapshot.ID) (from, end int) {
	from = sort.Search(len(c.entries), func(i int) bool { return bytes.Compare(c.entries[i].to[:], id[:]) >= 0 })
	for end = from; end < len(c.entries) && c.entries[end].to == id; end++ {
	}
	return from, end
}

// path finds a path.
func (c *catalogue) path(p string) (uint32, bool) {
	i, ok := slices.BinarySearch(c.paths, p)
	return uint32(i), ok
}

// at returns a snapshot that is at a path.
func (c *catalogue) at(p string) (snapshot.ID, bool) {
	if i, ok := c.path(p); ok {
		to := c.entries[c.first[i]].to
		from, end := c.to(to)
		for j := from; j < end; j++ {
			if e := &c.entries[j]; e.path == i && (len(c.gone) == 0 || !c.gone[c.key(e)]) {
				return to, true
			}
		}
	}
	for e, all := range c.since {
		if slices.ContainsFunc(all, func(o *stored) bool { return o.Path == p }) {
			return e.To, true
		}
	}
	return snapshot.ID{}, false
}

// key is the key of an entry.
func (c *catalogue) key(e *entry) string {
	switch {
	case e.oddKey() != "":
		return e.odd.key
	case e.has(flagOutside):
		return streamKey("", c.paths[e.path][1:], e.edge(), forms[e.form])
	default:
		return streamKey(c.prefix, c.paths[e.path], e.edge(), forms[e.form])
	}
}

// object returns all that is known of an entry.
func (c *catalogue) object(e *entry) *stored {
	o := &stored{
		Object: Object{Key: c.key(e), Size: e.size, Tag: e.tag, Cold: e.has(flagCold)},
		Edge:   e.edge(), Path: c.paths[e.path], Form: forms[e.form],
		Outside: e.has(flagOutside), Described: e.has(flagDescribed),
	}
	if e.modified != 0 {
		o.Modified = time.UnixMicro(e.modified).UTC()
	}
	if e.odd != nil {
		o.Class = e.odd.class
	}
	return o
}

// of returns the objects known to hold the stream of an edge: of the last List,
// and those that were added since.
func (s *Store) of(e snapshot.Edge) []*stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known
	var all []*stored
	from, end := c.to(e.To)
	for i := from; i < end; i++ {
		if c.entries[i].from == e.From {
			if o := c.object(&c.entries[i]); !c.gone[o.Key] {
				all = append(all, o)
			}
		}
	}
	for _, o := range c.since[e] {
		if !slices.ContainsFunc(all, func(p *stored) bool { return p.Key == o.Key }) {
			all = append(all, o)
		}
	}
	return all
}

// add notes an object that has been stored, or that was found.
func (s *Store) add(o *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known
	if c.since == nil {
		c.since = map[snapshot.Edge][]*stored{}
	}
	delete(c.gone, o.Key)
	c.since[o.Edge] = append(slices.DeleteFunc(c.since[o.Edge], func(p *stored) bool { return p.Key == o.Key }), o)
}

// forget notes that an object is not there any more.
func (s *Store) forget(o *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known
	if since := c.since[o.Edge]; since != nil {
		c.since[o.Edge] = slices.DeleteFunc(since, func(p *stored) bool { return p.Key == o.Key })
	}
	if c.gone == nil {
		c.gone = map[string]bool{}
	}
	c.gone[o.Key] = true
}
