package systemd

import (
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// statusEvery is the least time between two lines of how far a run is.
	statusEvery = time.Second
	// statusLength is the longest line, in bytes; the manager's own limit for a whole
	// message is some pages.
	statusLength = 500
	// patience is how long the manager may take to accept a message.
	patience = time.Second
)

// send sends a message to the manager, and reports whether it took it. The
// package daemon would wait for as long as the manager does not read.
func send(lines ...string) bool {
	address := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	if address.Name == "" {
		return false
	}
	conn, err := net.DialUnix(address.Net, nil, address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	_, err = conn.Write([]byte(strings.Join(lines, "\n")))
	return err == nil
}

// Notifier tells the service manager how a run gets on, by sd_notify(3), if there
// is one: $NOTIFY_SOCKET says so. Its methods may be called from several
// goroutines, and on nil.
type Notifier struct {
	mu    sync.Mutex
	told  time.Time   // when the last status went out
	last  string      // what the last status was
	next  string      // what the next one is, if later is set
	later *time.Timer // when that goes out
	over  bool

	stop chan struct{} // ends the answers to the watchdog; nil if there is none
	done chan struct{}
}

// Ready tells the manager that the run has begun, and answers its watchdog, if
// the unit has one, until Stopping. It returns nil where no manager listens.
func Ready(status string) *Notifier {
	n := &Notifier{}
	if !send(daemon.SdNotifyReady, statusLine(status)) {
		return nil
	}
	n.last = statusLine(status)
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		n.stop, n.done = make(chan struct{}), make(chan struct{})
		go n.watch(every / 2)
	}
	return n
}

// watch answers the watchdog. It is about the process, not about how the run gets
// on: waiting for hours is no fault.
func (n *Notifier) watch(every time.Duration) {
	defer close(n.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		send(daemon.SdNotifyWatchdog)
		select {
		case <-tick.C:
		case <-n.stop:
			return
		}
	}
}

// Status says how far the run is, in one line ("systemctl status" shows it). It
// goes out at most once a second: of what comes in between, the last is told then.
// Now is the time of the call.
func (n *Notifier) Status(now time.Time, text string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return
	}
	n.next = text
	if n.later == nil {
		// A clock that was set back does not silence it.
		n.later = time.AfterFunc(min(statusEvery-now.Sub(n.told), statusEvery), n.catchUp)
	}
}

// catchUp tells the last status.
func (n *Notifier) catchUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.later != nil && !n.over {
		n.tell(time.Now(), n.next)
	}
}

// Say is Status for what must not be forgotten: a job begins or ends.
func (n *Notifier) Say(now time.Time, text string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.over {
		n.tell(now, text)
	}
}

func (n *Notifier) tell(now time.Time, text string) {
	if n.later != nil { // what it is about has been
		n.later.Stop()
		n.later = nil
	}
	line := statusLine(text)
	if line == n.last {
		return
	}
	n.told = now // also if it did not listen: it is not asked more often then
	if send(line) {
		n.last = line
	}
}

// Stopping tells the manager that the run ends, within the time that the unit has
// for that: everything else is done. It may be called more than once.
func (n *Notifier) Stopping(text string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	if n.later != nil {
		n.later.Stop()
	}
	if n.stop != nil {
		close(n.stop)
		<-n.done
		n.stop = nil
	}
	send(daemon.SdNotifyStopping, statusLine(text))
}

// statusLine is an assignment of one line: no text can make it two, which would be
// a message of its own.
func statusLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > statusLength {
		cut := statusLength
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return "STATUS=" + text
}
