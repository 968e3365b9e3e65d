package glacier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// Thaw tells how things stand with objects, and asks for those that are cold. It is
// archive.Thawer's.
func (b *bucket) Thaw(ctx context.Context, keys []string, o store.ThawOptions) ([]store.Thawing, error) {
	thawings := make([]store.Thawing, len(keys))
	entries := make([]*entry, len(keys))
	var errs []error
	var ids []string
	for i, key := range keys {
		e, err := b.lookup(ctx, "thawing", key)
		if err != nil && !errors.Is(err, archive.ErrNoObject) {
			return nil, err
		}
		thawings[i] = store.Thawing{Object: key, State: store.Cold}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries[i] = e
		object := e.object(key)
		thawings[i].Bytes, thawings[i].Class = object.Size, object.Class
		if e.readable() {
			thawings[i].State = store.Readable
			continue
		}
		ids = append(ids, e.ID)
	}
	if len(ids) == 0 {
		return thawings, errors.Join(errs...)
	}
	jobs, err := b.Retrievals(ctx, ids, o.Tier, o.Ask)
	if jobs == nil {
		return nil, err
	}
	if err != nil {
		errs = append(errs, err)
	}
	for i, e := range entries {
		if e == nil || e.readable() {
			continue
		}
		j, ok := jobs[e.ID]
		if !ok {
			continue
		}
		t := &thawings[i]
		t.State, t.Asked, t.Tier, t.Fresh = store.Pending, j.Asked, j.Tier, j.Fresh
		if !j.Done.IsZero() {
			t.State, t.Until = store.Readable, j.Done.Add(OutputKept)
			b.remember(e.ID, j)
		}
	}
	return thawings, errors.Join(errs...)
}

// remember keeps a job whose output is there.
func (v *Vault) remember(id string, j Job) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.jobs[id] = j
}

// fill fetches the contents of small objects of which only the inventory has told,
// and asks for those that have not been asked for: all of them in one go, as who
// wants one of them wants them all. It returns the entry of one, or
// *store.PendingError.
func (b *bucket) fill(ctx context.Context, key string) (*entry, error) {
	const soon = 5 * time.Hour // of the tier standard
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, err := b.find(key); err != nil || e != nil && e.readable() {
		return e, err
	}
	now := b.now()
	if b.waits != nil && now.Sub(b.filled) < lookEvery && !now.Before(b.filled) {
		return nil, b.waits
	}
	b.waits = nil
	c, err := b.load()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range c.objects {
		if !e.readable() && e.Size <= inlineUploads {
			ids = append(ids, e.ID)
		}
	}
	jobs, err := b.Retrievals(ctx, ids, store.Standard, true)
	if jobs == nil {
		return nil, err
	}
	pending := &store.PendingError{What: fmt.Sprintf("what describes the streams in %s", b.Vault)}
	for k, e := range c.objects {
		j, ok := jobs[e.ID]
		if !ok || e.readable() {
			continue
		}
		if j.Done.IsZero() {
			if j.Asked.After(pending.Asked) {
				pending.Asked, pending.Due = j.Asked, j.Asked.Add(soon)
			}
			continue
		}
		b.remember(e.ID, j)
		switch err := b.fetch(ctx, k, e); {
		case err == nil:
		case k == key || ctx.Err() != nil:
			return nil, err
		default:
			b.log.Warn("a small object cannot be read out of the vault", "key", k, "because", err)
		}
	}
	e, missing := b.find(key)
	switch {
	case missing != nil || e == nil:
		return nil, errors.Join(missing, archive.ErrNoObject)
	case e.readable():
		return e, nil
	}
	if _, ok := jobs[e.ID]; !ok {
		return nil, err // it could not be asked for
	}
	b.waits, b.filled = pending, now
	return nil, pending
}

// fetch reads a small object and puts its content into the catalogue.
func (b *bucket) fetch(ctx context.Context, key string, e *entry) error {
	in, err := b.Vault.Get(ctx, e.ID, 0, e.Size)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(in)
	in.Close()
	if err != nil {
		return err
	}
	var tree TreeHasher
	_, _ = tree.Write(data)
	if got := tree.Sum().String(); got != e.Tree {
		return fmt.Errorf("archive %s has the tree hash %s, and the inventory says %s", e.ID, got, e.Tree)
	}
	// Another process may have replaced or deleted it meanwhile.
	if have, err := b.find(key); err != nil || have == nil || have.ID != e.ID {
		return err
	}
	e.Inline, e.Content = true, data
	return b.enter(objectPrefix+escape(key), e)
}

// ready has the catalogue tell what is in the vault.
func (b *bucket) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known {
		return nil
	}
	c, err := b.load()
	if err != nil {
		return err
	}
	if c, err = b.recognise(ctx, c); err != nil {
		return err
	}
	if !c.state.Known {
		if err := b.takeInventory(ctx, c); err != nil {
			return err
		}
		b.known = true
		return nil
	}
	b.finish(ctx, c)
	if c.state.Settled && b.suspicious(c) {
		if err := b.unsettle(); err != nil {
			return err
		}
		c.state.Settled = false
	}
	if !c.state.Settled {
		switch err := b.takeInventory(ctx, c); {
		case err == nil:
		case errors.Is(err, store.ErrCold):
			b.log.Info("what was stored in the vault last may not be known here; a newer inventory will tell", "because", err)
		default:
			b.log.Warn("what was stored in the vault last may not be known here, and its inventory cannot be had now", "because", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.known = true
	return nil
}

// takeInventory brings the catalogue up to date with the vault's inventory. An
// inventory is a day behind: what was stored in the meantime the next one tells.
func (b *bucket) takeInventory(ctx context.Context, c *contents) error {
	inventory, err := b.Inventory(ctx, store.Standard, true)
	if err != nil {
		return err
	}
	// Reading it may have taken long, and other processes have gone on.
	vault, made := c.state.Vault, c.state.Made
	if c, err = b.load(); err != nil {
		return err
	}
	settles := inventory.asOf().After(c.state.After)
	if c.state.Known && (inventory.Taken.Before(c.state.Taken) || inventory.Taken.Equal(c.state.Taken) && !settles) {
		return nil
	}
	if err := b.apply(merge(c, inventory, b.log)); err != nil {
		return err
	}
	s := c.state
	s.Vault, s.Made = vault, made
	if !s.Known {
		s.After = inventory.Asked
	}
	s.Known, s.Taken, s.Merged = true, inventory.Taken, b.now().UTC()
	s.Settled = inventory.asOf().After(s.After)
	return b.enter(stateName, s)
}

// finish does what runs that died have left to do. What does not work is left to
// another run.
func (b *bucket) finish(ctx context.Context, c *contents) {
	used := map[string]bool{}
	for _, e := range c.objects {
		used[e.ID] = true
	}
	for id, g := range c.gone {
		// What an object still is was to be replaced by a run that did not get there.
		if g.Owed && !used[id] {
			b.discard(ctx, id)
		}
	}
	for id, u := range c.closing {
		if err := b.close(ctx, c, id, u); err != nil {
			b.log.Warn("an upload could not be completed; another run tries again", "key", u.Key, "because", err)
		}
	}
}
