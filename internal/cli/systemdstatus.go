package cli

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/transfer"
)

// underway is what is on its way, for the service manager, which has one line for
// it. Its zero value is ready, and may be used by several goroutines.
type underway struct {
	mu   sync.Mutex
	ways []*way // in the order in which they began
}

// way is what is on its way to one destination.
type way struct {
	destination string
	meter       meter.Meter
}

// take notes an event, and tells how far everything is: under its lock, or what
// one destination has made out of date would be told after what another knows.
func (u *underway) take(destination string, e transfer.Event, now time.Time, tell func(text string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.ways, func(w *way) bool { return w.destination == destination })
	switch {
	case e.Kind == transfer.Done:
		if i >= 0 {
			u.ways = slices.Delete(u.ways, i, i+1)
		}
	case i < 0:
		u.ways = append(u.ways, &way{destination: destination})
		i = len(u.ways) - 1
		fallthrough
	default:
		u.ways[i].meter.Take(e, now)
	}
	var all []string
	for _, w := range u.ways {
		if len(w.meter.Flows) > 0 {
			all = append(all, w.destination+": "+w.meter.Line(now))
		}
	}
	if len(all) == 0 {
		all = append(all, "nothing is being sent")
	}
	tell(strings.Join(all, "; "))
}
