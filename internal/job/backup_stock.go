package job

import (
	"context"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// Standing is how a destination stands at the end of a run.
type Standing struct {
	// Newest is the path there of the newest of the run's snapshots that it has;
	// empty if it has none, or could not be listed.
	Newest string
	// Outstanding counts the snapshots that it shall have and does not; -1 if that is
	// not known.
	Outstanding int
	// AsOf is when the newest snapshot was made that the source had as it was decided
	// what goes there; zero if it had none, or if that is not known.
	AsOf time.Time
	// Chain counts the streams that having Newest back takes, in an archive; 0
	// elsewhere.
	Chain int
}

// takeStock finds out how each destination stands, by the last listing of it and what
// was brought there since. A run that is cut short has done what it could, so that
// nothing is listed for this.
func (b *backup) takeStock(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer stop()
	holds, err := b.src.List(ctx)
	if err == nil {
		b.newest = newestOf(b.made(holds), b.engine.now())
	}
	for _, d := range b.ends { // one by one: they look into the same listing
		d.Standing.Outstanding = -1
		if err == nil && d.has != nil {
			d.Standing = d.stand(ctx, d.stillHeld(holds))
		}
	}
}

// newestOf is when the newest of some snapshots was made. What is in the future counts
// only if all are.
func newestOf(all []place, now time.Time) (newest time.Time) {
	ahead := func(t time.Time) bool { return t.After(now.Add(schedule.Slack)) }
	for _, p := range all {
		switch {
		case p.Time.IsZero():
		case newest.IsZero(), ahead(newest) && p.Time.Before(newest), !ahead(p.Time) && p.Time.After(newest):
			newest = p.Time
		}
	}
	return newest
}

// stillHeld is what the source has of what it had as it was decided what goes to the
// destination. What others have made since is for the next run: it is neither missing
// there, nor proved to be there.
func (d *end) stillHeld(holds *snapshot.Inventory) *snapshot.Inventory {
	still := *holds
	still.Snapshots = slices.DeleteFunc(slices.Clone(holds.Snapshots), func(s snapshot.Snapshot) bool {
		_, seen := d.seen.Find(s.ID)
		return !seen
	})
	return &still
}

// stand is how a destination stands, by what the source holds.
func (d *end) stand(ctx context.Context, holds *snapshot.Inventory) Standing {
	s := Standing{AsOf: newestOf(d.run.made(holds), d.run.engine.now())}
	for id := range d.run.due(ctx, holds, d) {
		_, brought := d.brought[id]
		if there, ok := d.has.Find(id); !brought && (!ok || there.Outside) {
			s.Outstanding++
		}
	}
	newest, ok := d.run.newestCommon(holds, d.has)
	if ok {
		there, _ := d.has.Find(newest.ID)
		s.Newest = there.Path
		if d.has.Archive {
			s.Chain = 1 + len(plan.Needed(d.has, func(id snapshot.ID) bool { return id == newest.ID }))
		}
	}
	for _, p := range d.run.made(holds) {
		if step, brought := d.brought[p.ID]; brought && (!ok || p.Time.After(newest.Time)) {
			newest, ok = p, true
			s.Newest, s.Chain = step.Path, step.Chain
		}
	}
	return s
}
