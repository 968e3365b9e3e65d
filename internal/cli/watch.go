package cli

import (
	"io"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// watchAfter keeps what is done at once from being drawn at all.
const watchAfter = time.Second

// watch draws how far a long reading is, on a terminal. A nil *watch draws
// nothing.
type watch struct {
	env   *Env
	bars  *bars
	begun time.Time

	mu    sync.Mutex // guards what is below
	name  string
	done  int64
	whole snapshot.Size
	pace  meter.Tempo
}

// newWatch returns a watch over the reading of something of which the length may
// be known; close has to be called before anything else is written to the
// terminal, except to the log. It is nil where nothing can be drawn.
func (env *Env) newWatch(name string, whole snapshot.Size) *watch {
	if env.quiet > 0 || !env.canDraw() {
		return nil
	}
	w := &watch{env: env, begun: env.Now(), name: name, whole: whole}
	w.pace.Add(w.begun, 0)
	w.bars = newBars(env, w.rows)
	return w
}

// read notes that n bytes more have been read.
func (w *watch) read(n int) {
	if w == nil || n <= 0 {
		return
	}
	now := w.env.Now()
	w.mu.Lock()
	w.done += int64(n)
	w.pace.Add(now, int64(n))
	w.mu.Unlock()
	if now.Sub(w.begun) >= watchAfter {
		w.bars.show()
	}
}

func (w *watch) rows(width int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.env.Now()
	tail := ": " + meter.Amount(w.done, w.whole, w.pace.Rate(now), w.pace.Lasts(now))
	text := cutLeft(printable(w.name), max(width-columns(tail), 8)) + tail
	return []string{withBar(text, w.done, w.whole, width)}
}

// close takes away what is drawn.
func (w *watch) close() {
	if w != nil {
		w.bars.close()
	}
}

// watched is a reader with a watch over it.
type watched struct {
	io.Reader
	watch *watch
}

func (r watched) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.watch.read(n)
	return n, err
}
