package storetest

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// SetCheckpoints lets transfers that are interrupted be carried on from now on,
// from the last place that is n bytes or more behind the one before; the writers
// are store.Resumer then. Zero puts an end to it.
func (m *Memory) SetCheckpoints(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.every = n
}

// Checkpoint returns the place from which a transfer to a path can be carried
// on, if there is one.
func (m *Memory) Checkpoint(path string) (store.Mark, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.checkpoints[path]
	return c.mark, ok
}

// AlterCheckpoint makes what an interrupted transfer has left at a path that of
// another stream.
func (m *Memory) AlterCheckpoint(path string, alter func(*store.Mark)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.checkpoints[path]
	if !ok {
		panic("storetest: no checkpoint at " + path)
	}
	alter(&c.mark)
	m.checkpoints[path] = c
}

// checkpoint is what stays of an interrupted transfer.
type checkpoint struct {
	want store.Want // the edge and its transaction numbers
	raw  []byte
	mark store.Mark
}

func (c *checkpoint) partial(path string) snapshot.Partial {
	return snapshot.Partial{
		Path: path + snapshot.PartSuffix, Ours: true, Why: fmt.Sprintf("was interrupted, and can be carried on from byte %d", c.mark.Offset),
	}
}

// resumable is a writer that was asked for while SetCheckpoints was in force.
type resumable struct{ *writer }

// Resumed implements store.Resumer.
func (w resumable) Resumed() store.Mark { return w.from }

// carryOn returns the writer for want, which begins where an earlier transfer of
// it was interrupted if there is such a place.
func (m *Memory) carryOn(w *writer) store.Writer {
	if m.every <= 0 {
		return w
	}
	c, ok := m.checkpoints[w.want.Path]
	if ok && !w.want.Fresh && c.want.Edge == w.want.Edge && c.want.Transid == w.want.Transid && c.want.FromTransid == w.want.FromTransid {
		w.raw, w.from = slices.Clone(c.raw), c.mark
	} else {
		delete(m.checkpoints, w.want.Path)
	}
	w.every, w.last = m.every, w.from.Offset
	return resumable{w}
}

// check makes a checkpoint of what was written, when one is due.
func (w *writer) check() {
	if w.every <= 0 || int64(len(w.raw))-w.last < w.every {
		return
	}
	w.last = int64(len(w.raw))
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.checkpoints[w.want.Path] = checkpoint{want: w.want, raw: slices.Clone(w.raw), mark: markOf(w.raw)}
}

// markOf returns the place at the end of what is given, the beginning of a
// stream that ends with a whole command.
func markOf(raw []byte) store.Mark {
	m, h := store.Mark{Offset: headerLen}, hash.Hash(sha256.New())
	h.Write(raw[:headerLen])
	for m.Offset < int64(len(raw)) {
		head := raw[m.Offset : m.Offset+headLen]
		h.Write(head)
		m.Offset += headLen + int64(commandLen(head))
		m.Commands++
	}
	h.Sum(m.Digest[:0])
	return m
}
