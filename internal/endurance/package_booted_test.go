package endurance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/systemd"
)

// bootedConfig has one job that waits for as long as /run/hold is there, and one
// that fails.
const bootedConfig = `
[jobs.home]
sources = ["/mnt/a/home"]
keep = "last:2"
before = ["/usr/local/bin/hold"]

  [[jobs.home.destinations]]
  url = "/mnt/b/home/"
  keep = "last:30"

[jobs.www]
sources = ["/mnt/a/none"]

  [[jobs.www.destinations]]
  url = "/mnt/b/www/"
`

const holdHook = `#!/bin/sh
while [ -e /run/hold ]; do
	touch /run/held
	sleep 0.05
done
rm -f /run/held
`

// packageBooted has a machine that is up get the package, another one while a run
// goes on, lose it during the next, get it back, and be rid of it: what becomes of
// timers and runs, and of what they leave.
func packageBooted(t *testing.T, older, newer string) {
	a, b := btrfstest.New(t), btrfstest.New(t)
	a.Subvolume("home")
	p := &bootedPackage{
		machine: boot(t, map[string]string{a.Dir: "/mnt/a", b.Dir: "/mnt/b", filepath.Dir(older): "/srv/older", filepath.Dir(newer): "/srv/newer"}),
		home:    b.Path("home"),
	}
	older, newer = "/srv/older/"+filepath.Base(older), "/srv/newer/"+filepath.Base(newer)
	const service, timer, failing = "buttersink@home.service", "buttersink@home.timer", "buttersink@www.service"
	before := p.named()

	// Nothing begins because the package comes. A timer that is not told to does so at
	// the next boot, or as the answer says.
	p.dpkg("-i", older)
	p.units("after the installation")
	p.put("/etc/buttersink/config.toml", 0o600, bootedConfig)
	p.put("/etc/buttersink/www.toml", 0o600, bootedConfig)
	p.put("/usr/local/bin/hold", 0o755, holdHook)
	const start = "systemctl start " + timer
	if said := p.must("buttersink", "systemd", "install", "home", "--on-calendar", "*-*-* 02:30"); !strings.Contains(said, start) {
		t.Errorf("how to start the timer is not said: %q", said)
	}
	p.units("with a timer for the next boot")
	p.must(strings.Fields(start)...)
	p.units("with its timer started", timer+" active")

	// The timer begins a run by what the package has brought.
	p.must("touch", "/run/hold")
	p.put("/etc/systemd/system/buttersink@.timer.d/60-own.conf", 0o644, "[Timer]\nAccuracySec=1us\n")
	p.must("buttersink", "systemd", "install", "home", "--on-calendar", "*:*:*") // which an active timer takes up at once
	p.until("the timer begins a run", p.held)
	for name, want := range map[string]string{
		"FragmentPath": "/lib/systemd/system/" + systemd.ServiceTemplate, // which is /usr/lib
		"DropInPaths":  "",
		"TriggeredBy":  timer,
	} {
		if got := p.property(service, name); got != want {
			t.Errorf("the run has %s=%s, want %s", name, got, want)
		}
	}
	main := p.property(service, "MainPID")
	if exe := p.must("readlink", "/proc/"+main+"/exe"); exe != systemd.Program {
		t.Errorf("the timer runs %s", exe)
	}

	// Another version comes while it goes on: it ends well, and the next is the new one.
	p.dpkg("-i", newer)
	p.units("during the upgrade", service+" active", timer+" active")
	if now := p.property(service, "MainPID"); now != main {
		t.Errorf("the upgrade has replaced the process %s by %s", main, now)
	}
	if exe := p.must("readlink", "/proc/"+main+"/exe"); exe == systemd.Program {
		t.Errorf("the upgrade has not replaced %s", exe)
	}
	p.must("rm", "/run/hold")
	p.until("the run that was going on has ended, and another has begun", func() bool {
		return p.arrived() > 1
	})
	p.must("touch", "/run/hold")
	p.until("a run waits", p.held)
	if exe := p.must("readlink", "/proc/"+p.property(service, "MainPID")+"/exe"); exe != systemd.Program {
		t.Errorf("after the upgrade, the timer runs %s", exe)
	}

	// It goes while one job runs and another has failed. Nobody hears of it again.
	p.must("buttersink", "-c", "/etc/buttersink/www.toml", "systemd", "install", "--now", "www", "--on-calendar", "*-*-* 02:30")
	if _, err := p.try("systemctl", "start", "--wait", failing); err == nil {
		t.Error("a run that fails looks well")
	}
	p.units("before the removal", service+" active", timer+" active", failing+" failed", "buttersink@www.timer active")
	ran := p.arrived()
	p.dpkg("-r", "buttersink")
	p.units("after the removal")
	if log := p.must("journalctl", "--no-pager", "--unit="+service, "--output=cat"); strings.Contains(log, "Failed with result") {
		t.Errorf("a run that the package has met has failed:\n%s", log)
	}
	p.must("systemctl", "restart", "timers.target") // as at the next boot
	p.units("after a boot without the package")

	// What was enabled comes back with it, and makes up for what it has missed.
	p.must("rm", "/run/hold")
	p.dpkg("-i", newer)
	for _, timer := range []string{timer, "buttersink@www.timer"} {
		if state := p.property(timer, "ActiveState"); state != "active" {
			t.Errorf("back again, %s is %s", timer, state)
		}
	}
	p.until("a timer that has come back begins a run", func() bool { return p.arrived() > ran })

	// Purged, it leaves what people have written, and nothing is said of what has failed.
	const theirs = "/etc/systemd/system/buttersink@theirs.service.d"
	p.put(theirs+"/50-buttersink.conf", 0o644, "[Service]\nNice=0\n")
	_, _ = p.try("systemctl", "start", "--wait", failing)
	p.dpkg("--purge", "buttersink")
	p.units("after the purge")
	want := append(before, "/etc/systemd/system/buttersink@.timer.d", theirs, theirs+"/50-buttersink.conf")
	slices.Sort(want)
	if diff := cmp.Diff(want, p.named()); diff != "" {
		t.Errorf("left by the purge, besides what people have written (-want +got):\n%s", diff)
	}
	if left := p.must("find", "/etc/systemd/system", "-xtype", "l"); left != "" {
		t.Errorf("links lead nowhere: %s", left)
	}
	if n := p.arrived(); n <= ran {
		t.Errorf("%d snapshots are left, %d there were", n, ran)
	}
}

// bootedPackage is a machine on which the package is.
type bootedPackage struct {
	*machine
	home string // where snapshots arrive
}

// dpkg changes packages, without manual pages being listed anew.
func (p *bootedPackage) dpkg(args ...string) {
	p.t.Helper()
	p.must(append([]string{"dpkg", "--force-unsafe-io", "--no-triggers"}, args...)...)
}

// held says if a run waits.
func (p *bootedPackage) held() bool {
	_, err := p.try("test", "-e", "/run/held")
	return err == nil
}

// named are the files whose names have the program's in them, but for those of this
// machine's users.
func (p *bootedPackage) named() []string {
	p.t.Helper()
	all := strings.Fields(p.must("find", "/etc", "/usr", "/var", "/run", "-name", "*buttersink*"))
	slices.Sort(all)
	return all
}

// units fails the test unless these units are at work, or in trouble: each with its
// state.
func (p *bootedPackage) units(when string, want ...string) {
	p.t.Helper()
	var got []string
	for line := range strings.Lines(p.must("systemctl", "list-units", "--all", "--plain", "--no-legend", "buttersink@*")) {
		if f := strings.Fields(line); len(f) > 3 && f[2] != "inactive" {
			got = append(got, f[0]+" "+f[2])
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("%s, the units are others (-want +got):\n%s", when, diff)
	}
}

// arrived counts the snapshots that have arrived.
func (p *bootedPackage) arrived() int {
	p.t.Helper()
	all, err := os.ReadDir(p.home)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	n := 0
	for _, e := range all {
		if e.IsDir() && !strings.HasSuffix(e.Name(), snapshot.PartSuffix) {
			n++
		}
	}
	return n
}
