package wire

import "time"

// beating asks the other side for a byte where none has come for a while, and ends
// the connection where that does not help. Any byte counts as life: a large frame
// may be on its way for long.
func (c *Conn) beating() {
	timer := time.NewTimer(c.opt.Heartbeat)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.done:
			return
		}
		quiet := time.Since(c.start) - time.Duration(c.heard.Load())
		if quiet >= c.opt.Silence {
			c.end(&SilenceError{quiet})
			return
		}
		next := c.opt.Heartbeat - quiet
		if quiet >= c.opt.Heartbeat {
			c.mu.Lock()
			c.ping = true
			c.mu.Unlock()
			poke(c.wake)
			next = c.opt.Heartbeat
		}
		timer.Reset(max(min(next, c.opt.Silence-quiet), time.Millisecond))
	}
}
