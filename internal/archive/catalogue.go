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
	tombs   map[string]*tomb // by the key of what counts as removed
	fixed   bool             // some object is not to be copied

	changed map[string]change         // later, by key
	since   map[snapshot.ID][]*stored // those that were added
}

// change is what became of an object after the listing.
type change struct {
	o      *stored // nil if it was removed
	to     snapshot.ID
	number uint64
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
	flagTrashed // its key is one of the trash, or it has a tombstone
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
			if e := &c.entries[j]; e.path == i && !c.isChanged(e) {
				return to, true
			}
		}
	}
	for id, all := range c.since {
		if slices.ContainsFunc(all, func(o *stored) bool { return o.Path == p }) {
			return id, true
		}
	}
	return snapshot.ID{}, false
}

// key is the key of an entry.
func (c *catalogue) key(e *entry) string { return keyOf(c.prefix, c.paths[e.path], e) }

func keyOf(prefix, path string, e *entry) string {
	switch {
	case e.oddKey() != "":
		return e.odd.key
	case e.has(flagOutside):
		return streamKey("", path[1:], e.edge(), forms[e.form])
	default:
		return streamKey(prefix, path, e.edge(), forms[e.form])
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
	return slices.DeleteFunc(s.known.leading(e.To), func(o *stored) bool { return o.Edge != e })
}

// leading returns the objects that make a snapshot.
func (c *catalogue) leading(id snapshot.ID) []*stored {
	var all []*stored
	from, end := c.to(id)
	for i := from; i < end; i++ {
		if e := &c.entries[i]; !c.isChanged(e) {
			all = append(all, c.object(e))
		}
	}
	return append(all, c.since[id]...)
}

// isChanged reports whether the listing is out of date about an entry.
func (c *catalogue) isChanged(e *entry) bool {
	if len(c.changed) == 0 {
		return false // without making its key
	}
	_, changed := c.changed[c.key(e)]
	return changed
}

// note notes what became of the object with a key.
func (c *catalogue) note(key string, ch change) {
	if c.changed == nil {
		c.changed, c.since = map[string]change{}, map[snapshot.ID][]*stored{}
	}
	since := slices.DeleteFunc(c.since[ch.to], func(p *stored) bool { return p.Key == key })
	if ch.o != nil {
		since = append(since, ch.o)
	}
	c.changed[key], c.since[ch.to] = ch, since
	if len(since) == 0 {
		delete(c.since, ch.to)
	}
}

// add notes an object that has been stored, or that was found.
func (s *Store) add(o *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	s.known.note(o.Key, change{o, o.Edge.To, s.changes})
}

// forget notes that an object is not there any more.
func (s *Store) forget(o *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	s.known.note(o.Key, change{nil, o.Edge.To, s.changes})
}

// began is to be called before a listing, and learn after it.
func (s *Store) began() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// learn takes a new catalogue. What has been changed since its listing began
// still counts.
func (s *Store) learn(c *catalogue, began uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, ch := range s.known.changed {
		if ch.number > began {
			c.note(key, ch)
		}
	}
	s.known = c
}
