package endurance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// machine is one that systemd runs, in namespaces of its own, with the files of
// this one (testdata/boot.sh).
type machine struct {
	t   *testing.T
	pid string // of its first process, as it is known here
}

// boot boots a machine that has directories of this one at places of its own.
func boot(t *testing.T, places map[string]string) *machine {
	t.Helper()
	btrfstest.Require(t)
	for _, name := range []string{"/lib/systemd/systemd", "/lib/systemd/system/dbus.service", "/lib/systemd/systemd-logind"} {
		if _, err := os.Stat(name); err != nil {
			if os.Getenv(btrfstest.RealEnv) == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	script, err := filepath.Abs("testdata/boot.sh")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--mount", "--propagation", "private", "sh", script, t.TempDir()}
	for from, to := range places {
		args = append(args, from, to)
	}
	var said output
	cmd := exec.Command("unshare", args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := onKeptThread(cmd.Start); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("booting said: %s", said.String())
		}
	})
	m.until("systemd runs", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("it does not boot: %v: %s", err, said.String())
		default:
		}
		m.pid = firstBelow(cmd.Process.Pid)
		return m.pid != ""
	})
	m.until("it is up", func() bool {
		state, _ := m.try("systemctl", "is-system-running")
		return state == "running" || state == "degraded"
	})
	m.must("systemctl", "start", "dbus.socket", "systemd-logind.service")
	return m
}

// firstBelow is the process named systemd below another; "" if there is none yet.
func firstBelow(pid int) string {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return ""
	}
	for _, child := range strings.Fields(string(children)) {
		if name, err := os.ReadFile("/proc/" + child + "/comm"); err == nil && string(name) == "systemd\n" {
			return child
		}
		var n int
		if _, err := fmt.Sscan(child, &n); err == nil {
			if found := firstBelow(n); found != "" {
				return found
			}
		}
	}
	return ""
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// command is one that runs there, as a login of root would run it.
func (m *machine) command(argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{
		"--target", m.pid, "--all", "--root", "--wd", "env", "-i", "HOME=/root", "LC_ALL=C",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}, argv...)...)
}

// try runs a command and returns what it writes, without the last line end.
func (m *machine) try(argv ...string) (string, error) {
	cmd := m.command(argv...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return strings.TrimSpace(out.String()), fmt.Errorf("%q: %w: %s", argv, err, strings.TrimSpace(complaints.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// must runs a command that has to succeed.
func (m *machine) must(argv ...string) string {
	m.t.Helper()
	out, err := m.try(argv...)
	if err != nil {
		m.t.Fatalf("%v%s", err, m.journal())
	}
	return out
}

// property is one of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return m.must("systemctl", "show", "--value", "--property="+name, unit)
}

// put writes a file there.
func (m *machine) put(path string, mode os.FileMode, text string) {
	m.t.Helper()
	cmd := m.command("sh", "-c", `mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"`, "sh", path, fmt.Sprintf("%o", mode))
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("writing %s: %v: %s", path, err, out)
	}
}

// until waits for something, for as long as anything may take.
func (m *machine) until(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("waiting until %s: in vain%s", what, m.journal())
		}
	}
}

// journal is what the units have said, for people.
func (m *machine) journal() string {
	out, err := m.try("journalctl", "--no-pager", "--output=short-monotonic", "--lines=80")
	if err != nil {
		return ""
	}
	return "\n" + out
}
