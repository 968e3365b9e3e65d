package btrsend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Verify compares the backups with the vault's inventory, and asks for one where
// there is none to be had: until it is there they are unchecked, and so are those that
// came after it was taken. With Data the streams that have been thawed are read, each
// to its end, and what is cold stays unchecked.
func (s *Store) Verify(ctx context.Context, o store.VerifyOptions) (*store.Verification, error) {
	c, err := s.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("verifying %s: %w", s, err)
	}
	s.mu.Lock()
	s.known = c
	s.mu.Unlock()
	v := &verifier{s: s, o: o, c: c, verdicts: map[snapshot.ID]store.Verdict{}}
	v.found = store.Verification{Streams: map[store.Verdict]int{}, Snapshots: map[store.Verdict]int{}}
	if !o.Data {
		inventory, err := s.inventoryOf(ctx)
		switch {
		case err == nil:
			v.inventory = inventory
		case errors.Is(err, store.ErrCold):
			v.why = err.Error()
		default:
			return nil, fmt.Errorf("verifying %s: %w", s, err)
		}
	}
	for _, b := range c.all {
		if o.Wanted == nil || o.Wanted(snapshot.Snapshot{ID: b.id, Path: b.path}) {
			v.wanted = append(v.wanted, b)
		}
	}
	if err := v.streams(ctx); err != nil {
		return &v.found, fmt.Errorf("verifying %s: %w", s, err)
	}
	v.snapshots()
	v.strays()
	return &v.found, nil
}

// strays tells of archives that no row tells of: those of runs that died when the
// vault had just confirmed them.
func (v *verifier) strays() {
	if v.inventory == nil || v.s.o.Rows == nil {
		return
	}
	for _, a := range v.inventory.Archives {
		if date, _, ok := ParseDescription(a.Description); ok && v.c.byID[ID(a.ID)] == nil {
			v.s.log.Warn("the vault's inventory has an archive that no row of the database tells of: unless it has been deleted since, it costs, and serves nothing",
				"archive", a.ID, "backup", date, "size", a.Size, "stored", a.Created)
		}
	}
}

// verifier is what Verify has found out so far.
type verifier struct {
	s         *Store
	o         store.VerifyOptions
	c         *catalogue
	inventory *glacier.Inventory // nil if there is none
	why       string             // there is none
	wanted    []*backup
	verdicts  map[snapshot.ID]store.Verdict
	read, of  int64
	found     store.Verification
}

// streams looks at all that lead to what is wanted.
func (v *verifier) streams(ctx context.Context) error {
	var all []*backup
	seen := map[snapshot.ID]bool{}
	for _, b := range v.wanted {
		for ; b != nil && !seen[b.id]; b = v.c.byID[b.from] {
			seen[b.id] = true
			all = append(all, b)
			v.of += b.Size
		}
	}
	for _, b := range all {
		verdict, why := v.compare(b)
		if v.o.Data {
			verdict, why = v.readAll(ctx, b)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.verdicts[b.id] = verdict
		v.found.Streams[verdict]++
		v.found.Undescribed++
		v.tell(store.Finding{Verdict: verdict, Edge: b.edge(), Path: b.path, Object: b.Archive, Why: why, Read: v.progress(b, verdict)})
	}
	return nil
}

func (v *verifier) tell(f store.Finding) {
	if v.o.Found != nil {
		v.o.Found(f)
	}
}

// progress counts what has been read of an archive, and returns it.
func (v *verifier) progress(b *backup, verdict store.Verdict) int64 {
	if !v.o.Data {
		return 0
	}
	n := b.Size
	if verdict == store.Sound {
		v.found.ReadWhole++
		v.found.Read += n
		v.read += n
	} else {
		n = 0
		v.of -= b.Size
	}
	if v.o.Progress != nil {
		v.o.Progress(v.read, v.of)
	}
	return n
}

// longestStoring is how many days it may take from the day of a snapshot until its
// archive is complete, and an inventory has it: terabytes take long over some lines.
const longestStoring = 21

// compare compares a backup with the inventory.
func (v *verifier) compare(b *backup) (store.Verdict, string) {
	if v.inventory == nil {
		return store.Unchecked, v.why
	}
	for _, a := range v.inventory.Archives {
		switch {
		case a.ID != b.Archive:
		case a.Size != b.Size:
			return store.Damaged, fmt.Sprintf("the vault has %d bytes of it, and there should be %d", a.Size, b.Size)
		default:
			return store.Sound, ""
		}
	}
	// The day of the snapshot is all that is known.
	if b.created.AddDate(0, 0, longestStoring).After(v.inventory.Taken) {
		return store.Unchecked, "the vault's inventory is of " + v.inventory.Taken.Format("2006-01-02 15:04 MST") + ", and may not have it yet"
	}
	return store.Damaged, "it is not in the vault's inventory of " + v.inventory.Taken.Format("2006-01-02 15:04 MST")
}

// readAll reads a stream to its end.
func (v *verifier) readAll(ctx context.Context, b *backup) (store.Verdict, string) {
	in, err := v.s.Open(ctx, store.Request{Edge: b.edge()})
	if err == nil {
		_, err = io.Copy(io.Discard, in)
		err = errors.Join(err, in.Close())
	}
	switch {
	case err == nil:
		return store.Sound, ""
	case isDamage(err):
		return store.Damaged, err.Error()
	}
	return store.Unchecked, err.Error() // cold, locked, or out of reach
}

// isDamage reports whether an error is a verdict on what is in an archive.
func isDamage(err error) bool {
	if _, ok := errors.AsType[*seal.DamagedError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*stream.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[*unfitError](err)
	return ok
}

// snapshots judges what is wanted by what leads to it.
func (v *verifier) snapshots() {
	for _, b := range v.wanted {
		verdict, why := store.Sound, ""
		seen := map[snapshot.ID]bool{}
		for on := b; verdict != store.Damaged; {
			if v.verdicts[on.id] != store.Sound {
				verdict, why = v.verdicts[on.id], fmt.Sprintf("the backup of %s is %s", on.path, v.verdicts[on.id])
			}
			if on.from.IsZero() {
				break
			}
			seen[on.id] = true
			next := v.c.byID[on.from]
			if next == nil || seen[next.id] {
				verdict, why = store.Damaged, fmt.Sprintf("the backup of %s, which that of %s builds on, is not there", on.Parent, on.path)
				break
			}
			on = next
		}
		v.found.Snapshots[verdict]++
		if verdict == store.Damaged {
			v.tell(store.Finding{Verdict: verdict, Edge: snapshot.Edge{To: b.id}, Path: b.path, Why: why})
		}
	}
}
