package reach

import (
	"log/slog"
	"sync"
	"time"
)

// Patience is how long a server that has answered before may be silent before
// that is said. One that never has is told of at once: it may be the wrong one.
const Patience = 5 * time.Second

// Outage is a time in which requests fail and are made again. Without a word
// about it a wrong endpoint would look like a hang.
type Outage struct {
	patience time.Duration

	mu    sync.Mutex
	since time.Time // zero as long as all is well
	told  bool
}

// Failed notes that a request is made again because of an error, and says so
// once in an outage. Why is for people.
func (o *Outage) Failed(log *slog.Logger, now time.Time, why func() error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	if o.told || now.Sub(o.since) < o.patience {
		return
	}
	o.told = true
	log.Warn(why().Error() + "; trying again for some minutes")
}

// Over notes that the server has answered.
func (o *Outage) Over(log *slog.Logger, server string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told {
		log.Info(server + " answers again")
	}
	o.since, o.told, o.patience = time.Time{}, false, Patience
}
