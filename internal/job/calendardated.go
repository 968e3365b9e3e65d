package job

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// dated is what a store has of the backups of a calendar.
type dated struct {
	inv     *snapshot.Inventory
	backups []DatedBackup // in order of their dates
}

// noDate is the date of a parent that has none, or is not there: before all others,
// and not the zero Date, since what builds on it is not complete.
var noDate = schedule.Date{Year: 0, Month: 1, Day: 1}

// dated lists the backups of a calendar: what lies in the directory and is called
// by a date. Others in the store are none of its business.
func (e *Engine) dated(ctx context.Context, st store.Store, prefix string) (*dated, error) {
	inv, err := e.list(ctx, st)
	if err != nil {
		return nil, err
	}
	if !inv.Archive {
		return nil, &UnableError{Store: st.String(), Verb: "keep a calendar: it holds snapshots, and no streams that build on each other"}
	}
	c := &dated{inv: inv}
	dates := map[snapshot.ID]schedule.Date{}
	for _, s := range inv.Inside() {
		for _, at := range copies(s) {
			in, name := path.Split(at.Path)
			if strings.Trim(in, "/") != strings.Trim(prefix, "/") {
				continue
			}
			if date, err := schedule.ReadDate(name); err == nil {
				dates[s.ID] = date
				c.backups = append(c.backups, DatedBackup{Backup: schedule.Backup{Date: date}, Snapshot: at})
				break
			}
		}
	}
	parents := map[snapshot.ID]schedule.Date{}
	complete := map[snapshot.ID]bool{}
	for _, edge := range inv.Edges {
		if edge.IsFull() {
			complete[edge.To] = true
			continue
		}
		if date := dates[edge.From]; date.Compare(parents[edge.To]) > 0 {
			parents[edge.To] = date
		}
	}
	for i := range c.backups {
		b := &c.backups[i]
		switch parent := parents[b.Snapshot.ID]; {
		case complete[b.Snapshot.ID]:
		case parent.IsZero():
			b.Parent = noDate
		default:
			b.Parent = parent
		}
	}
	slices.SortStableFunc(c.backups, func(a, b DatedBackup) int { return a.Date.Compare(b.Date) })
	return c, nil
}

// rows are the backups as the calendar knows them.
func (c *dated) rows() []schedule.Backup {
	rows := make([]schedule.Backup, 0, len(c.backups))
	for _, b := range c.backups {
		rows = append(rows, b.Backup)
	}
	return rows
}

// find returns what the store has of some backups, in their order.
func (c *dated) find(rows []schedule.Backup) []DatedBackup {
	taken := map[snapshot.ID]bool{}
	var found []DatedBackup
	for _, row := range rows {
		i := slices.IndexFunc(c.backups, func(b DatedBackup) bool { return b.Backup == row && !taken[b.Snapshot.ID] })
		if i >= 0 {
			taken[c.backups[i].Snapshot.ID] = true
			found = append(found, c.backups[i])
		}
	}
	return found
}

// namer is a store that does not keep the identities of streams: those that it
// lists are its own. A stream is announced to it with that of the parent as it lists
// it, and whether the parent is the right one only the store can tell, if it can.
type namer interface {
	// OwnIdentities reports whether that is so.
	OwnIdentities() bool
}

// takeDated takes the stream of the backup that was decided on.
func (e *Engine) takeDated(ctx context.Context, st store.Store, c *dated, o CalendarOptions, report *CalendarReport) error {
	given := transfer.Given{
		In: o.In, From: o.From, Destination: st,
		Want: func(edge snapshot.Edge, transid, fromTransid uint64) (store.Want, error) {
			want := store.Want{Edge: edge, Transid: transid, FromTransid: fromTransid, Path: path.Join(o.Prefix, o.Today.String())}
			var err error
			want.Edge, err = c.announce(st, edge, report.Decision.Parent)
			return want, err
		},
		Events: func(event transfer.Event) {
			if o.Event != nil {
				o.Event(event)
			}
		},
	}
	if e.Ledger != nil {
		given.Ledger = e.Ledger
	}
	var err error
	report.Result, err = transfer.Take(ctx, given)
	return err
}

// announce compares what a stream says of itself with what was asked for, and
// returns the edge as the store knows it.
func (c *dated) announce(st store.Store, edge snapshot.Edge, parent schedule.Date) (snapshot.Edge, error) {
	switch {
	case parent.IsZero() && edge.IsFull():
		return edge, nil
	case parent.IsZero():
		return edge, &GivenError{Want: "a complete stream", Found: "the stream of an increment on " + edge.From.String()}
	case edge.IsFull():
		return edge, &GivenError{Want: fmt.Sprintf("an increment on %s", parent), Found: "a complete stream"}
	}
	// The newest one counts, as it does for a chain.
	i := len(c.backups) - 1
	for ; i >= 0 && c.backups[i].Date != parent; i-- {
	}
	if i < 0 {
		return edge, fmt.Errorf("the backup of %s is not there any more: %w", parent, store.ErrNotFound)
	}
	on := c.backups[i].Snapshot
	if n, ok := st.(namer); ok && n.OwnIdentities() {
		edge.From = on.ID
		return edge, nil
	}
	if edge.From != on.ID {
		return edge, &GivenError{
			Want:  fmt.Sprintf("an increment on %s, which is %s", parent, on.ID),
			Found: "the stream of an increment on " + edge.From.String(),
		}
	}
	return edge, nil
}
