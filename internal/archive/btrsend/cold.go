package btrsend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// outputKept is how long what has been retrieved can be read at least.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-job-output-get.html
const outputKept = 24 * time.Hour

// inventoryOf reads the vault's inventory, once, and asks for it.
func (s *Store) inventoryOf(ctx context.Context) (*glacier.Inventory, error) {
	s.mu.Lock()
	inventory := s.inventory
	s.mu.Unlock()
	if inventory != nil {
		return inventory, nil
	}
	inventory, err := s.vault.Inventory(ctx, store.Bulk, true)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inventory = inventory
	return inventory, nil
}

// Thaw tells how things stand with archives, and asks for them. How long they stay
// readable is for the vault to say.
func (s *Store) Thaw(ctx context.Context, edges []snapshot.Edge, o store.ThawOptions) ([]store.Thawing, error) {
	all := make([]store.Thawing, len(edges))
	var ids []string
	var errs []error
	for i, e := range edges {
		all[i] = store.Thawing{Edge: e, State: store.Cold}
		b, err := s.of(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[i].Path, all[i].Object, all[i].Bytes, all[i].Class = b.path, b.Archive, b.Size, glacier.Class
		ids = append(ids, b.Archive)
	}
	if len(ids) == 0 {
		return all, errors.Join(errs...)
	}
	jobs, err := s.vault.Retrievals(ctx, ids, o.Tier, o.Ask)
	if err != nil {
		errs = append(errs, err)
	}
	for i := range all {
		j, ok := jobs[all[i].Object]
		if !ok {
			continue
		}
		all[i].State, all[i].Asked, all[i].Tier, all[i].Fresh = store.Pending, j.Asked, j.Tier, j.Fresh
		if !j.Done.IsZero() {
			all[i].State, all[i].Until = store.Readable, j.Done.Add(outputKept)
		}
	}
	return all, errors.Join(errs...)
}

// Tariff says whose prices hold.
func (s *Store) Tariff() *store.Tariff {
	t := s.vault.Tariff()
	if t != nil {
		t.PartSize = s.partSize(0)
	}
	return t
}

// Holdings gives the archives of all backups. From when on they have been stored is
// the date of the backup, where the database tells of it.
func (s *Store) Holdings(ctx context.Context) iter.Seq2[store.Holding, error] {
	return func(yield func(store.Holding, error) bool) {
		c, err := s.look(ctx)
		if err != nil {
			yield(store.Holding{}, err)
			return
		}
		for _, b := range c.all {
			if !yield(store.Holding{Edge: b.edge(), Path: b.path, Key: b.Archive, Class: glacier.Class, Bytes: b.Size, Since: b.created}, nil) {
				return
			}
		}
	}
}

// Recover writes the backups that the vault's inventory tells of into a database
// that has no row yet, and returns how many those are, and what is to be said about
// the others. What has been stored or deleted since the inventory was taken is not
// known to it: *store.PendingError says that there is none yet.
func (s *Store) Recover(ctx context.Context, into Rows) (n int, warnings []string, err error) {
	there, err := into.All(ctx)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("there are %d rows in it already, and only an empty one is filled", len(there))
	}
	if err != nil {
		return 0, nil, fmt.Errorf("filling a database from the inventory of %s: %w", s.vault, err)
	}
	c, err := s.fromInventory(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("filling a database from the inventory of %s: %w", s.vault, err)
	}
	for _, b := range c.all {
		if err := into.Add(ctx, b.Row); err != nil {
			return n, c.warnings, err
		}
		n++
	}
	return n, c.warnings, nil
}
