package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// ice is what is known of a stream in cold storage.
type ice struct {
	class              string
	asks               int
	tier               store.Tier
	asked, ready, gone time.Time // the zero time where it has not been asked for
}

// SetArchive has the store list itself as an archive that keeps the streams of
// these edges, and give back no others, from now on. Receiving adds to it.
func (m *Memory) SetArchive(edges ...snapshot.Edge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams = append([]snapshot.Edge{}, edges...)
}

// Freeze puts the streams of edges into cold storage, where nobody has asked for
// them yet.
func (m *Memory) Freeze(class string, edges ...snapshot.Edge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range edges {
		m.cold[e] = &ice{class: class, asks: m.asks(e)}
	}
}

// Asks returns how often cold storage has been asked for the stream of an edge.
func (m *Memory) Asks(e snapshot.Edge) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asks(e)
}

func (m *Memory) asks(e snapshot.Edge) int {
	if c := m.cold[e]; c != nil {
		return c.asks
	}
	return 0
}

// SetClock gives the store another clock, to which what Advance says is added.
// Without one, time passes by Advance alone.
func (m *Memory) SetClock(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now
}

// Advance lets time pass.
func (m *Memory) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed += d
}

// time is what the store's clock says.
func (m *Memory) time() time.Time {
	if m.now != nil {
		return m.now().Add(m.passed)
	}
	return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).Add(m.passed)
}

// SetTariff has somebody get a bill for the store.
func (m *Memory) SetTariff(t store.Tariff) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tariff = &t
}

// ThawTime is how long it takes here until what was asked for can be read.
func ThawTime(t store.Tier) time.Duration {
	switch t {
	case store.Expedited:
		return 5 * time.Minute
	case store.Standard:
		return 12 * time.Hour
	}
	return 48 * time.Hour
}

// listStreams makes the inventory of an archive out of that of a live store.
func (m *Memory) listStreams(inv *snapshot.Inventory) {
	if m.streams == nil {
		return
	}
	inv.Archive, inv.Lineage = true, nil
	leads := map[snapshot.ID]bool{}
	for _, e := range m.streams {
		if raw, err := m.encoded(e); err == nil {
			leads[e.To] = true
			inv.Edges = append(inv.Edges, snapshot.Stored{Edge: e, Size: snapshot.ExactSize(int64(len(raw)))})
		}
	}
	inv.Snapshots = slices.DeleteFunc(inv.Snapshots, func(s snapshot.Snapshot) bool { return !leads[s.ID] })
}

// encoded is the stream of an edge between two snapshots that are held.
func (m *Memory) encoded(e snapshot.Edge) ([]byte, error) {
	to, from := m.find(e.To), m.find(e.From)
	switch {
	case to == nil || from == nil && !e.IsFull():
		return nil, store.ErrNotFound
	case e.IsFull():
		return encode(to, nil)
	}
	return encode(to, from)
}

// readable fails where an archive does not keep the stream of an edge, or it is
// cold.
func (m *Memory) readable(e snapshot.Edge) error {
	if m.streams != nil && !slices.Contains(m.streams, e) {
		return fmt.Errorf("the stream of %s from %s: %w", e.To, e.From, store.ErrNotFound)
	}
	if c := m.cold[e]; c != nil && c.state(m.time()) != store.Readable {
		return fmt.Errorf("the stream of %s (%s): %w", e.To, c.class, store.ErrCold)
	}
	return nil
}

func (c *ice) state(now time.Time) store.ThawState {
	switch {
	case c.asked.IsZero() || !now.Before(c.gone):
		return store.Cold
	case now.Before(c.ready):
		return store.Pending
	}
	return store.Readable
}

// Thaw implements store.Thawer. Nothing is expedited from the class DEEP_ARCHIVE.
func (m *Memory) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("thawing streams of %s: %w", m, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now, tier := m.time(), cmp.Or(o.Tier, store.Bulk)
	var all []store.Thawing
	var errs []error
	for _, e := range edges {
		t := store.Thawing{Edge: e, State: store.Readable}
		raw, err := m.encoded(e)
		if err == nil && m.streams != nil && !slices.Contains(m.streams, e) {
			err = store.ErrNotFound
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("thawing the stream of %s from %s: %w", e.To, e.From, err))
			t.State = store.Cold
			all = append(all, t)
			continue
		}
		to := m.find(e.To)
		t.Path, t.Object, t.Bytes = to.Path, e.To.String()+"/"+e.From.String(), int64(len(raw))
		if c := m.cold[e]; c != nil {
			t.Class, t.State = c.class, c.state(now)
			switch {
			case t.State != store.Cold || !o.Ask:
			case tier == store.Expedited && c.class == "DEEP_ARCHIVE":
				errs = append(errs, fmt.Errorf("thawing %s: nothing is expedited from %s", to.Path, c.class))
			default:
				c.asks++
				c.tier, c.asked, c.ready = tier, now, now.Add(ThawTime(tier))
				c.gone = c.ready.AddDate(0, 0, cmp.Or(o.Days, 7))
				t.State, t.Fresh = store.Pending, true
			}
			if t.State != store.Cold {
				t.Asked, t.Tier = c.asked, c.tier
			}
			if t.State == store.Readable {
				t.Until = c.gone
			}
		}
		all = append(all, t)
	}
	return all, errors.Join(errs...)
}

// Tariff implements store.Billed.
func (m *Memory) Tariff() *store.Tariff {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tariff
}

// Holdings implements store.Billed: the streams of an archive.
func (m *Memory) Holdings(ctx context.Context) iter.Seq2[store.Holding, error] {
	return func(yield func(store.Holding, error) bool) {
		m.mu.Lock()
		var all []store.Holding
		for _, e := range m.streams {
			raw, err := m.encoded(e)
			if err != nil {
				continue
			}
			h := store.Holding{Edge: e, Path: m.find(e.To).Path, Key: e.To.String() + "/" + e.From.String(), Bytes: int64(len(raw)), Since: m.find(e.To).Created}
			if c := m.cold[e]; c != nil {
				h.Class = c.class
			}
			all = append(all, h)
		}
		m.mu.Unlock()
		for _, h := range all {
			if err := ctx.Err(); err != nil {
				yield(store.Holding{}, err)
				return
			}
			if !yield(h, nil) {
				return
			}
		}
	}
}
