package glacier

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// doubt is how long an inventory may go on telling of an archive after it was
// deleted, with clocks that differ.
const doubt = 48 * time.Hour

// merged is what has to change in the catalogue after an inventory.
type merged struct {
	enter  map[string]*entry // objects
	strike []string          // keys
	forget []string          // archives that were deleted, which the inventory confirms
	closed []string          // uploads of which the inventory tells what became of them
	excess []string          // archives that are doubles
	proven []string          // names of doubles of which the inventory tells all
}

// merge compares what the catalogue has with an inventory:
//
//   - What we have stored ourselves stays, whether the inventory tells of it or not:
//     it may be newer. If it would have to tell of it, somebody else has deleted it.
//   - What an earlier inventory told of and this one does not is gone.
//   - What has been deleted from here does not come back.
//   - What is there twice through our own fault goes.
//   - Of several archives under one key that counts which the catalogue has, or else
//     the oldest.
func merge(c *contents, inventory *Inventory, log *slog.Logger) merged {
	m := merged{enter: map[string]*entry{}}
	listed := map[string]bool{}
	vanished := func(e *entry) bool {
		return e.Seen.IsZero() && !listed[e.ID] && inventory.asOf().After(e.Created.Add(doubt))
	}
	found := map[string][]*entry{}
	for _, a := range inventory.Archives {
		listed[a.ID] = true
		key, empty, ok := parseDescription(a.Description)
		if !ok || c.gone[a.ID] != nil {
			continue
		}
		if c.doubled(key, a) {
			m.excess = append(m.excess, a.ID)
			continue
		}
		e := entryOf(a, empty)
		e.Seen = inventory.Taken
		found[key] = append(found[key], e)
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		all := found[key]
		slices.SortFunc(all, func(a, b *entry) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
		})
		if len(all) > 1 {
			log.Warn(fmt.Sprintf("there are %d archives in the vault for one object; the oldest counts, unless another one is known here", len(all)), "key", key, "archive", all[0].ID)
		}
		have := c.objects[key]
		switch {
		case have == nil:
			m.enter[key] = all[0]
		case have.Seen.IsZero() && !vanished(have):
			// Ours, and newer than the inventory if that tells of others.
		case !slices.ContainsFunc(all, func(e *entry) bool { return e.ID == have.ID }):
			m.enter[key] = all[0]
		}
	}
	for key, have := range c.objects {
		if !have.Seen.IsZero() && have.Seen.Before(inventory.Taken) && found[key] == nil {
			m.strike = append(m.strike, key)
		}
		if vanished(have) {
			log.Warn("what was stored from here is not in the vault any more: it has been deleted from elsewhere", "key", key, "archive", have.ID)
			if found[key] == nil {
				m.strike = append(m.strike, key)
			}
		}
	}
	for id, g := range c.gone {
		if !g.Owed && !listed[id] && inventory.asOf().After(g.When.Add(doubt)) {
			m.forget = append(m.forget, id)
		}
	}
	for id, u := range c.closing {
		if inventory.asOf().After(u.Begun.Add(doubt)) {
			m.closed = append(m.closed, id)
		}
	}
	for name, d := range c.doubles {
		if inventory.asOf().After(d.When.Add(doubt)) {
			m.proven = append(m.proven, name)
		}
	}
	slices.Sort(m.strike)
	return m
}

// apply writes down what a merge has come to. What is to be deleted is deleted later.
func (b *bucket) apply(m merged) error {
	for _, id := range m.excess {
		b.log.Info("an archive is in the vault a second time, as a reply was lost or a run died; it is going to be deleted", "archive", id)
		if err := b.enter(gonePrefix+id, gone{When: b.now().UTC(), Owed: true}); err != nil {
			return err
		}
	}
	for _, name := range m.proven {
		if err := b.c.Strike(b.place, name); err != nil {
			return err
		}
	}
	for key, e := range m.enter {
		if err := b.enter(objectPrefix+escape(key), e); err != nil {
			return err
		}
	}
	for _, key := range m.strike {
		if err := b.c.Strike(b.place, objectPrefix+escape(key)); err != nil {
			return err
		}
	}
	for _, id := range m.forget {
		if err := b.c.Strike(b.place, gonePrefix+id); err != nil {
			return err
		}
	}
	for _, id := range m.closed {
		if err := b.c.Strike(b.place, closingPrefix+id); err != nil {
			return err
		}
	}
	return nil
}
