package wire

import "time"

// beating asks the other side for a byte where none has come for a while, and ends
// the connection where that does not help. Any byte counts as life: a large frame
// may be on its way for long. Then what asks waits behind it, and the other side,
// which hears a lot, has to say something unasked; so it asks, too, where nothing
// has been sent for a while.
func (c *Conn) beating() {
	timer := time.NewTimer(c.opt.Heartbeat)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.done:
			return
		}
		now := time.Since(c.start)
		quiet, still := now-time.Duration(c.heard.Load()), now-time.Duration(c.said.Load())
		if quiet >= c.opt.Silence {
			c.end(&SilenceError{quiet})
			return
		}
		next := c.opt.Heartbeat
		if longest := max(quiet, still); longest >= c.opt.Heartbeat {
			c.mu.Lock()
			c.ping = true
			c.mu.Unlock()
			poke(c.wake)
		} else {
			next -= longest
		}
		timer.Reset(max(min(next, c.opt.Silence-quiet), time.Millisecond))
	}
}
