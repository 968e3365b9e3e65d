package transfer

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// The measures of a Fan.
const (
	fanChunk  = 256 << 10
	fanWindow = 128 // chunks: 32 MiB
	fanAhead  = 4   // chunks that are read before anybody asks for them
	// fanWindows is how many full windows there are in all, and fanLeast how many
	// chunks a stream may have even when those are used up.
	fanWindows = 2
	fanLeast   = 8

	// fanGather is how long the first that asks for a stream waits for others.
	fanGather = 2 * time.Second
	// fanPatience is for how long, in total, those that are ahead wait for those
	// that are behind by the whole window, together with one fanShare-th of the
	// time that the stream has taken so far: what is behind has to read all of that
	// again. They never wait for longer than fanStill at one go.
	fanPatience = time.Second
	fanShare    = 20
	fanStill    = 10 * time.Second
)

// Fan reads a source once for several runs that want the same stream at about
// the same time. One that opens a stream waits up to two seconds for others that
// are going to want it and have nothing else on their way; who comes later joins
// as long as the beginning is in memory.
//
// Each run is on its own otherwise. One that cannot keep up is cut loose after a
// short time: it goes on with a stream that is opened anew, of which it compares
// the beginning, by digest, with what it has had (store.ErrAnother if that
// differs). Where several cannot keep up with one, they share that stream in turn.
// What the source has to say, errors too, reaches all; what a run does reaches no
// other.
//
// The memory in use is a window of 32 MiB for a stream that is shared, and 64 MiB
// for all of them, with 2 MiB for each that comes when that is used up. Short
// streams that have ended and that somebody is yet to ask for have half of it at
// most. There are no goroutines but those of streams that somebody reads.
//
//	fan := transfer.NewFan(src)
//	run := fan.Run() // one for each destination, before any of them opens a stream
//	defer run.Close()
//	run.Expect(requests)
//	transfer.Run(ctx, steps, transfer.Options{Source: src, Destination: dst, Streams: run})
type Fan struct {
	from                 store.Source
	chunk, window, ahead int

	mu     sync.Mutex // of everything beneath, too
	runs   []*FanRun
	shared []*shared // those that can be joined, the oldest first
	used   int       // chunks of all streams
}

// NewFan returns a Fan that reads from a source.
func NewFan(from store.Source) *Fan {
	return &Fan{from: from, chunk: fanChunk, window: fanWindow, ahead: fanAhead}
}

// Run returns the source of one of the runs. It is given to Options.Streams.
func (f *Fan) Run() *FanRun {
	r := &FanRun{fan: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = append(f.runs, r)
	return r
}

// FanRun is a Fan as one run sees it. Its methods may be called at the same time.
type FanRun struct {
	fan    *Fan
	told   bool           // what it expects
	wants  map[fanKey]int // how often it is yet to ask for a stream
	open   int            // streams on their way
	missed bool           // it was waited for in vain, and has opened nothing since
}

// fanKey is what requests for the same stream have in common.
type fanKey struct {
	edge   snapshot.Edge
	clones string
}

func keyOf(q store.Request) fanKey {
	return fanKey{q.Edge, store.FormWithClones("", q.Clones)}
}

// Expect says which streams the run is going to ask for, so that it is waited
// for a moment when another run asks for one of them. It takes the place of what
// was said before. Of a run that has said nothing yet, anything is expected.
func (r *FanRun) Expect(all []store.Request) {
	r.fan.mu.Lock()
	defer r.fan.mu.Unlock()
	r.told, r.wants = true, map[fanKey]int{}
	for _, q := range all {
		r.wants[keyOf(q)]++
	}
	r.fan.changed()
}

// Close says that the run asks for nothing more. Streams that it has open remain
// so.
func (r *FanRun) Close() {
	f := r.fan
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = slices.DeleteFunc(f.runs, func(x *FanRun) bool { return x == r })
	f.changed()
}

// Open starts a stream, like store.Source. It says how long the stream is
// (store.Lengthy) if the source does.
func (r *FanRun) Open(ctx context.Context, q store.Request) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening a stream: %w", context.Cause(ctx))
	}
	f, key := r.fan, keyOf(q)
	f.mu.Lock()
	r.begins()
	s := f.joinable(r, key)
	if s == nil && !f.awaited(key, func(x *FanRun) bool { return x != r }) {
		f.mu.Unlock()
		in, err := f.from.Open(ctx, q)
		return r.alone(key, in, err)
	}
	if s == nil {
		s = f.share(ctx, q)
	}
	reader := newFanReader(ctx, r, s)
	err := reader.opened()
	f.mu.Unlock()
	if err != nil {
		_ = reader.Close() // why there is no stream has been said
		return nil, err
	}
	return reader, nil
}

// joinable finds a stream from whose start a run can read on.
func (f *Fan) joinable(r *FanRun, key fanKey) *shared {
	for _, s := range f.shared {
		if s.key == key && !s.had[r] {
			return s
		}
	}
	return nil
}

// awaited reports whether any of the runs that matter may yet ask for a stream.
func (f *Fan) awaited(key fanKey, matters func(*FanRun) bool) bool {
	return slices.ContainsFunc(f.runs, func(x *FanRun) bool {
		return matters(x) && (!x.told || x.wants[key] > 0)
	})
}

// changed has all that depends on what the runs are about looked at again.
func (f *Fan) changed() {
	kept := 0                                  // chunks
	for _, s := range slices.Clone(f.shared) { // those that are behind want the oldest first
		s.changed.Broadcast()
		if !s.idle() {
			continue
		}
		kept += len(s.chunks)
		if kept > f.window || !f.awaited(s.key, func(x *FanRun) bool { return !s.had[x] }) {
			kept -= len(s.chunks)
			s.retire()
		}
	}
}

// begins notes that the run asks for a stream.
func (r *FanRun) begins() {
	r.open++
	r.missed = false
	r.fan.changed()
}

// ends notes that the run is done with one.
func (r *FanRun) ends() {
	r.open--
	r.fan.changed()
}

// has notes that the run has had a stream whole.
func (r *FanRun) has(key fanKey) {
	if r.wants[key] > 0 {
		r.wants[key]--
	}
}

// source is the run as a source that can do what the Fan's can.
func (r *FanRun) source() store.Source {
	if c, ok := r.fan.from.(store.Continuer); ok {
		return continuingRun{r, c}
	}
	return r
}

// continuingRun is a FanRun of a source that can leave out the beginning. What is
// carried on is not shared: hardly ever have two been interrupted at one place.
type continuingRun struct {
	*FanRun
	from store.Continuer
}

// OpenAfter implements store.Continuer.
func (r continuingRun) OpenAfter(ctx context.Context, q store.Request, after store.Mark) (io.ReadCloser, []byte, error) {
	r.fan.mu.Lock()
	r.begins()
	r.fan.mu.Unlock()
	in, state, err := r.from.OpenAfter(ctx, q, after)
	rest, err := r.alone(keyOf(q), in, err)
	return rest, state, err
}

// lone is a stream that is not shared.
type lone struct {
	io.ReadCloser
	run    *FanRun
	key    fanKey
	whole  bool
	closed bool
}

// alone takes a stream of which nobody else wants anything.
func (r *FanRun) alone(key fanKey, in io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		r.fan.mu.Lock()
		defer r.fan.mu.Unlock()
		r.ends()
		return nil, err
	}
	return &lone{ReadCloser: in, run: r, key: key}, nil
}

func (l *lone) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err == io.EOF && !l.whole {
		l.whole = true
		l.run.fan.mu.Lock()
		defer l.run.fan.mu.Unlock()
		l.run.has(l.key)
	}
	return n, err
}

// Length implements store.Lengthy.
func (l *lone) Length() snapshot.Size { return lengthOf(l.ReadCloser) }

func (l *lone) Close() error {
	err := l.ReadCloser.Close()
	l.run.fan.mu.Lock()
	defer l.run.fan.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.run.ends()
	}
	return err
}

func lengthOf(in io.ReadCloser) snapshot.Size {
	if l, ok := in.(store.Lengthy); ok {
		return l.Length()
	}
	return snapshot.Size{}
}
