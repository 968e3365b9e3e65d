// Package awake keeps the machine from going to sleep while something is being
// sent: the kernel begins a send stream anew when the machine sleeps in the
// middle of it, and everything up to there was in vain.
//
// It asks the login manager, systemd's or another that speaks as it does, for an
// inhibitor lock over the system bus. It knows nothing of what is sent, refuses
// to stop a machine from being switched off, and takes nobody's word for
// granted: where there is no bus, no login manager, or no permission, the
// machine may sleep, and that is all.
//
// # Invariants
//
//   - [Keep] returns within a few seconds, whatever the bus does, and never
//     fails.
//   - The lock is a file descriptor, and nothing else: it ends with release, and
//     with the process however that ends. No child inherits it.
//   - No service is started for it.
//
// Memory is that of one message.
//
//	defer awake.Keep(ctx, "Sending snapshots", log)()
package awake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// The login manager, as org.freedesktop.login1(5) has it.
const (
	service = "org.freedesktop.login1"
	object  = "/org/freedesktop/login1"
	inhibit = "org.freedesktop.login1.Manager.Inhibit"
)

// patience is how long the answer of the bus may take.
const patience = 3 * time.Second

// Keep keeps the machine from going to sleep until release is called, if that is
// possible; else it says why not in the log, at the level of details. Why is
// shown to people who ask what keeps the machine awake (systemd-inhibit --list).
// Release may be called more than once.
//
// The bus is the one at $DBUS_SYSTEM_BUS_ADDRESS, or at its usual place.
func Keep(ctx context.Context, why string, log *slog.Logger) (release func()) {
	lock, err := within(ctx, patience, why)
	if err != nil {
		log.Debug("The machine may go to sleep meanwhile", "error", err)
		return func() {}
	}
	log.Debug("The machine does not go to sleep meanwhile")
	return sync.OnceFunc(func() {
		if err := lock.Close(); err != nil {
			log.Debug("Letting the machine sleep again", "error", err)
		}
	})
}

// within asks for the lock, but not for longer than d. What comes later is given
// back.
func within(ctx context.Context, d time.Duration, why string) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errors.New("the system bus does not answer"))
	type answer struct {
		lock *os.File
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		lock, err := take(ctx, why)
		answers <- answer{lock, err}
	}()
	select {
	case a := <-answers:
		defer cancel()
		if a.err != nil && ctx.Err() != nil {
			a.err = context.Cause(ctx)
		}
		return a.lock, a.err
	case <-ctx.Done():
		go func() {
			defer cancel()
			if a := <-answers; a.lock != nil {
				a.lock.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// take asks for the lock. Nobody needs the connection once it is there.
func take(ctx context.Context, why string) (_ *os.File, err error) {
	var got arrivals
	defer func() {
		if err != nil {
			got.giveBack()
		}
	}()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithIncomingInterceptor(got.see))
	if err != nil {
		return nil, fmt.Errorf("connecting to the system bus: %w", err)
	}
	defer bus.Close()
	if !bus.SupportsUnixFDs() {
		return nil, errors.New("the system bus does not carry file descriptors")
	}
	var fd dbus.UnixFD
	call := bus.Object(service, object).CallWithContext(ctx, inhibit, dbus.FlagNoAutoStart, "sleep", "buttersink", why, "block")
	if err := call.Store(&fd); err != nil {
		return nil, fmt.Errorf("asking the login manager: %w", err)
	}
	return os.NewFile(uintptr(fd), "sleep inhibitor"), nil
}

// arrivals are the file descriptors that have come over a connection: an answer
// to a call that has been given up brings one that nobody else would close.
type arrivals struct {
	mu   sync.Mutex
	fds  []int
	over bool // what comes now is not wanted any more
}

func (a *arrivals) see(m *dbus.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range m.Body {
		if fd, ok := v.(dbus.UnixFD); ok {
			a.fds = append(a.fds, int(fd))
		}
	}
	if a.over {
		a.closeAll()
	}
}

func (a *arrivals) giveBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.closeAll()
}

func (a *arrivals) closeAll() {
	for _, fd := range a.fds {
		syscall.Close(fd)
	}
	a.fds = nil
}
