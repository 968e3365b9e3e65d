package transfer

import (
	"context"
	"io"

	"github.com/buttersink/buttersink/internal/store"
)

// Fan reads a source once for several runs that want the same stream at the same
// time. (Work in progress.)
type Fan struct{ from store.Source }

// NewFan returns a Fan that reads from a source.
func NewFan(from store.Source) *Fan { return &Fan{from: from} }

// Run returns the source of one of the runs. It is given to Options.Streams.
func (f *Fan) Run() *FanRun { return &FanRun{f} }

// FanRun is a Fan as one run sees it.
type FanRun struct{ f *Fan }

// Expect says which streams the run is going to ask for, so that it is waited
// for a moment when another run asks for one of them. It takes the place of what
// was said before.
func (r *FanRun) Expect(all []store.Request) {}

// Open starts a stream, like store.Source.
func (r *FanRun) Open(ctx context.Context, q store.Request) (io.ReadCloser, error) {
	return r.f.from.Open(ctx, q)
}

// Close says that the run asks for nothing more.
func (r *FanRun) Close() {}
