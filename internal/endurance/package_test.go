package endurance

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// packages makes the packages of a version with a program, and returns their
// files.
func packages(t *testing.T, program, version string) (deb, rpm string) {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("sh", "../../packaging/package.sh", runtime.GOARCH)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1795316471", "OUT="+out, "PROGRAM="+program)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("making packages: %v\n%s", err, text)
	}
	one := func(pattern string) string {
		found, _ := filepath.Glob(filepath.Join(out, pattern))
		if len(found) != 1 {
			t.Fatalf("there is not one %s but %q", pattern, found)
		}
		return found[0]
	}
	return one("buttersink_" + version + "_*.deb"), one("buttersink-" + version + "-1.*.rpm")
}

// enabled is what says that a job has a timer.
var enabled = []string{"etc/systemd/system/buttersink@home.timer.d/50-buttersink.conf", "etc/systemd/system/timers.target.wants/buttersink@home.timer"}

const packagedConfig = `[jobs.home]
sources = ["/home"]
keep = "last:2"
before = ["/bin/sh", "-c", "[ ! -p /root/wait ] || cat /root/wait"]

  [[jobs.home.destinations]]
  url = "/mnt/bk/home/"
  keep = "last:5"
`

// TestPackage installs, uses, upgrades, removes and purges the packages: on a small
// Debian, and where systemd runs. Making them is what takes long.
func TestPackage(t *testing.T) {
	btrfstest.Require(t)
	older, olderRPM := packages(t, program, "1.0.0~rc1")
	newer, newerRPM := packages(t, program, "1.0.0")
	t.Run("root", func(t *testing.T) { packageInRoot(t, older, newer, olderRPM, newerRPM) })
	t.Run("booted", func(t *testing.T) { packageBooted(t, older, newer) })
}

// packageInRoot holds what there is in a small Debian before the Debian package
// comes against what there is when it has gone; then the same with rpm.
func packageInRoot(t *testing.T, older, newer, olderRPM, newerRPM string) {
	r := newDebianRoot(t)
	r.host("cp", older, r.path("root/older.deb"))
	r.host("cp", newer, r.path("root/newer.deb"))
	before := r.files()

	r.run("dpkg", "--force-unsafe-io", "-i", "/root/older.deb")
	r.installed(before)
	r.manages("daemon-reload")
	r.works()

	// The user's configuration and a timer; and an upgrade in the middle of a run.
	for _, name := range enabled {
		if !r.exists(name) {
			t.Fatalf("no timer is enabled: %s", name)
		}
	}
	kept := r.files()
	release := r.busy()
	r.run("dpkg", "--force-unsafe-io", "-i", "/root/newer.deb")
	r.manages("daemon-reload", "--quiet --system start buttersink@home.timer")
	release()
	if got := r.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "buttersink"); got != "1.0.0 install ok installed" {
		t.Errorf("after the upgrade: %s", got)
	}
	r.sound()
	for _, name := range names(kept, r.files()) {
		if strings.HasPrefix(name, "/etc/") {
			t.Errorf("the upgrade has changed %s", name)
		}
	}
	r.runs()

	// A removal leaves what is the user's, and coming back finds it.
	r.asked()
	r.run("dpkg", "-r", "buttersink")
	r.manages("stop buttersink@*.timer", "stop buttersink@*.service", "daemon-reload", "reset-failed buttersink@*")
	if r.exists("usr/bin/buttersink") || r.exists("usr/share/doc/buttersink") {
		t.Error("a removal leaves the program or its documentation")
	}
	for _, name := range append([]string{"etc/buttersink/config.toml", "var/lib/buttersink/ledger.db"}, enabled...) {
		if !r.exists(name) {
			t.Errorf("a removal takes %s", name)
		}
	}
	r.run("dpkg", "--force-unsafe-io", "-i", "/root/newer.deb")
	r.manages("daemon-reload", "--quiet --system start buttersink@home.timer")
	r.runs()

	r.asked()
	r.run("dpkg", "--purge", "buttersink")
	after := r.files()
	if diff := cmp.Diff([]string{"/etc/buttersink", "/etc/buttersink/config.toml"}, names(after, before)); diff != "" {
		t.Errorf("left by a purge, besides what the user has made (-):\n%s", diff)
	}
	if gone := names(before, after); gone != nil {
		t.Errorf("a purge has changed or taken %q", gone)
	}

	// With nothing of the user's there, nothing stays.
	r.host("rm", "-r", r.path("etc/buttersink"))
	t.Run("rpm", func(t *testing.T) { r.withRPM(t, before, olderRPM, newerRPM) })
	r.run("dpkg", "--force-unsafe-io", "-i", "/root/newer.deb")
	r.run("dpkg", "--purge", "buttersink")
	if diff := cmp.Diff(before, r.files()); diff != "" {
		t.Errorf("installed and purged, before (-) and after (+):\n%s", diff)
	}

	// Timers that have templates of their own need no package: a purge leaves them.
	r.host("cp", "../../packaging/deb/postrm", r.path("root/postrm"))
	r.timer()
	kept = r.files()
	r.run("sh", "/root/postrm", "purge")
	if diff := cmp.Diff(kept, r.files()); diff != "" {
		t.Errorf("timers that are not of the package, before a purge (-) and after (+):\n%s", diff)
	}
}

// installed fails the test unless the package has brought what it lists, and
// nothing else, and everything can be read by those who it is for.
func (r *debianRoot) installed(before []string) {
	r.t.Helper()
	listed := strings.Fields(r.run("dpkg", "-L", "buttersink"))
	brought := names(r.files(), before)
	for _, name := range brought {
		if !slices.Contains(listed, name) {
			r.t.Errorf("%s is not of the package", name)
		}
		info, err := os.Lstat(r.path(name))
		if err != nil {
			r.t.Fatal(err)
		}
		want := os.FileMode(0o644)
		if info.IsDir() || name == "/usr/bin/buttersink" {
			want = 0o755
		}
		if info.Mode().Perm() != want {
			r.t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for _, name := range []string{
		"/usr/bin/buttersink", "/etc/buttersink",
		"/usr/lib/systemd/system/buttersink@.service", "/usr/lib/systemd/system/buttersink@.timer",
		"/usr/share/man/man1/buttersink.1.gz", "/usr/share/man/man1/buttersink-run.1.gz",
		"/usr/share/man/man1/buttersink-systemd-install.1.gz", "/usr/share/man/man5/buttersink.toml.5.gz", "/usr/share/man/man7/buttersink-urls.7.gz",
		"/usr/share/bash-completion/completions/buttersink", "/usr/share/zsh/vendor-completions/_buttersink", "/usr/share/fish/vendor_completions.d/buttersink.fish",
		"/usr/share/doc/buttersink/examples/config.toml", "/usr/share/doc/buttersink/copyright", "/usr/share/doc/buttersink/changelog.gz", "/usr/share/doc/buttersink/licences.gz",
	} {
		if !slices.Contains(brought, name) {
			r.t.Errorf("%s is missing", name)
		}
	}
	r.sound()
	r.run("bash", "-n", "/usr/share/bash-completion/completions/buttersink")
	r.run("buttersink", "config", "check", "/usr/share/doc/buttersink/examples/config.toml")
	control := r.run("dpkg-query", "-s", "buttersink")
	for _, line := range []string{"Depends:", "Pre-Depends:", "Conflicts:", "Breaks:", "Replaces:"} {
		if strings.Contains("\n"+control, "\n"+line) {
			r.t.Errorf("it has %s\n%s", line, control)
		}
	}
}

// sound has dpkg compare every file with its sum.
func (r *debianRoot) sound() {
	r.t.Helper()
	if out := r.run("dpkg", "--verify", "buttersink"); out != "" {
		r.t.Errorf("dpkg finds files of the package changed:\n%s", out)
	}
}

// manages fails the test unless this is what the service manager has been asked.
func (r *debianRoot) manages(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.asked()); diff != "" {
		r.t.Errorf("the service manager is asked other things (-want +got):\n%s", diff)
	}
}

// timer writes a configuration and enables a timer for its job.
func (r *debianRoot) timer() {
	r.t.Helper()
	r.write("etc/buttersink/config.toml", packagedConfig, 0o644)
	r.host(program, "--config", r.path("etc/buttersink/config.toml"), "systemd", "install", "home", "--on-calendar", "*-*-* 03:00", "--root", r.dir)
}

// works enables a timer for a job, and runs it.
func (r *debianRoot) works() {
	r.t.Helper()
	r.timer()
	r.write("home/letter", "Dear all\n", 0o644)
	if err := os.MkdirAll(filepath.Join(r.disk.Dir, "home"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.run("buttersink", "config", "check")
	r.runs()
	// Its state is root's alone.
	if info, err := os.Stat(r.path("var/lib/buttersink")); err != nil || info.Mode().Perm() != 0o700 {
		r.t.Errorf("the state directory: %v, %v", info, err)
	}
}

// runs runs the job, which has to bring one snapshot more.
func (r *debianRoot) runs() {
	r.t.Helper()
	count := len(r.disk.Subvolumes())
	r.run("buttersink", "run", "home")
	if got := len(r.disk.Subvolumes()); got != count+1 {
		r.t.Errorf("%d snapshots after the run, %d before", got, count)
	}
	if status := r.run("buttersink", "status"); !strings.Contains(status, "home") {
		r.t.Errorf("status does not know of the job:\n%s", status)
	}
	time.Sleep(time.Second) // names have seconds
}

// busy starts a run and returns when it is going on; it stays so until release is
// called, which waits for its end, and has it end well.
func (r *debianRoot) busy() (release func()) {
	r.t.Helper()
	count := len(r.disk.Subvolumes())
	r.host("mkfifo", r.path("root/wait"))
	var out bytes.Buffer
	cmd := r.command("buttersink", "run", "home")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onKeptThread(cmd.Start); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	opened := make(chan *os.File, 1)
	go func() { // opening waits for the hook to read
		f, err := os.OpenFile(r.path("root/wait"), os.O_WRONLY, 0)
		if err != nil {
			r.t.Error(err)
		}
		opened <- f
	}()
	var pipe *os.File
	select {
	case pipe = <-opened:
	case err := <-ended:
		r.t.Fatalf("the run does not wait: %v\n%s", err, &out)
	case <-time.After(patience):
		r.t.Fatal("the run does not begin")
	}
	return func() {
		r.t.Helper()
		_ = pipe.Close()
		if err := <-ended; err != nil {
			r.t.Errorf("the run during which the program was replaced: %v\n%s", err, &out)
		}
		if got := len(r.disk.Subvolumes()); got != count+1 {
			r.t.Errorf("%d snapshots after that run, %d before:\n%s", got, count, &out)
		}
		r.host("rm", r.path("root/wait"))
	}
}

// withRPM has rpm look at the packages, and install, upgrade and remove them. That
// it is Debian where it does so changes nothing about them.
func (r *debianRoot) withRPM(t *testing.T, before []string, older, newer string) {
	home := t.TempDir() // Debian's rpm keeps its database there, for queries too
	rpm := func(args ...string) string {
		t.Helper()
		return r.host(append([]string{"env", "HOME=" + home, "rpm"}, args...)...)
	}
	change := func(args ...string) {
		t.Helper()
		rpm(append([]string{"--root", r.dir, "--force-debian", "--nodeps"}, args...)...)
	}
	if out := rpm("-K", newer); !strings.Contains(out, "digests OK") {
		t.Errorf("rpm -K: %s", out)
	}
	for need := range strings.Lines(rpm("-qp", "--requires", newer)) {
		if !strings.HasPrefix(need, "rpmlib(") && !strings.HasPrefix(need, "/bin/sh") {
			t.Errorf("it requires %s", need)
		}
	}
	r.asked()
	change("-i", older)
	listed := strings.Fields(rpm("-qpl", older))
	for _, name := range names(r.files(), before) {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not of the package", name)
		}
	}
	r.manages("daemon-reload")
	r.run("buttersink", "--version")
	change("-U", newer)
	r.manages("daemon-reload", "daemon-reload") // of the new one, and then of the old one
	change("-e", "buttersink")
	r.manages("stop buttersink@*.timer", "stop buttersink@*.service", "daemon-reload", "reset-failed buttersink@*")
	if left := names(r.files(), before); left != nil {
		t.Errorf("rpm leaves %q", left)
	}
}

// TestPackageTwice makes packages twice, which have to be the same byte by byte. A
// small program is as good as ours for that.
func TestPackageTwice(t *testing.T) {
	btrfstest.Require(t) // where everything of Debian's is
	small := filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(small, []byte("#!/bin/true\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	deb, rpm := packages(t, small, "1.0.0")
	deb2, rpm2 := packages(t, small, "1.0.0")
	for _, pair := range [][2]string{{deb, deb2}, {rpm, rpm2}} {
		if sum(t, pair[0]) != sum(t, pair[1]) {
			t.Errorf("%s made twice is not the same", filepath.Base(pair[0]))
		}
	}
}

func sum(t *testing.T, file string) [32]byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(text)
}
