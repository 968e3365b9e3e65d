package transfer

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// shared is a stream that several runs read. A goroutine of its own, pump, reads
// it from the source into a window of chunks, from the one in which the hindmost
// reader is to a little ahead of the foremost.
type shared struct {
	fan     *Fan
	request store.Request
	key     fanKey
	ctx     context.Context // lives as long as somebody reads
	stop    context.CancelFunc
	changed *sync.Cond
	ended   chan struct{} // closed when pump has ended

	// had are the runs that have read it, or do. None gets it a second time: one
	// that asks again has had it damaged.
	had     map[*FanRun]bool
	readers []*fanReader
	// due are readers that were cut loose from another stream, and come here when
	// they have read what they hold of it.
	due  map[*fanReader]bool
	heir bool // it was made for them

	listed  bool // it can be joined: its start is in the window
	started bool // pump is
	opened  bool
	retired bool // nobody reads it, and nobody will
	proven  bool // somebody has read it to its end
	length  snapshot.Size
	err     error // how it has ended
	closing error // what closing it gave

	chunks []*chunk
	base   int64 // which chunk of the stream the first of them is
	head   int64 // how much of the stream has been read
	spare  *chunk
	sum    hash.Hash // of that; belongs to pump, nil if nobody needs it any more

	begun   time.Time // it, or the last to join
	blocked bool      // the window is full, and those that are ahead want more
	since   time.Time
	waited  time.Duration // before that
	cuts    int
	alarm   *time.Timer
}

// chunk is a piece of a stream. What is in data does not change any more.
type chunk struct {
	data   []byte
	digest [sha256.Size]byte // of the stream up to its end, once it is full
	kept   bool              // somebody who was cut loose reads it
}

// share makes a stream that can be joined. It is opened when somebody does.
func (f *Fan) share(ctx context.Context, q store.Request) *shared {
	s := &shared{
		fan: f, request: q, key: keyOf(q), changed: sync.NewCond(&f.mu), ended: make(chan struct{}),
		had: map[*FanRun]bool{}, due: map[*fanReader]bool{}, listed: true, sum: sha256.New(),
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.shared = append(f.shared, s)
	return s
}

// join adds a reader.
func (s *shared) join(r *fanReader) {
	delete(s.due, r)
	s.had[r.run] = true
	s.readers = append(s.readers, r)
	s.begun, s.waited = time.Now(), 0 // it owes nothing for what was before
	if !s.since.IsZero() {
		s.since = s.begun
	}
	if !s.started {
		s.started = true
		go s.pump()
	}
	s.fan.changed()
}

// leave takes a reader away. The last one ends the stream, unless it is short and
// whole and somebody may yet want it.
func (s *shared) leave(r *fanReader) {
	delete(s.due, r)
	s.readers = slices.DeleteFunc(s.readers, func(x *fanReader) bool { return x == r })
	s.assess()
	switch {
	case len(s.readers)+len(s.due) > 0:
		s.changed.Broadcast()
	case s.idle():
		s.fan.changed()
	default:
		s.retire()
	}
}

// idle reports whether the stream is kept for those who may yet want it.
func (s *shared) idle() bool {
	return s.listed && s.proven && len(s.readers)+len(s.due) == 0
}

// unlist keeps others from joining.
func (s *shared) unlist() {
	s.listed = false
	s.fan.shared = slices.DeleteFunc(s.fan.shared, func(x *shared) bool { return x == s })
}

// retire ends the stream. Who was cut loose from it may hold on to it for long, and
// not to what is in its window.
func (s *shared) retire() {
	s.unlist()
	s.fan.used -= len(s.chunks)
	s.chunks, s.spare = nil, nil
	s.retired = true
	s.stop()
	s.changed.Broadcast()
}

// pump reads the stream from the source.
func (s *shared) pump() {
	defer close(s.ended)
	s.fan.mu.Lock()
	defer s.fan.mu.Unlock()
	s.gather()
	if s.retired {
		return
	}
	s.fan.mu.Unlock()
	in, err := s.fan.from.Open(s.ctx, s.request)
	s.fan.mu.Lock()
	if err != nil {
		s.end(err)
		return
	}
	s.opened, s.length, s.begun = true, lengthOf(in), time.Now()
	s.changed.Broadcast()
	for s.err == nil {
		space, sum := s.room()
		if space == nil {
			break
		}
		s.fan.mu.Unlock()
		n, err := in.Read(space)
		if sum != nil {
			sum.Write(space[:n])
		}
		s.fan.mu.Lock()
		s.filled(n, err)
	}
	s.fan.mu.Unlock()
	closing := in.Close()
	s.fan.mu.Lock()
	s.closing = closing
}

// gather waits for others who are going to want the stream and have nothing else
// on their way.
func (s *shared) gather() {
	pending := func(x *FanRun) bool { return x.open == 0 && !x.missed && !s.had[x] }
	late := false
	alarm := time.AfterFunc(fanGather, func() {
		s.fan.mu.Lock()
		defer s.fan.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer alarm.Stop()
	for !late && !s.retired && (len(s.due) > 0 || !s.heir && s.fan.awaited(s.key, pending)) {
		s.changed.Wait()
	}
	for _, x := range s.fan.runs {
		if late && !s.heir && pending(x) && (!x.told || x.wants[s.key] > 0) {
			x.missed = true
		}
	}
}

// room waits until there is something to read and a place to put it, and returns
// that place, with the digest if it is still wanted; nil if nobody reads any more.
func (s *shared) room() ([]byte, hash.Hash) {
	size := int64(s.fan.chunk)
	for !s.retired {
		near := len(s.readers) > 0 && s.head-s.foremost() < int64(s.fan.ahead)*size
		switch end := (s.base + int64(len(s.chunks))) * size; {
		case near && s.head < end:
			s.blocked = false
			s.assess()
			if len(s.readers) == 1 && !s.listed { // it is never cut loose
				s.sum = nil
			}
			last := s.chunks[len(s.chunks)-1].data
			return last[len(last):cap(last)], s.sum
		case near && !s.full():
			s.fan.used++
			s.chunks = append(s.chunks, s.empty())
		case near && s.hindmost() >= (s.base+1)*size:
			s.drop()
		default:
			s.blocked = near
			s.assess()
			s.changed.Wait()
		}
	}
	return nil, nil
}

// full reports whether the window can have no more chunks.
func (s *shared) full() bool {
	n := len(s.chunks)
	return n >= s.fan.window || n >= fanLeast && s.fan.used >= fanWindows*s.fan.window
}

// filled notes what has been read.
func (s *shared) filled(n int, err error) {
	if s.retired {
		return
	}
	last := s.chunks[len(s.chunks)-1]
	last.data = last.data[:len(last.data)+n]
	if len(last.data) == cap(last.data) && s.sum != nil {
		s.sum.Sum(last.digest[:0])
	}
	s.head += int64(n)
	s.changed.Broadcast()
	if err != nil {
		s.end(err)
	}
}

// end notes how the stream has ended.
func (s *shared) end(err error) {
	s.err, s.blocked = err, false
	if err != io.EOF {
		s.unlist()
	}
	s.assess()
	s.changed.Broadcast()
}

func (s *shared) foremost() int64 {
	at := int64(0)
	for _, r := range s.readers {
		at = max(at, r.at)
	}
	return at
}

func (s *shared) hindmost() int64 {
	at := s.head
	for _, r := range s.readers {
		at = min(at, r.at)
	}
	return at
}

// empty returns a chunk to fill.
func (s *shared) empty() *chunk {
	c := s.spare
	if s.spare = nil; c == nil {
		c = &chunk{data: make([]byte, 0, s.fan.chunk)}
	}
	return c
}

// drop forgets the first chunk, which all have read.
func (s *shared) drop() {
	c := s.chunks[0]
	s.chunks = slices.Delete(s.chunks, 0, 1)
	s.fan.used--
	s.base++
	s.unlist()
	if !c.kept {
		c.data = c.data[:0]
		s.spare = c
	}
}

// chunkAt finds the chunk with a place of the stream, and how far in it that is.
func (s *shared) chunkAt(at int64) (*chunk, int64) {
	size := int64(s.fan.chunk)
	i := at/size - s.base
	if i >= int64(len(s.chunks)) {
		return nil, 0
	}
	return s.chunks[i], at % size
}

// assess keeps account of how long somebody who is ahead waits for who is behind.
func (s *shared) assess() {
	starving := s.blocked && slices.ContainsFunc(s.readers, func(r *fanReader) bool { return r.waiting && r.at == s.head })
	now := time.Now()
	switch {
	case starving && s.since.IsZero():
		s.since = now
		s.alarm = time.AfterFunc(s.patience(now), s.expire)
	case !starving && !s.since.IsZero():
		s.waited += now.Sub(s.since)
		s.since = time.Time{}
		s.alarm.Stop()
	}
}

// patience is how much longer they have to.
func (s *shared) patience(now time.Time) time.Duration {
	waiting := now.Sub(s.since)
	total := time.Duration(1+s.cuts)*fanPatience + now.Sub(s.begun)/fanShare
	return min(total-s.waited, fanStill) - waiting
}

// expire cuts those loose that are behind, once patience has ended.
func (s *shared) expire() {
	s.fan.mu.Lock()
	defer s.fan.mu.Unlock()
	if s.since.IsZero() {
		return
	}
	if more := s.patience(time.Now()); more > 0 {
		s.alarm.Reset(more)
		return
	}
	s.cut()
}

// cut has those who are behind by more than half of the window go on with another
// stream.
func (s *shared) cut() {
	s.cuts++
	s.unlist()
	heir := s.fan.share(s.ctx, s.request)
	heir.heir = true
	behind := s.head - int64(len(s.chunks))*int64(s.fan.chunk)/2
	s.readers = slices.DeleteFunc(s.readers, func(r *fanReader) bool {
		if r.at >= behind {
			return false
		}
		r.cutLoose(heir)
		return true
	})
	s.changed.Broadcast()
}
