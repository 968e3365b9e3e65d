package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/outstanding"
	"github.com/buttersink/buttersink/internal/store"
)

// owed is a store's record of the transfers that were begun and not finished
// (store.LocksNote), while a run is at work on it. It may be used by several
// goroutines.
type owed struct {
	place string
	book  store.Notebook // nil if nothing is to be written

	mu  sync.Mutex
	was []byte // as it is in the store
	all *outstanding.Transfers
}

// readOwed reads the record of a store; a store that keeps no notes has an empty
// one, which is kept in memory only, as is that of a dry run.
func readOwed(ctx context.Context, st store.Store, dry bool) (*owed, error) {
	w := &owed{place: st.String()}
	book, ok := st.(store.Notebook)
	if !ok {
		w.all, _ = outstanding.Parse(nil)
		return w, nil
	}
	w.book = book
	if err := w.read(ctx); err != nil {
		return nil, err
	}
	if dry {
		w.book = nil
	}
	return w, nil
}

func (w *owed) read(ctx context.Context) error {
	text, err := w.book.ReadNote(ctx, store.LocksNote)
	if err != nil {
		return fmt.Errorf("reading which transfers from %s are unfinished: %w", w.place, err)
	}
	all, err := outstanding.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: reading %s: %w; repair the file, or remove it if nothing is being transferred", w.place, store.LocksNote, err)
	}
	w.was, w.all = text, all
	return nil
}

// change changes the record, which is durable when it returns nil. Do reports
// whether it has changed anything; where somebody else has written meanwhile, it
// is called again on what is there then.
func (w *owed) change(ctx context.Context, do func(*outstanding.Transfers) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for try := 1; ; try++ {
		all := w.all.Clone() // what could not be written down is not so
		if !do(all) {
			return nil
		}
		if w.book == nil {
			w.all = all
			return nil
		}
		text := all.Format()
		err := w.book.WriteNote(ctx, store.LocksNote, text, w.was)
		if err == nil {
			w.was, w.all = text, all
			return nil
		}
		if !errors.Is(err, store.ErrNoteChanged) || try == registerTries {
			return fmt.Errorf("noting in %s which transfers are unfinished: %w", w.place, err)
		}
		if err := w.read(ctx); err != nil {
			return err
		}
	}
}

// names returns the snapshots that are locked for a destination in a way.
func (w *owed) names(destination string, kind outstanding.Kind) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, name := range w.all.Names() {
		if slices.Contains(w.all.Destinations(name, kind), destination) {
			names = append(names, name)
		}
	}
	return names
}

// destinations returns the destinations to which snapshots of the given names
// have been begun.
func (w *owed) destinations(of func(name string) bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for _, name := range w.all.Names() {
		if !of(name) {
			continue
		}
		for _, id := range w.all.Destinations(name, outstanding.Sent) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// reasons says of each snapshot, by name, why it is locked.
func (w *owed) reasons() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]string{}
	for _, name := range w.all.Names() {
		sent, from := w.all.Destinations(name, outstanding.Sent), w.all.Destinations(name, outstanding.Parent)
		switch {
		case len(sent) > 0:
			all[name] = "locked: an unfinished transfer to " + strings.Join(sent, ", ")
		case len(from) > 0:
			all[name] = "locked: an unfinished transfer to " + strings.Join(from, ", ") + " starts from it"
		}
	}
	return all
}
