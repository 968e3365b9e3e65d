package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Given is a stream that somebody else makes, once.
type Given struct {
	// In is the stream. It is read to its end, also where it turns out to be no
	// good, unless ctx ends.
	In io.Reader
	// From says for people where it comes from.
	From        string
	Destination store.Store // a store.Sink
	// Want says where the stream goes, once its first command has been read: the
	// identities are those in it. An error ends it.
	Want func(e snapshot.Edge, transid, fromTransid uint64) (store.Want, error)
	// Ledger and Events are as in Options.
	Ledger Ledger
	Events func(Event)
}

// Take carries a stream to its destination: checked like every stream, to its END,
// and committed only then.
func Take(ctx context.Context, g Given) (Result, error) {
	return Result{}, errors.New("not there yet")
}
