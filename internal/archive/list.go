package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// scanner makes a catalogue of what a bucket lists.
type scanner struct {
	prefix  string
	entries []entry
	paths   []string
	numbers map[string]uint32 // of paths
	odd     map[oddity]*oddity
	sizes   map[uint32]string
	descr   []entry // manifests whose objects have not been seen right before
	last    string  // key of the last entry
	hollow  []hollow
	// tombs are what counts as removed by what lies beside it, and buried the
	// entries of those that are there.
	tombs  map[snapshot.Edge][]*tomb
	buried []grave
	fixed  bool // some object is not to be copied

	ignored, refused, empty tally
	warnings                []string
}

// hollow is a stream of which the object is empty.
type hollow struct {
	spot
	edge snapshot.Edge
	key  string
}

// tally counts things and remembers the first ones.
type tally struct {
	n    int
	some []string
}

func (t *tally) add(key string) {
	if t.n++; len(t.some) < 3 {
		t.some = append(t.some, printable(strings.Clone(key)))
	}
}

func (t *tally) String() string {
	text := strings.Join(t.some, ", ")
	if t.n > len(t.some) {
		text += ", ..."
	}
	return text
}

func newScanner(prefix string) *scanner {
	return &scanner{prefix: prefix, numbers: map[string]uint32{}, odd: map[oddity]*oddity{}, sizes: map[uint32]string{}}
}

// scan looks at the bucket.
func (s *Store) scan(ctx context.Context) (*scanner, *catalogue, error) {
	x := newScanner(s.o.Prefix)
	if err := s.scanInside(ctx, x); err != nil {
		return nil, nil, err
	}
	c := x.catalogue()
	if s.o.Prefix == "" || !newGraph(c).lacking() {
		return x, c, nil
	}
	if err := s.scanOutside(ctx, x); err != nil {
		return nil, nil, err
	}
	x.keepNeeded(newGraph(x.catalogue()))
	return x, x.catalogue(), nil
}

// slashed is the prefix with which keys of the archive begin that old versions of
// ButterSink have written; empty where there can be none, or they are among the
// others.
func (s *Store) slashed() string {
	if s.o.Prefix == "" || s.bucket.CheckKey("/"+s.o.Prefix+"/x") != nil {
		return ""
	}
	return "/" + s.o.Prefix + "/"
}

func (s *Store) scanInside(ctx context.Context, x *scanner) error {
	for o, err := range s.bucket.List(ctx, below(s.o.Prefix, "")) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", s, err)
		}
		x.see(o, false)
	}
	slashed := s.slashed()
	if slashed == "" {
		return nil
	}
	for o, err := range s.bucket.List(ctx, slashed) {
		if denied(err) {
			s.log.Debug("keys with a leading slash cannot be looked for", "archive", s.String(), "error", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", s, err)
		}
		x.see(o, false)
	}
	return nil
}

// scanAll looks at the whole bucket. Besides all that is there it returns what
// scan does.
func (s *Store) scanAll(ctx context.Context) (whole, c *catalogue, err error) {
	x := newScanner(s.o.Prefix)
	if err := s.scanInside(ctx, x); err != nil {
		return nil, nil, err
	}
	if s.o.Prefix == "" {
		c = x.catalogue()
		return c, c, nil
	}
	if err := s.scanOutside(ctx, x); err != nil {
		return nil, nil, err
	}
	for _, w := range x.warnings {
		s.log.Warn(w)
	}
	whole = x.catalogue()
	x.keepNeeded(newGraph(whole))
	return whole, x.catalogue(), nil
}

// scanOutside looks at what is not below the prefix.
func (s *Store) scanOutside(ctx context.Context, x *scanner) error {
	for o, err := range s.bucket.List(ctx, "") {
		if denied(err) {
			x.warnings = append(x.warnings, fmt.Sprintf("The rest of the bucket cannot be searched for what snapshots here start from, or what starts from them: %v", err))
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", s.bucket, err)
		}
		if parseKey(s.o.Prefix, o.Key).kind == elsewhere {
			x.see(o, true)
		}
	}
	return nil
}

// denied reports whether an error says that something is not allowed.
func denied(err error) bool {
	_, ok := errors.AsType[*DeniedError](err)
	return ok
}

// see takes an object that is listed.
func (x *scanner) see(o Object, outside bool) {
	prefix := x.prefix
	if outside {
		prefix = ""
	}
	n := parseKey(prefix, o.Key)
	if outside {
		switch n.kind {
		case isObject, isDescr, isTomb, isDoom:
		default:
			return // of no interest
		}
	}
	switch n.kind {
	case foreign, elsewhere:
		x.ignored.add(o.Key)
	case unsafe:
		x.refused.add(o.Key)
	case isSizes:
		p := x.number(n.path)
		x.sizes[p] = ""
		if o.Key != sizesKey(x.prefix, n.path) {
			x.sizes[p] = strings.Clone(o.Key)
		}
	case isDescr:
		key := strings.TrimSuffix(o.Key, manifestSuffix)
		if key == x.last {
			x.entries[len(x.entries)-1].flags |= flagDescribed
			return
		}
		x.descr = append(x.descr, x.entry(Object{Key: key}, n, outside))
	case isTomb, isDoom:
		x.entomb(o, n)
	case isObject:
		x.fixed = x.fixed || o.Fixed
		if o.Size <= 0 {
			if !outside {
				x.hollow = append(x.hollow, hollow{spot{n.edge.To, strings.Clone(n.path)}, n.edge, strings.Clone(o.Key)})
			} else {
				x.empty.add(o.Key)
			}
			return
		}
		x.entries = append(x.entries, x.entry(o, n, outside))
		x.last = o.Key
	}
}

func (x *scanner) entry(o Object, n named, outside bool) entry {
	e := entry{to: n.edge.To, from: n.edge.From, size: o.Size, tag: strings.Clone(o.Tag), form: uint8(slices.Index(forms, n.form))}
	if !o.Modified.IsZero() {
		e.modified = o.Modified.UnixMicro()
	}
	odd := oddity{class: o.Class}
	if outside {
		e.flags |= flagOutside
		if o.Key != streamKey("", n.path, n.edge, n.form) {
			odd.key = o.Key
		}
		n.path = "/" + n.path
	} else if o.Key != streamKey(x.prefix, n.path, n.edge, n.form) {
		odd.key = o.Key
	}
	if o.Cold {
		e.flags |= flagCold
	}
	if odd != (oddity{}) {
		e.odd = x.shared(odd)
	}
	e.path = x.number(n.path)
	return e
}

// shared returns an oddity that all objects share which have the same.
func (x *scanner) shared(odd oddity) *oddity {
	if odd.key != "" {
		return &oddity{key: strings.Clone(odd.key), class: strings.Clone(odd.class)}
	}
	if x.odd[odd] == nil {
		odd.class = strings.Clone(odd.class)
		x.odd[odd] = &odd
	}
	return x.odd[odd]
}

func (x *scanner) number(p string) uint32 {
	n, ok := x.numbers[p]
	if !ok {
		p = strings.Clone(p)
		n = uint32(len(x.paths))
		x.paths = append(x.paths, p)
		x.numbers[p] = n
	}
	return n
}

// catalogue puts in order what has been seen.
func (x *scanner) catalogue() *catalogue {
	x.settle()
	c := &catalogue{prefix: x.prefix, tombs: x.tombsByKey(), fixed: x.fixed}
	const unused = ^uint32(0)
	used := make([]bool, len(x.paths))
	for i := range x.entries {
		used[x.entries[i].path] = true
	}
	order := make([]uint32, 0, len(x.paths))
	for i := range used {
		if used[i] {
			order = append(order, uint32(i))
		}
	}
	slices.SortFunc(order, func(i, j uint32) int { return strings.Compare(x.paths[i], x.paths[j]) })
	renamed := make([]uint32, len(x.paths))
	for i := range renamed {
		renamed[i] = unused
	}
	c.paths = make([]string, len(order))
	for i, old := range order {
		c.paths[i], renamed[old] = x.paths[old], uint32(i)
	}
	for old, key := range x.sizes {
		if p := renamed[old]; p != unused {
			if c.sizes == nil {
				c.sizes = map[uint32]string{}
			}
			c.sizes[p] = key
		}
	}
	c.entries = slices.Clone(x.entries)
	for i := range c.entries {
		c.entries[i].path = renamed[c.entries[i].path]
	}
	slices.SortFunc(c.entries, func(a, b entry) int { return a.compare(&b) })
	for i := range x.descr {
		d := x.descr[i]
		if d.path = renamed[d.path]; d.path == unused {
			continue
		}
		if j, ok := slices.BinarySearchFunc(c.entries, d, func(a, b entry) int { return a.compare(&b) }); ok {
			c.entries[j].flags |= flagDescribed
		}
	}
	c.first = make([]uint32, len(c.paths))
	for i := len(c.entries) - 1; i >= 0; i-- {
		c.first[c.entries[i].path] = uint32(i)
	}
	return c
}

// keepNeeded drops what is outside and in no chain of a snapshot that is inside
// and has none there.
func (x *scanner) keepNeeded(g *graph) {
	inside := g.rooted(func(e *entry) bool { return e.has(flagOutside) })
	all := g.rooted(nil)
	needed := make([]bool, len(g.start))
	var look []int
	for n := range g.start {
		if !inside[n] && all[n] && g.inside(n, nil) {
			needed[n] = true
			look = append(look, n)
		}
	}
	use := func(e *entry) bool {
		n, ok := g.node(e.from)
		return e.from.IsZero() || ok && all[n]
	}
	for len(look) > 0 {
		n := look[len(look)-1]
		look = look[:len(look)-1]
		for i := g.start[n]; i < g.end(n); i++ {
			e := &g.c.entries[i]
			if from, ok := g.node(e.from); ok && use(e) && !needed[from] {
				needed[from] = true
				look = append(look, from)
			}
		}
	}
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool {
		n, _ := g.node(e.to)
		return e.has(flagOutside) && !(needed[n] && use(&e))
	})
}

// complaints are what the listing has met.
func (x *scanner) complaints(c *catalogue) []string {
	w := x.warnings
	for _, h := range x.hollow {
		x.empty.add(h.key)
	}
	for _, t := range []struct {
		tally
		one, many string
	}{
		{x.ignored, "Ignoring %d object that is none of an archive's: %s", "Ignoring %d objects that are none of an archive's: %s"},
		{x.refused, "Ignoring %d object whose key leads elsewhere: %s", "Ignoring %d objects whose keys lead elsewhere: %s"},
		{x.empty, "Ignoring %d object that is empty: %s", "Ignoring %d objects that are empty: %s"},
		{c.shared(), "At %d path there are several snapshots: %s", "At %d paths there are several snapshots: %s"},
		{
			newGraph(c).unrooted(), "%d snapshot cannot be restored, since what it starts from is not there: %s",
			"%d snapshots cannot be restored, since what they start from is not there: %s",
		},
	} {
		switch {
		case t.n == 1:
			w = append(w, fmt.Sprintf(t.one, t.n, t.String()))
		case t.n > 1:
			w = append(w, fmt.Sprintf(t.many, t.n, t.String()))
		}
	}
	return w
}

// shared counts the paths at which there are several snapshots.
func (c *catalogue) shared() (t tally) {
	seen := map[uint32]bool{}
	for i := range c.entries {
		if e := &c.entries[i]; !e.has(flagOutside) && c.entries[c.first[e.path]].to != e.to && !seen[e.path] {
			seen[e.path] = true
			t.add(c.paths[e.path])
		}
	}
	return t
}

// List returns what is in the archive.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	began := s.began()
	x, c, err := s.scan(ctx)
	if err != nil {
		return nil, err
	}
	inv := &snapshot.Inventory{Archive: true, Dir: "/" + s.o.Prefix, Warnings: x.complaints(c)}
	inv.Edges, inv.Snapshots = c.edges(), c.snapshots()
	// What nothing can be made of was there once. Who wants all has to be told that
	// it cannot be had.
	seen := map[snapshot.ID]bool{}
	for _, lost := range x.hollow {
		if from, end := c.to(lost.id); from == end && !seen[lost.id] {
			seen[lost.id] = true
			inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: lost.id, Path: lost.path})
		}
	}
	slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	if err := s.unfinished(ctx, inv); err != nil {
		return nil, err
	}
	s.learn(c, began)
	return inv, nil
}

// edges returns each edge once, with what the best of its objects takes.
func (c *catalogue) edges() []snapshot.Stored {
	var all []snapshot.Stored
	for i := 0; i < len(c.entries); {
		best := i
		j := i + 1
		for ; j < len(c.entries) && c.entries[j].edge() == c.entries[i].edge(); j++ {
			if e, b := &c.entries[j], &c.entries[best]; e.has(flagCold) == b.has(flagCold) && e.size < b.size || b.has(flagCold) && !e.has(flagCold) {
				best = j
			}
		}
		all = append(all, snapshot.Stored{Edge: c.entries[i].edge(), Size: snapshot.ExactSize(c.entries[best].size)})
		i = j
	}
	return all
}

// snapshots returns each snapshot to which an edge leads.
func (c *catalogue) snapshots() []snapshot.Snapshot {
	var all []snapshot.Snapshot
	var places []uint32 // of one snapshot: those inside first
	for i := 0; i < len(c.entries); {
		places = places[:0]
		to := c.entries[i].to
		for ; i < len(c.entries) && c.entries[i].to == to; i++ {
			places = append(places, c.entries[i].path)
		}
		outside := func(p uint32) bool { return strings.HasPrefix(c.paths[p], "/") }
		slices.SortFunc(places, func(p, q uint32) int {
			if outside(p) != outside(q) {
				if outside(p) {
					return 1
				}
				return -1
			}
			return int(p) - int(q)
		})
		places = slices.Compact(places)
		var s snapshot.Snapshot
		for n, p := range places {
			one := snapshot.Snapshot{ID: to, Path: c.paths[p], Outside: outside(p)}
			if n == 0 {
				s = one
			} else {
				s.Copies = append(s.Copies, one)
			}
		}
		all = append(all, s)
	}
	return all
}
