package job

import (
	"context"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// VerifyOptions say what Verify does. The functions may be nil.
type VerifyOptions struct {
	Selection
	// Data has every stream read from its first byte to its last.
	Data bool
	// DryRun writes nothing, not even a description of a stream that has none.
	DryRun bool
	// Found is told of every stream that was looked at, and of every snapshot that
	// cannot be had back.
	Found func(store.Finding)
	// Progress is told how many bytes have been read, of how many that are to be.
	Progress func(read, of int64)
}

// Verify looks at whether a store can give back what it is to keep. It fails
// with *NoSnapshotsError if nothing is selected, with *UnableError where the
// store has no means of knowing, and with what keeps it from going on; what it
// finds out is no error.
func (e *Engine) Verify(ctx context.Context, st store.Store, o VerifyOptions) (*store.Verification, error) {
	verifier, ok := st.(store.Verifier)
	if !ok {
		return nil, &UnableError{Store: st.String(), Verb: "verify what it holds"}
	}
	v := store.VerifyOptions{Data: o.Data, Write: o.Data && !o.DryRun, Found: o.Found, Progress: o.Progress}
	if o.Name != "" || len(o.Exclude) > 0 {
		v.Wanted = o.means
	}
	report, err := verifier.Verify(ctx, v)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && len(report.Streams)+len(report.Snapshots) == 0 {
		err = &NoSnapshotsError{Store: st.String(), Named: o.Name != ""}
	}
	return report, err
}

// means reports whether a snapshot is selected, at any of its paths.
func (s Selection) means(snap snapshot.Snapshot) bool {
	return slices.ContainsFunc(copies(snap), func(c snapshot.Snapshot) bool {
		return (s.Name == "" || c.Name() == s.Name) && !s.excludes(c.Path)
	})
}
