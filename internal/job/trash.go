package job

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TrashOptions say what in the trash of a store is meant, and what is done with
// it.
type TrashOptions struct {
	// Names are paths of snapshots, their last elements, or handles. Empty means
	// everything.
	Names []string
	// Before drops what was removed at this time or later; zero drops nothing.
	Before time.Time
	// DryRun does nothing.
	DryRun bool
	// Planned is told what is going to be done, before any of it is. It may be
	// nil.
	Planned func([]store.Trashed)
	// Forecast is told what removing for good costs, where anybody bills that, before
	// anything is removed. It may be nil.
	Forecast func(*Early)
	// Done is told of each stream: done, would be, or why not. It may be nil.
	Done func(store.Trashed, error)
}

// NotInTrashError says that names stand for nothing that is in the trash.
type NotInTrashError struct {
	Store string
	Names []string
}

func (e *NotInTrashError) Error() string {
	return fmt.Sprintf("the trash of %s does not have %s", e.Store, strings.Join(e.Names, ", "))
}

// TrashError says that not all that was asked for has been done to the trash.
type TrashError struct {
	Verb         string // "restored"
	Wanted, Done int
	Failures     []error
}

func (e *TrashError) Error() string {
	return fmt.Sprintf("%d of %d streams have not been %s", e.Wanted-e.Done, e.Wanted, e.Verb)
}

// Unwrap returns the reasons.
func (e *TrashError) Unwrap() []error { return e.Failures }

// Trash answers what is in the trash of a store and is meant, the oldest first.
func (e *Engine) Trash(ctx context.Context, st store.Store, o TrashOptions) ([]store.Trashed, error) {
	_, all, err := e.trash(ctx, st)
	if err != nil {
		return nil, err
	}
	return o.meant(st, all)
}

// Restore puts back what is meant, and with an increment what it starts from,
// as far as that is in the trash too, parents first. It fails with
// *NotInTrashError before anything is done, and with *TrashError if some of it
// could not be done.
func (e *Engine) Restore(ctx context.Context, st store.Store, o TrashOptions) error {
	trash, all, err := e.trash(ctx, st)
	if err != nil {
		return err
	}
	meant, err := o.meant(st, all)
	if err != nil {
		return err
	}
	inv, err := e.list(ctx, st)
	if err != nil {
		return err
	}
	return o.carryOut(ctx, "restored", withParents(inv, meant, all), trash.Untrash)
}

// Empty removes what is meant for good. It fails like Restore.
func (e *Engine) Empty(ctx context.Context, st store.Store, o TrashOptions) error {
	trash, all, err := e.trash(ctx, st)
	if err != nil {
		return err
	}
	meant, err := o.meant(st, all)
	if err != nil {
		return err
	}
	if t := tariff(st); t != nil && o.Forecast != nil && len(meant) > 0 {
		var objects []bill.Object
		for _, x := range meant {
			objects = append(objects, bill.Object{Class: x.Class, Bytes: x.Size.Bytes, Since: x.Since})
		}
		o.Forecast(e.removing(t, objects))
	}
	return o.carryOut(ctx, "removed", meant, trash.Discard)
}

func (e *Engine) trash(ctx context.Context, st store.Store) (store.Trash, []store.Trashed, error) {
	trash, ok := st.(store.Trash)
	if !ok {
		return nil, nil, &UnableError{Store: st.String(), Verb: "give back what is removed from it"}
	}
	all, err := trash.Trashed(ctx)
	return trash, all, err
}

// meant are those of all that the options are about.
func (o TrashOptions) meant(st store.Store, all []store.Trashed) ([]store.Trashed, error) {
	found := make([]bool, len(o.Names))
	var meant []store.Trashed
	for _, t := range all {
		named := len(o.Names) == 0
		for i, name := range o.Names {
			if name = strings.Trim(name, "/"); t.Path == name || path.Base(t.Path) == name || strings.Trim(t.Handle, "/") == name {
				found[i], named = true, true
			}
		}
		if named && (o.Before.IsZero() || t.When.Before(o.Before)) {
			meant = append(meant, t)
		}
	}
	missing := &NotInTrashError{Store: st.String()}
	for i, ok := range found {
		if !ok {
			missing.Names = append(missing.Names, o.Names[i])
		}
	}
	if len(missing.Names) > 0 {
		return nil, missing
	}
	return meant, nil
}

// withParents adds to what is meant the streams in the trash without which it
// would be of no use, and puts each behind those that it needs.
func withParents(inv *snapshot.Inventory, meant, all []store.Trashed) []store.Trashed {
	there := map[snapshot.ID]bool{}
	for _, e := range inv.Edges {
		there[e.To] = true
	}
	to := map[snapshot.ID][]store.Trashed{}
	for _, t := range all {
		to[t.To] = append(to[t.To], t)
	}
	var ordered []store.Trashed
	taken := map[string]bool{}
	chosen := map[snapshot.ID][]store.Trashed{}
	for _, t := range meant {
		chosen[t.To] = append(chosen[t.To], t)
	}
	// Chains may be long, so this does not recurse.
	for _, first := range meant {
		stack := []store.Trashed{first}
		visited := map[string]bool{}
		for len(stack) > 0 {
			t := stack[len(stack)-1]
			if taken[t.Handle] {
				stack = stack[:len(stack)-1]
				continue
			}
			if !visited[t.Handle] {
				visited[t.Handle] = true
				if !t.IsFull() && !there[t.From] {
					needed := chosen[t.From]
					if len(needed) == 0 {
						needed = to[t.From]
					}
					n := len(stack)
					for _, p := range needed {
						if !visited[p.Handle] && !taken[p.Handle] {
							stack = append(stack, p)
						}
					}
					if len(stack) > n {
						continue
					}
				}
			}
			stack = stack[:len(stack)-1]
			taken[t.Handle] = true
			ordered = append(ordered, t)
		}
	}
	return ordered
}

// carryOut does one thing to each of some streams.
func (o TrashOptions) carryOut(ctx context.Context, verb string, streams []store.Trashed, do func(context.Context, store.Trashed) error) error {
	if o.Planned != nil {
		o.Planned(slices.Clone(streams))
	}
	failed := &TrashError{Verb: verb, Wanted: len(streams)}
	for _, t := range streams {
		if ctx.Err() != nil {
			return errors.Join(append([]error{context.Cause(ctx)}, failed.Failures...)...)
		}
		var err error
		if !o.DryRun {
			err = do(ctx, t)
		}
		if err != nil {
			failed.Failures = append(failed.Failures, fmt.Errorf("%s: %w", t.Path, err))
		} else {
			failed.Done++
		}
		if o.Done != nil {
			o.Done(t, err)
		}
	}
	if len(failed.Failures) > 0 {
		return failed
	}
	return nil
}
