package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// How many objects are looked at at once: where only manifests are read, which is
// waiting, and where all of each object is, which is work too.
const (
	looksAtOnce = 24
	readsAtOnce = 4
)

// progressEach is how many bytes are read between two reports of progress.
const progressEach = 1 << 20

// Verify implements store.Verifier. What could not be read, or not be opened, is
// Unchecked, except that bytes which are not those of the manifest are Damaged
// without a key too. A stream with a damaged manifest is Damaged, whatever the
// stream itself is like, since one of the two is not what was stored.
//
// Besides what List holds it takes six bytes for each stream, and while it reads
// data, for each of the few objects that it reads at once, what reading that for a
// transfer takes.
func (s *Store) Verify(ctx context.Context, o store.VerifyOptions) (*store.Verification, error) {
	if o.Write {
		if _, err := s.marked(ctx); err != nil {
			s.log.Warn("streams without a manifest do not get one", "error", err)
			o.Write = false
		}
	}
	inv, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	v := &verifier{
		s: s, o: o, chains: newChains(known),
		found: &store.Verification{Streams: map[store.Verdict]int{}, Snapshots: map[store.Verdict]int{}},
	}
	var wanted []snapshot.Snapshot
	for _, snap := range inv.Snapshots {
		if !snap.Outside && (o.Wanted == nil || o.Wanted(snap)) {
			wanted = append(wanted, snap)
		}
	}
	streams := v.selected(wanted)
	if err := v.lookAtAll(ctx, streams); err != nil {
		return v.found, err
	}
	if err := v.lookForLost(ctx); err != nil {
		return v.found, fmt.Errorf("looking for manifests without streams: %w", err)
	}
	v.judgeAll(wanted)
	return v.found, nil
}

// verifier is one run of Verify.
type verifier struct {
	s      *Store
	o      store.VerifyOptions
	chains *chains

	mu       sync.Mutex // for what follows, verdicts of streams, and calls of o.Found and o.Progress
	found    *store.Verification
	read, of int64
	told     int64 // of read
}

// selected are the streams that may be part of a chain to what is wanted; where
// nothing was selected, all others of the archive too.
func (v *verifier) selected(wanted []snapshot.Snapshot) []uint32 {
	var all []uint32
	for i, needed := range v.chains.needed(wanted) {
		e := &v.chains.c.entries[i]
		if needed || v.o.Wanted == nil && !e.has(flagOutside) {
			all = append(all, uint32(i))
			v.of += e.size
		}
	}
	return all
}

// lookAtAll looks at streams, several at a time, until ctx ends.
func (v *verifier) lookAtAll(ctx context.Context, streams []uint32) error {
	next := make(chan uint32)
	var workers sync.WaitGroup
	atOnce := looksAtOnce
	if v.o.Data {
		atOnce = readsAtOnce
	}
	for range min(atOnce, len(streams)) {
		workers.Go(func() {
			for i := range next {
				o := v.chains.c.object(&v.chains.c.entries[i])
				v.record(ctx, i, o, v.look(ctx, o))
			}
		})
	}
	for _, i := range streams {
		if ctx.Err() != nil {
			break
		}
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// record counts what was found out about a stream, unless ctx has ended: then
// that may be what says so.
func (v *verifier) record(ctx context.Context, i uint32, o *stored, r result) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	v.chains.grades[i] = r.grade
	v.found.Read += r.read
	if r.whole {
		v.found.ReadWhole++
	}
	if r.described {
		v.found.Described++
	}
	if !r.manifest && !r.described {
		v.found.Undescribed++
	}
	v.count(store.Finding{Verdict: verdictOf[r.grade], Edge: o.Edge, Path: o.Path, Object: o.Key, Why: r.why, Read: r.read})
	v.progress(0, o.Size-r.read) // what was not read will not be
}

// count tells of a finding about a stream. It is called with the lock held.
func (v *verifier) count(f store.Finding) {
	v.found.Streams[f.Verdict]++
	if v.o.Found != nil {
		v.o.Found(f)
	}
}

// passed counts bytes that have just been read.
func (v *verifier) passed(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress(int64(n), 0)
}

// progress is called with the lock held.
func (v *verifier) progress(read, less int64) {
	v.read += read
	v.of -= less
	if v.o.Data && v.o.Progress != nil && (v.read-v.told >= progressEach || v.read == v.of) {
		v.told = v.read
		v.o.Progress(v.read, v.of)
	}
}

// lookForLost looks for what is left of streams that are not there: objects that
// are empty, and manifests without any, of which whoever keeps to docs/format.md
// leaves none.
func (v *verifier) lookForLost(ctx context.Context) error {
	s := v.s
	for listed, err := range s.bucket.List(ctx, below(s.o.Prefix, "")) {
		if err != nil {
			return err
		}
		n := parseKey(s.o.Prefix, listed.Key)
		if stream, _ := cutBeside(listed.Key); v.chains.c.tombs[stream] != nil && v.chains.c.tombs[stream].found {
			continue // it has been removed
		}
		if n.kind == isObject && listed.Size <= 0 {
			v.lost(store.Finding{Verdict: store.Damaged, Edge: n.edge, Path: n.path, Object: listed.Key, Why: "it is empty"})
			continue
		}
		if n.kind != isDescr || v.chains.has(strings.TrimSuffix(listed.Key, manifestSuffix), n) {
			continue
		}
		key := strings.TrimSuffix(listed.Key, manifestSuffix)
		f := store.Finding{
			Verdict: store.Damaged, Edge: n.edge, Path: n.path, Object: key,
			Why: "it is not there, and its manifest is: it has been lost, or removed by something that leaves manifests behind",
		}
		switch _, err := s.bucket.Stat(ctx, key); {
		case err == nil:
			continue // it is empty, has come since, or is written in another way
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, ErrNoObject):
			f.Verdict, f.Why = store.Unchecked, err.Error()
		}
		v.lost(f)
	}
	return nil
}

// lost counts a stream that is not there, if its snapshot is meant.
func (v *verifier) lost(f store.Finding) {
	if v.o.Wanted != nil && !v.o.Wanted(snapshot.Snapshot{ID: f.Edge.To, Path: f.Path}) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count(f)
}

// judgeAll says of each snapshot how the best of its chains is.
func (v *verifier) judgeAll(wanted []snapshot.Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	whole, known := v.chains.reached(sound), v.chains.reached(unchecked)
	for _, snap := range wanted {
		n, ok := v.chains.node(snap.ID)
		verdict := store.Damaged
		switch {
		case !ok: // only remains are there
		case whole[n]:
			verdict = store.Sound
		case known[n]:
			verdict = store.Unchecked
		}
		v.found.Snapshots[verdict]++
		if verdict == store.Damaged && v.o.Found != nil {
			v.o.Found(store.Finding{Verdict: verdict, Edge: snapshot.Edge{To: snap.ID}, Path: snap.Path, Why: v.chains.why(snap.ID)})
		}
	}
}
