package glacier

import (
	"log/slog"
	"sync"
	"time"
)

// patience is how long a server that has answered before may be silent before
// that is said. One that never has is told of at once: it may be the wrong one.
const patience = 5 * time.Second

// outage is a time in which requests fail and are made again. Without a word
// about it a wrong endpoint would look like a hang.
type outage struct {
	patience time.Duration

	mu    sync.Mutex
	since time.Time // zero as long as all is well
	told  bool
}

// failed notes that a request is made again because of an error, and says so
// once in an outage. Why is for people.
func (o *outage) failed(log *slog.Logger, now time.Time, why func() error) {
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

// over notes that the server has answered.
func (o *outage) over(log *slog.Logger, server string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told {
		log.Info(server + " answers again")
	}
	o.since, o.told, o.patience = time.Time{}, false, patience
}
