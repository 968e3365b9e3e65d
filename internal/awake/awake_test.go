package awake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// holderEnv makes the test binary a process that holds the lock until it dies.
const holderEnv = "AWAKE_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) != "" {
		Keep(context.Background(), "holding", slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
		fmt.Println("held")
		select {}
	}
	goleak.VerifyTestMain(m)
}

// address makes the socket of a bus, with a path short enough for one.
func address(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "socket")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	return path
}

// startBus runs a bus of its own, and makes it the system bus of this process.
func startBus(t *testing.T) {
	t.Helper()
	daemon := btrfstest.Program(t, "dbus-daemon")
	socket := address(t)
	config := socket + ".conf"
	err := os.WriteFile(config, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=`+socket+`</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--print-address")
	complaints := &bytes.Buffer{}
	cmd.Stderr = complaints
	ready, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the bus said: %s", complaints)
		}
	})
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the bus did not start: %v", err)
	}
}

// manager stands in for the login manager: a lock is the writing end of a pipe,
// and nobody holds it any more when the reading end is at its end.
type manager struct {
	refuse bool
	asked  chan []string
	locks  chan [2]*os.File
	hang   chan struct{} // closed when calls may be answered
	bus    *dbus.Conn
}

// Inhibit is the method of org.freedesktop.login1.Manager.
func (m *manager) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if m.hang != nil {
		<-m.hang
	}
	if m.refuse {
		return 0, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"})
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	fd := dbus.UnixFD(w.Fd())
	m.asked <- []string{what, who, why, mode}
	m.locks <- [2]*os.File{r, w}
	return fd, nil
}

// serve puts the stand-in on the bus.
func (m *manager) serve(t *testing.T) {
	t.Helper()
	m.asked, m.locks = make(chan []string, 1), make(chan [2]*os.File, 1)
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	m.bus = bus
	t.Cleanup(func() { bus.Close() })
	if err := bus.Export(m, object, service+".Manager"); err != nil {
		t.Fatal(err)
	}
	if reply, err := bus.RequestName(service, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("taking the name: %v, %v", reply, err)
	}
}

// lock returns the reading end of the lock that was handed out, once its other
// end is with the one who asked and nowhere else.
func (m *manager) lock(t *testing.T) *os.File {
	t.Helper()
	pipe := <-m.locks
	pipe[1].Close()
	t.Cleanup(func() { pipe[0].Close() })
	return pipe[0]
}

// held reports whether anybody has the lock.
func held(t *testing.T, lock *os.File) bool {
	t.Helper()
	if err := lock.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := lock.Read(make([]byte, 1))
	return err != io.EOF
}

// free waits until nobody has the lock.
func free(t *testing.T, lock *os.File) {
	t.Helper()
	if err := lock.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the lock is still held: %v", err)
	}
}

// logged returns a log and what was written to it.
func logged() (*slog.Logger, *bytes.Buffer) {
	b := &bytes.Buffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

func TestKeep(t *testing.T) {
	startBus(t)
	m := &manager{}
	m.serve(t)
	log, text := logged()
	release := Keep(t.Context(), "Sending snapshots", log)
	if diff := cmp.Diff([]string{"sleep", "buttersink", "Sending snapshots", "block"}, <-m.asked); diff != "" {
		t.Errorf("what was asked for (-want +got):\n%s", diff)
	}
	lock := m.lock(t)
	if !held(t, lock) {
		t.Fatalf("nobody holds the lock; the log says: %s", text)
	}
	release()
	free(t, lock)
	release()
	if !strings.Contains(text.String(), "does not go to sleep") || strings.Contains(text.String(), "level=WARN") {
		t.Errorf("the log says: %s", text)
	}
}

// A child that outlives the run would hold the lock for ever.
func TestNoChildInherits(t *testing.T) {
	startBus(t)
	m := &manager{}
	m.serve(t)
	file, err := within(t.Context(), patience, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m.lock(t)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(file.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(octal), 8, 64)
			if err != nil || flags&syscall.O_CLOEXEC == 0 {
				t.Errorf("the flags are %s (%v), want O_CLOEXEC among them", octal, err)
			}
			return
		}
	}
	t.Errorf("no flags in %q", info)
}

// However the process ends, the machine may sleep again.
func TestKilled(t *testing.T) {
	startBus(t)
	m := &manager{}
	m.serve(t)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holderEnv+"=1")
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	<-m.asked
	lock := m.lock(t)
	if !held(t, lock) {
		t.Error("the process does not hold the lock")
	}
	if err := holder.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	free(t, lock)
}

// Where the machine cannot be kept awake, a word about it is all.
func TestCannot(t *testing.T) {
	for _, c := range []struct {
		name  string
		world func(t *testing.T)
		want  string
	}{
		{"no bus", func(t *testing.T) { address(t) }, "connecting to the system bus"},
		{"an address that is none", func(t *testing.T) { t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "nonsense") }, "connecting to the system bus"},
		{"a socket that nobody listens at", func(t *testing.T) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address(t), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, "connecting to the system bus"},
		{"no login manager", startBus, "asking the login manager"},
		{"a refusal", func(t *testing.T) { startBus(t); (&manager{refuse: true}).serve(t) }, "Permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.world(t)
			log, text := logged()
			Keep(t.Context(), "x", log)()
			if !strings.Contains(text.String(), c.want) || !strings.Contains(text.String(), "level=DEBUG") || strings.Count(text.String(), "\n") != 1 {
				t.Errorf("the log says %q, want one line of details with %q", text, c.want)
			}
		})
	}
}

// A bus that takes calls and answers none does not hold up the run.
func TestHangs(t *testing.T) {
	t.Run("the bus", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address(t), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := within(t.Context(), 50*time.Millisecond, "x"); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("a bus that hangs: %v", err)
		}
	})
	t.Run("the login manager", func(t *testing.T) {
		startBus(t)
		m := &manager{hang: make(chan struct{})}
		m.serve(t)
		if _, err := within(t.Context(), 200*time.Millisecond, "x"); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("a login manager that hangs: %v", err)
		}
		// What it answers after all, or has in its hands when it goes, is in
		// nobody's.
		close(m.hang)
		<-m.asked
		m.bus.Close()
		free(t, m.lock(t))
	})
	t.Run("until the run ends", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address(t), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := within(ctx, time.Hour, "x"); err == nil {
			t.Error("it does not end")
		}
	})
}
