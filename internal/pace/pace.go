// Package pace keeps a transfer below a rate of bytes a second. It knows readers,
// writers and connections, and nothing of what goes through them.
//
// A [Limiter] is shared by everything that is to stay below the rate together.
// Nil is no limit. A wait ends when the context does that the reader or writer
// was made with.
//
//	limit := pace.New(20 << 20)
//	w = limit.Writer(ctx, w)
package pace

import (
	"golang.org/x/time/rate"
)

// Limiter lets so many bytes through in a second. It is safe for concurrent use.
type Limiter struct{ bucket *rate.Limiter }
