package btrsend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// backup is an archive that is a backup.
type backup struct {
	Row
	path    string // the date, or for another one of a date, something like it
	id      snapshot.ID
	from    snapshot.ID // zero for a complete one
	created time.Time
}

// catalogue is what there is.
type catalogue struct {
	all      []*backup // in order of the dates
	byID     map[snapshot.ID]*backup
	warnings []string
}

// at returns the backup at a path; nil if there is none.
func (c *catalogue) at(path string) *backup {
	for _, b := range c.all {
		if b.path == path {
			return b
		}
	}
	return nil
}

// List returns the backups that the database has, or, where there is none, the
// vault's inventory: then *store.PendingError says that it is not there yet.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	c, err := s.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s, err)
	}
	inv := &snapshot.Inventory{Archive: true, Dir: "/", Warnings: c.warnings}
	for _, b := range c.all {
		inv.Snapshots = append(inv.Snapshots, snapshot.Snapshot{ID: b.id, Path: b.path})
		inv.Edges = append(inv.Edges, snapshot.Stored{Edge: b.edge(), Size: snapshot.ExactSize(b.Size)})
	}
	slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = c
	return inv, nil
}

func (b *backup) edge() snapshot.Edge { return snapshot.Edge{To: b.id, From: b.from} }

// look finds out what there is.
func (s *Store) look(ctx context.Context) (*catalogue, error) {
	if s.o.Rows != nil {
		rows, err := s.o.Rows.All(ctx)
		if err != nil {
			return nil, err
		}
		all := make([]*backup, len(rows))
		for i, r := range rows {
			all[i] = &backup{Row: r, created: dayOf(r.Date)}
		}
		return catalogueOf(all), nil
	}
	return s.fromInventory(ctx)
}

// fromInventory finds out what there was when the vault looked last.
func (s *Store) fromInventory(ctx context.Context) (*catalogue, error) {
	inventory, err := s.inventoryOf(ctx)
	if err != nil {
		return nil, err
	}
	var all []*backup
	for _, a := range inventory.Archives {
		if date, parent, ok := ParseDescription(a.Description); ok {
			all = append(all, &backup{Row: Row{Archive: a.ID, Date: date, Parent: parent, Size: a.Size}, created: a.Created})
		}
	}
	all, warnings := unambiguous(all)
	c := catalogueOf(all)
	c.warnings = append(warnings, c.warnings...)
	c.warnings = append(c.warnings, fmt.Sprintf("This is what %s held on %s; what has come or gone since is not known without btrsend's database.",
		s.vault, inventory.Taken.Format("2006-01-02 15:04 MST")))
	return c, nil
}

// dayOf is the beginning of a day; zero if there is no such.
func dayOf(date string) time.Time {
	d, err := schedule.ReadDate(date)
	if err != nil {
		return time.Time{}
	}
	return time.Date(d.Year, time.Month(d.Month), d.Day, 0, 0, 0, 0, time.UTC)
}

// catalogueOf finds out what builds on what. Of several backups of one date the
// first is the one that others mean.
func catalogueOf(all []*backup) *catalogue {
	c := &catalogue{all: all, byID: map[snapshot.ID]*backup{}}
	slices.SortStableFunc(all, func(a, b *backup) int { return dayOf(a.Date).Compare(dayOf(b.Date)) })
	dates := map[string]*backup{}
	more := map[string]int{}
	for _, b := range all {
		b.id, b.path = ID(b.Archive), b.Date
		c.byID[b.id] = b
		if dates[b.Date] == nil {
			dates[b.Date] = b
			more[b.Date] = 1
			continue
		}
		more[b.Date]++
		b.path = fmt.Sprintf("%s.%d", b.Date, more[b.Date])
		c.warnings = append(c.warnings, fmt.Sprintf("There are several backups of %s in the database: archive %s is listed as %s, and no calendar removes it.", b.Date, b.Archive, b.path))
	}
	for _, b := range all {
		switch on := dates[b.Parent]; {
		case b.Parent == "":
		case on == nil || on == b:
			b.from = missing(b.Parent)
			c.warnings = append(c.warnings, fmt.Sprintf("The backup of %s cannot be restored: that of %s, which it builds on, is not there.", b.Date, b.Parent))
		default:
			b.from = on.id
		}
	}
	return c
}

// unambiguous leaves out what descriptions do not tell for sure: which of several
// archives is the backup of a date, and what builds on such a one.
func unambiguous(all []*backup) (sure []*backup, warnings []string) {
	ids := map[string][]string{}
	for _, b := range all {
		ids[b.Date] = append(ids[b.Date], b.Archive)
	}
	doubtful := map[string]bool{}
	for _, b := range all {
		if some := ids[b.Date]; len(some) > 1 && !doubtful[b.Date] {
			doubtful[b.Date] = true
			warnings = append(warnings, fmt.Sprintf("There are %d archives that are said to be the backup of %s (%s), so it is left out: "+
				"delete those that are not, or write those that are into a database, and name it with the option database.",
				len(some), b.Date, strings.Join(some[:min(len(some), 3)], ", ")))
		}
	}
	for more := true; more; {
		more = false
		for _, b := range all {
			if !doubtful[b.Date] && doubtful[b.Parent] {
				doubtful[b.Date], more = true, true
				warnings = append(warnings, fmt.Sprintf("The backup of %s is left out, as it builds on that of %s.", b.Date, b.Parent))
			}
		}
	}
	sure = slices.DeleteFunc(slices.Clone(all), func(b *backup) bool { return doubtful[b.Date] })
	slices.SortStableFunc(sure, func(a, b *backup) int { return strings.Compare(a.Date, b.Date) })
	return sure, warnings
}
