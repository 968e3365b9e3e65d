package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Memory is a live store that is kept in memory: it has every ability that
// package store knows, gives real streams, and carries out those that it is
// given on a model of a snapshot's files. It may be used by several goroutines.
//
// What it holds is said by its Add methods. A snapshot is a state of a made-up
// tree, named by a family and a generation: the same name gives the same
// identity, transaction number and content in every Memory, so a state can be
// added to two stores as if it had been sent from one to the other.
type Memory struct {
	name string

	mu       sync.Mutex
	bulk     int
	held     []*held
	partials []snapshot.Partial
	occupied map[string]string
	writing  map[string]bool // paths of open writers
	busy     int
	clock    uint64 // the store's transaction number
	made     uint64 // subvolumes made so far
	holder   string
	locked   bool
	taking   bool                               // LockTaking
	sizes    map[string]map[snapshot.Edge]int64 // by path

	every       int64 // see SetCheckpoints
	checkpoints map[string]checkpoint

	origin      string            // the family that Snapshot makes states of
	latest      map[string]uint64 // by family: the highest generation that was here
	notes       map[string][]byte
	unreclaimed int // removed since the last Reclaim

	streams []snapshot.Edge // see SetArchive; nil for a live store
	cold    map[snapshot.Edge]*ice
	passed  time.Duration // see Advance
	now     func() time.Time
	tariff  *store.Tariff
}

// held is one copy of a snapshot.
type held struct {
	snapshot.Snapshot
	tree   tree
	proven snapshot.Trust // what Prove finds out
}

var _ interface {
	store.Store
	store.Source
	store.Sink
	store.Copier
	store.Chooser
	store.Inspector
	store.Remover
	store.Measurer
	store.SizeKeeper
	store.Prover
	store.Locker
	store.Located
	store.Snapshotter
	store.TakeLocker
	store.Notebook
	store.Reclaimer
	store.Leftovers
	store.Thawer
	store.Billed
} = (*Memory)(nil)

// NewMemory returns an empty store that is called by the given name.
func NewMemory(name string) *Memory {
	return &Memory{
		name: name, occupied: map[string]string{}, writing: map[string]bool{},
		sizes: map[string]map[snapshot.Edge]int64{}, checkpoints: map[string]checkpoint{},
		latest: map[string]uint64{}, notes: map[string][]byte{}, cold: map[snapshot.Edge]*ice{},
	}
}

// IDOf returns the identity of a family's state at a generation.
func IDOf(family string, generation uint64) snapshot.ID { return derive("state", family, generation) }

// live is the UUID of the writable subvolume that a family's snapshots are of.
func live(family string) snapshot.ID { return derive("live", family, 0) }

func derive(kind, name string, n uint64) snapshot.ID {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", kind, name)
	binary.Write(h, binary.BigEndian, n)
	return snapshot.ID(h.Sum(nil)[:16])
}

// SetBulk gives every snapshot that is added from now on a file of n random
// bytes besides, different in each, to make streams long.
func (m *Memory) SetBulk(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bulk = n
}

// Add adds a snapshot that was made in this store, at a path, and returns it as
// List will.
func (m *Memory) Add(family string, generation uint64, path string) snapshot.Snapshot {
	id := IDOf(family, generation)
	return m.add(family, generation, snapshot.Snapshot{ID: id, UUID: id, Pristine: true, Parent: live(family), Path: path, Generation: generation})
}

// AddReceived adds a snapshot as one that came with a stream.
func (m *Memory) AddReceived(family string, generation uint64, path string) snapshot.Snapshot {
	return m.add(family, generation, snapshot.Snapshot{ID: IDOf(family, generation), Received: true, Path: path})
}

// AddOutside adds a snapshot that was made on the store's file system, and lies
// outside of its directory.
func (m *Memory) AddOutside(family string, generation uint64, path string) snapshot.Snapshot {
	id := IDOf(family, generation)
	return m.add(family, generation, snapshot.Snapshot{ID: id, UUID: id, Pristine: true, Parent: live(family), Path: path, Generation: generation, Outside: true})
}

func (m *Memory) add(family string, generation uint64, s snapshot.Snapshot) snapshot.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at(s.Path, s.Outside) != nil {
		panic("storetest: " + s.Path + " is taken")
	}
	s.Transid = generation
	m.latest[family] = max(m.latest[family], generation)
	h := &held{Snapshot: s, tree: treeOf(family, generation, m.bulk)}
	m.keep(h)
	return h.Snapshot
}

// keep puts a snapshot in, with the numbers that a file system gives.
func (m *Memory) keep(h *held) {
	m.made++
	if h.UUID.IsZero() {
		h.UUID = derive("received", fmt.Sprintf("%s %p", m.name, m), m.made)
	}
	m.clock = max(m.clock+1, h.Generation)
	if h.Generation == 0 {
		h.Generation = m.clock
	}
	h.Handle = 255 + m.made
	h.Created = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(m.clock) * time.Hour)
	m.held = append(m.held, h)
}

// AddPartial adds something unfinished, at a path that ends in
// snapshot.PartSuffix.
func (m *Memory) AddPartial(path string, ours bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partials = append(m.partials, snapshot.Partial{Path: path, Ours: ours, Why: "added by a test"})
}

// Occupy puts something at a path that is no snapshot.
func (m *Memory) Occupy(path, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.occupied[path] = what
}

// SetTrust sets what List reports of every copy of a snapshot, and what Prove
// will find.
func (m *Memory) SetTrust(id snapshot.ID, listed, proven snapshot.Trust) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.held {
		if h.ID == id {
			h.Trust, h.proven = listed, proven
		}
	}
}

// Digest returns a text that is the same for two snapshots exactly when their
// files are, and nothing for a snapshot that is not held.
func (m *Memory) Digest(id snapshot.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.find(id)
	if h == nil {
		return ""
	}
	return h.tree.digest()
}

// Busy returns how many streams and writers are open.
func (m *Memory) Busy() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.busy
}

func (m *Memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy--
}

// find returns a copy of a snapshot, one inside the directory if there is one.
func (m *Memory) find(id snapshot.ID) *held {
	var outside *held
	for _, h := range m.held {
		switch {
		case h.ID != id:
		case h.Outside:
			outside = h
		default:
			return h
		}
	}
	return outside
}

func (m *Memory) at(path string, outside bool) *held {
	for _, h := range m.held {
		if h.Path == path && h.Outside == outside {
			return h
		}
	}
	return nil
}

// String returns the store's name.
func (m *Memory) String() string { return "memory " + m.name }

// Location tells each Memory from every other.
func (m *Memory) Location() string { return fmt.Sprintf("memory:%p", m) }

// Close does nothing: tests look at stores after they were closed.
func (m *Memory) Close() error { return nil }

// List implements store.Store.
func (m *Memory) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("listing %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	inv := &snapshot.Inventory{Lineage: map[snapshot.ID]snapshot.ID{}, Occupied: m.taken()}
	byPath := slices.SortedFunc(slices.Values(m.held), func(a, b *held) int {
		switch {
		case a.Outside != b.Outside && b.Outside:
			return -1
		case a.Outside != b.Outside:
			return 1
		}
		return strings.Compare(a.Path, b.Path)
	})
	index := map[snapshot.ID]int{}
	for _, h := range byPath {
		if !h.Parent.IsZero() {
			inv.Lineage[h.UUID] = h.Parent
		}
		if i, ok := index[h.ID]; ok {
			inv.Snapshots[i].Copies = append(inv.Snapshots[i].Copies, h.Snapshot)
			continue
		}
		index[h.ID] = len(inv.Snapshots)
		inv.Snapshots = append(inv.Snapshots, h.Snapshot)
	}
	slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	inv.Partials = slices.Clone(m.partials)
	for p := range m.writing {
		inv.Partials = append(inv.Partials, snapshot.Partial{Path: p + snapshot.PartSuffix, Ours: true, Why: "is being received"})
	}
	for p, c := range m.checkpoints {
		if !m.writing[p] {
			inv.Partials = append(inv.Partials, c.partial(p))
		}
	}
	slices.SortFunc(inv.Partials, func(a, b snapshot.Partial) int { return strings.Compare(a.Path, b.Path) })
	m.listStreams(inv)
	return inv, nil
}

// taken maps every path at which nothing can be made to what is there.
func (m *Memory) taken() map[string]string {
	taken := maps.Clone(m.occupied)
	directory := func(p string) {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			taken[d] = "a directory"
		}
	}
	for p := range m.occupied {
		directory(p)
	}
	for _, h := range m.held {
		if !h.Outside {
			directory(h.Path)
			taken[h.Path] = "a snapshot with another identity, " + h.ID.Short()
		}
	}
	return taken
}

// inside fails where a path is not clean, leaves the directory, or is that of
// something unfinished.
func (m *Memory) inside(p string) error {
	if p == "" || p == "." || p != path.Clean(p) || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") {
		return fmt.Errorf("%q is no path inside %s", p, m)
	}
	if snapshot.IsPart(p) {
		return fmt.Errorf("%q is the name of something unfinished", p)
	}
	return nil
}

// free fails where nothing can be made at a path.
func (m *Memory) free(p string) error {
	if err := m.inside(p); err != nil {
		return err
	}
	if m.writing[p] {
		return &store.ExistsError{Path: p, What: "being received"}
	}
	taken := m.taken()
	if what := taken[p]; what != "" {
		return &store.ExistsError{Path: p, What: what}
	}
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if what := taken[d]; what != "" && what != "a directory" {
			return &store.ExistsError{Path: d, What: what}
		}
	}
	return nil
}

// Choose implements store.Chooser. All copies of a state are equal here.
func (m *Memory) Choose(id snapshot.ID, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.at(path, false); h == nil || h.ID != id {
		return fmt.Errorf("%s: %w: %s at %s", m, store.ErrNotFound, id, path)
	}
	return nil
}

// Inspect implements store.Inspector.
func (m *Memory) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ways := map[string]string{}
	var errs []error
	for _, p := range paths {
		err := m.free(p)
		if e, ok := errors.AsType[*store.ExistsError](err); ok {
			ways[p] = e.What
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return ways, errors.Join(errs...)
}

// Open implements store.Source.
func (m *Memory) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	raw, err := m.stream(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("opening a stream of %s: %w", m, err)
	}
	m.mu.Lock()
	m.busy++
	m.mu.Unlock()
	return &reader{ctx: ctx, rest: raw, release: sync.OnceFunc(m.release)}, nil
}

// stream makes the stream of an edge. It makes no use of the clone sources, but
// wants them to be there.
func (m *Memory) stream(ctx context.Context, r store.Request) ([]byte, error) {
	e := r.Edge
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.readable(e); err != nil {
		return nil, err
	}
	to := m.find(e.To)
	if to == nil {
		return nil, fmt.Errorf("%s: %w", e.To, store.ErrNotFound)
	}
	for _, c := range r.Clones {
		if m.find(c) == nil {
			return nil, fmt.Errorf("clone source %s: %w", c, store.ErrNotFound)
		}
	}
	if e.IsFull() {
		return encode(to, nil)
	}
	from := m.find(e.From)
	if from == nil {
		return nil, fmt.Errorf("parent %s: %w", e.From, store.ErrNotFound)
	}
	return encode(to, from)
}

// reader is an open stream.
type reader struct {
	ctx     context.Context
	mu      sync.Mutex
	rest    []byte
	closed  bool
	release func()
}

func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return 0, errors.New("reading a stream that is closed")
	case r.ctx.Err() != nil:
		return 0, r.ctx.Err()
	case len(r.rest) == 0:
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.release()
	return nil
}

// Estimate implements store.Measurer. It is a tenth too high.
func (m *Memory) Estimate(ctx context.Context, r store.Request) (snapshot.Size, error) {
	raw, err := m.stream(ctx, r)
	if err != nil {
		return snapshot.Size{}, fmt.Errorf("estimating a stream of %s: %w", m, err)
	}
	return snapshot.AboutSize(int64(len(raw) + len(raw)/10)), nil
}

// Measure implements store.Measurer.
func (m *Memory) Measure(ctx context.Context, r store.Request) (snapshot.Size, error) {
	raw, err := m.stream(ctx, r)
	if err != nil {
		return snapshot.Size{}, fmt.Errorf("measuring a stream of %s: %w", m, err)
	}
	return snapshot.ExactSize(int64(len(raw))), nil
}

// Form implements store.Measurer.
func (m *Memory) Form(store.Request) string { return "memory" }

// Prove implements store.Prover.
func (m *Memory) Prove(ctx context.Context, s snapshot.Snapshot) (snapshot.Trust, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Doubtful, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.at(s.Path, s.Outside)
	if h == nil || h.ID != s.ID {
		return snapshot.Doubtful, fmt.Errorf("proving %s: %w", s.Path, store.ErrNotFound)
	}
	return h.proven, nil
}

// Lock implements store.Locker.
func (m *Memory) Lock(ctx context.Context, who string) (func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, &store.LockedError{Store: m.String(), Holder: m.holder}
	}
	m.locked, m.holder = true, who
	return sync.OnceValue(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.locked = false
		return nil
	}), nil
}
