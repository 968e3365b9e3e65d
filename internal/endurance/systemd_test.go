package endurance

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// nightConfig is a job whose second destination takes a stream only once
// /run/go is there.
const nightConfig = `
[jobs.home]
sources = ["/mnt/a/home"]
keep = "last:3"
before = ["/usr/local/bin/hook"]
max-age = "1d"

  [[jobs.home.destinations]]
  url = "/mnt/b/home/"
  keep = "last:10"

  [[jobs.home.destinations]]
  url = "shell:///usr/local/bin/slow"
`

// nightHook does what hooks do, and tries what they must not be able to do.
const nightHook = `#!/bin/sh
echo "hook of $BUTTERSINK_JOB"
[ ! -e /run/fail ] || exit 1
mkdir -p /mnt/hook
mountpoint -q /mnt/hook || mount -t tmpfs tmpfs /mnt/hook || exit 1
runuser -u nobody -- true || exit 1
unshare --net true || exit 1
! hostname booted 2>&1 || exit 1 # which it is called already
grep -q "^Seccomp:.*2" /proc/self/status || exit 1
`

// TestSystemd is a job under systemd itself, from its installation to its removal:
// what the units promise, that a root program in them can do what it is for, and
// what it cannot do. The machine has namespaces of its own, and nothing of this
// one is touched.
func TestSystemd(t *testing.T) {
	btrfstest.Require(t)
	a, b := btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30))
	live := a.Subvolume("home")
	tree := btrfstest.NewTree(t, live, 7, btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks))
	tree.Fill() // which has device nodes, files that run as others, and all kinds of attributes
	m := boot(t, map[string]string{a.Dir: "/mnt/a", b.Dir: "/mnt/b"})
	m.put("/usr/local/bin/buttersink", 0o755, readAll(t, program))
	m.put("/etc/buttersink/config.toml", 0o600, nightConfig)
	m.put("/usr/local/bin/hook", 0o755, nightHook)
	m.put("/usr/local/bin/slow", 0o755, "#!/bin/sh\nwhile [ ! -e /run/go ]; do sleep 0.05; done\ncat >/dev/null\n")
	const service, timer = "buttersink@home.service", "buttersink@home.timer"
	arrived := func() []string {
		t.Helper()
		all, err := os.ReadDir(b.Path("home"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		var whole []string
		for _, e := range all { // the notes of sizes beside them are files
			if e.IsDir() && !strings.HasSuffix(e.Name(), snapshot.PartSuffix) {
				whole = append(whole, filepath.Join(b.Path("home"), e.Name()))
			}
		}
		return whole
	}

	// Installed and started, and known to everybody.
	said := m.must("buttersink", "systemd", "install", "home", "--on-calendar", "daily", "--random-delay", "30m", "--now")
	if !strings.HasPrefix(said, "home runs at ") {
		t.Errorf("install says %q", said)
	}
	for unit, want := range map[string]string{timer: "active", service: "inactive"} {
		if state := m.property(unit, "ActiveState"); state != want {
			t.Errorf("%s is %s", unit, state)
		}
	}
	if state := m.must("systemctl", "is-enabled", timer); state != "enabled" {
		t.Errorf("the timer is %s", state)
	}
	if run := m.property(service, "ExecStart"); !strings.Contains(run, "/usr/local/bin/buttersink run home") {
		t.Errorf("it runs %s", run)
	}

	// A run, looked at while it is sending.
	m.must("systemctl", "start", service) // which is done as soon as the run has begun
	m.until("it sends to the command", func() bool {
		return strings.Contains(m.property(service, "StatusText"), "home: shell://") && len(arrived()) == 1
	})
	if state := m.property(service, "ActiveState"); state != "active" {
		t.Errorf("while it runs, the service is %s", state)
	}
	if locks := m.must("systemd-inhibit", "--list", "--no-legend", "--no-pager"); !strings.Contains(locks, "buttersink") || !strings.Contains(locks, "Sending snapshots") {
		t.Errorf("the machine may sleep: %q", locks)
	}
	var listed struct{ Enabled, Active, Running, Known bool }
	if err := json.Unmarshal([]byte(m.must("buttersink", "systemd", "list", "--json")), &listed); err != nil || !listed.Enabled || !listed.Active || !listed.Running || !listed.Known {
		t.Errorf("listed as %+v, %v", listed, err)
	}
	m.must("touch", "/run/go")
	ends := func(result, status string) {
		t.Helper()
		m.until("the run ends", func() bool {
			state := m.property(service, "ActiveState")
			return state == "inactive" || state == "failed"
		})
		if got := m.property(service, "Result"); got != result {
			t.Errorf("the result is %s, want %s%s", got, result, m.journal())
		}
		if got := m.property(service, "ExecMainStatus"); got != status {
			t.Errorf("the exit code is %s, want %s", got, status)
		}
	}
	ends("success", "0")
	if locks := m.must("systemd-inhibit", "--list", "--no-legend", "--no-pager"); strings.Contains(locks, "buttersink") {
		t.Errorf("the machine may not sleep afterwards: %q", locks)
	}
	snapshots := arrived()
	if len(snapshots) != 1 {
		t.Fatalf("there are %q%s", snapshots, m.journal())
	}
	if text := difference(t, filepath.Join(live, "snapshot", filepath.Base(snapshots[0])), snapshots[0]); text != "" {
		t.Errorf("what has arrived differs:\n%s", text)
	}
	m.must("mountpoint", "-q", "/mnt/hook") // what a hook mounts is mounted for all
	if mode := m.must("stat", "-c", "%a %U", "/var/lib/buttersink"); mode != "700 root" {
		t.Errorf("the state directory is %s", mode)
	}
	if log := m.must("journalctl", "--no-pager", "--unit="+service, "--output=cat"); !strings.Contains(log, "hook of home") || strings.Contains(log, "\x1b") {
		t.Errorf("the journal has %q", log)
	}

	// A watchdog that somebody else wants is answered, however long nothing moves.
	m.put("/etc/systemd/system/buttersink@home.service.d/60-own.conf", 0o644, "[Service]\nWatchdogSec=1s\n")
	m.must("systemctl", "daemon-reload")
	answered := func() int64 {
		t.Helper()
		at, err := strconv.ParseInt(m.property(service, "WatchdogTimestampMonotonic"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}

	// Stopped in the middle, it is no failure, and the next run carries on.
	m.must("rm", "/run/go")
	if err := os.WriteFile(filepath.Join(live, "new"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.must("systemctl", "start", service)
	m.until("it sends to the command again", func() bool {
		return strings.Contains(m.property(service, "StatusText"), "home: shell://") && len(arrived()) == 2
	})
	first := answered()
	m.until("the watchdog has been answered for longer than it waits", func() bool { return answered() > first+2_000_000 })
	if state := m.property(service, "ActiveState"); state != "active" {
		t.Errorf("with a watchdog, the service is %s", state)
	}
	m.must("systemctl", "stop", service)
	ends("success", "130")
	m.must("touch", "/run/go")
	m.must("systemctl", "start", "--wait", service)
	ends("success", "0")
	all := arrived()
	if len(all) != 3 {
		t.Errorf("arrived are %q%s", all, m.journal())
	}
	m.must("buttersink", "status", "home")

	// What fails is a failure.
	m.must("touch", "/run/fail")
	if _, err := m.try("systemctl", "start", "--wait", service); err == nil {
		t.Error("a run that fails looks well")
	}
	ends("exit-code", "1")
	m.must("rm", "/run/fail")
	m.must("systemctl", "reset-failed", service)

	// The timer is what begins a run, at its new times, and as somebody else wants it.
	m.put("/etc/systemd/system/buttersink@home.timer.d/60-own.conf", 0o644, "[Timer]\nAccuracySec=1us\n")
	m.must("buttersink", "systemd", "install", "home", "--on-calendar", "*:*:*", "--now")
	m.until("the timer begins a run", func() bool { return len(arrived()) > len(all) })

	// Removed, it is gone, but for what is somebody else's.
	m.must("buttersink", "systemd", "remove", "home")
	m.until("the last run ends", func() bool { return m.property(service, "ActiveState") == "inactive" })
	if state := m.property(timer, "ActiveState"); state != "inactive" {
		t.Errorf("the timer is %s", state)
	}
	if left := m.must("find", "/etc/systemd/system", "-name", "buttersink*", "-type", "f", "-o", "-name", "buttersink*", "-type", "l"); left != "" {
		t.Errorf("left are: %s", left)
	}
	if left := m.must("find", "/etc/systemd/system", "-name", "60-own.conf"); strings.Count(left, "60-own.conf") != 2 {
		t.Errorf("of somebody else's files, left are: %s", left)
	}
	if left, err := m.try("ls", "/var/lib/systemd/timers"); err == nil && strings.Contains(left, "buttersink") {
		t.Errorf("left are: %s", left)
	}
	if left := arrived(); len(left) <= len(all) {
		t.Errorf("%q are left%s", left, m.journal())
	}
	if state := m.must("systemctl", "--failed", "--no-legend", "--plain"); strings.Contains(state, "buttersink") {
		t.Errorf("has failed: %s", state)
	}
}
