package endurance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// A world is where the command lines of a page are true: a machine with btrfs file
// systems at the places that the pages name, another machine behind all the names
// of hosts that they have, a bucket called "bucket", a vault service, and users. It is made
// in namespaces of its own (see elsewhere), from what the real machine has.
type world struct {
	t       *testing.T
	a, b, c *btrfstest.FS // below /mnt and in /home, here
	far     *btrfstest.FS // what the other machine has below /mnt
	s3      *s3test.Server
	cold    *s3test.Cold
	vaults  *glaciertest.Server
	env     []string
	top     string // of the house
	key     string // root's public key
}

// hosts are all names that other machines have in the pages; whom to tell is nobody.
const hosts = "127.0.0.1 localhost here host nas one two hc-ping.com s3.example.net bucket.s3.example.net\n"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	w.must(unix.Mount("proc", "/proc", "proc", 0, ""))
	w.move()
	w.own()
	w.run("ip link set lo up")
	w.run("hostname here")

	// The programs that the pages call, where root has them.
	for _, name := range []string{"aws", "sqlite3", "openssl", "gpg", "age", "zstd", "systemd-analyze", "systemctl"} {
		btrfstest.Program(t, "/usr/bin/"+name)
	}
	w.a, w.b, w.c, w.far = w.disk(), w.disk(), w.disk(), w.disk()
	w.a.Subvolume("home")
	w.bind(w.a.Dir, "/mnt/a")
	w.bind(w.a.Path("home"), "/home")
	w.bind(w.b.Dir, "/mnt/b")
	w.a.Subvolume("srv")
	w.bind(w.a.Path("srv"), "/srv")
	w.run("btrfs -q subvolume create /srv/www && btrfs -q subvolume create /srv/db && btrfs -q subvolume create /srv/db/tables && mkdir /srv/.snapshots")
	w.run("btrfs -q subvolume create /home/mail && mkdir -p /home/btrfs/snapshot/home-mail")
	w.c.Subvolume("usb")
	w.bind(w.c.Path("usb"), "/mnt/usb")
	w.c.Subvolume("bk")
	w.bind(w.c.Path("bk"), "/mnt/bk")
	w.c.Subvolume("c")
	w.bind(w.c.Path("c"), "/mnt/c")
	w.run("mkdir -p /mnt/tape /root/image/etc /etc/buttersink /root/bin /usr/local/bin && ln -s /etc/buttersink /root/image/etc/ && cp " + program + " /usr/local/bin/buttersink && cp " + program + " /root/bin/")
	for _, dir := range []string{"a", "b", "bk", "volume1"} {
		w.far.Subvolume(dir)
	}

	w.s3 = s3test.Start(t)
	w.must(os.Rename(filepath.Join(w.s3.Dir, w.s3.Bucket(t)), filepath.Join(w.s3.Dir, "bucket")))
	w.cold = w.s3.Cold(t)
	w.vaults = glaciertest.Start(t, glaciertest.Keys(w.s3.Access, w.s3.Secret))
	w.env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8",
		"AWS_ACCESS_KEY_ID=" + w.s3.Access, "AWS_SECRET_ACCESS_KEY=" + w.s3.Secret, "AWS_REGION=" + s3test.Region,
		"AWS_ENDPOINT_URL=" + w.cold.Endpoint, "AWS_ENDPOINT_URL_GLACIER=" + w.vaults.Endpoint, "AWS_EC2_METADATA_DISABLED=true",
	}
	w.sshd()
	return w
}

// move takes what the test itself needs out of the way of what is put over the real
// machine's directories: the house, the program, and room for what is made.
func (w *world) move() {
	w.t.Helper()
	top, err := filepath.Abs("../..")
	w.must(err)
	house := filepath.Join(os.TempDir(), "house")
	w.must(os.Mkdir(house, 0o755))
	w.must(unix.Mount(top, house, "", unix.MS_BIND, ""))
	text, err := os.ReadFile(program)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(os.TempDir(), "buttersink"), text, 0o755))
	w.must(unix.Mount(os.TempDir(), "/tmp", "", unix.MS_BIND|unix.MS_REC, ""))
	w.must(os.Chmod("/tmp", 0o1777))
	w.t.Setenv("TMPDIR", "/tmp")
	w.top, program = "/tmp/house", "/tmp/buttersink"
	w.t.Chdir("/tmp/house/internal/endurance")
}

// own puts layers over what command lines write to, so that the real machine keeps
// what it has.
func (w *world) own() {
	w.t.Helper()
	// It goes with the namespace; who has started this removes the directory.
	layers, err := os.MkdirTemp("", "layers")
	w.must(err)
	w.must(unix.Mount("layers", layers, "tmpfs", 0, "mode=755"))
	for _, dir := range []string{"/etc", "/var", "/usr"} {
		upper, work := filepath.Join(layers, dir, "upper"), filepath.Join(layers, dir, "work")
		w.must(os.MkdirAll(upper, 0o755))
		w.must(os.MkdirAll(work, 0o755))
		w.must(unix.Mount("layers", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work))
	}
	for _, dir := range []string{"/mnt", "/home", "/root", "/run"} {
		w.must(unix.Mount("layers", dir, "tmpfs", 0, "mode=755"))
	}
	w.write("/etc/hosts", hosts, 0o644)
}

// disk makes a file system.
func (w *world) disk() *btrfstest.FS {
	w.t.Helper()
	return btrfstest.New(w.t, btrfstest.Size(1<<30))
}

// bind shows a directory at one more place, until the test ends.
func (w *world) bind(dir, place string) {
	w.t.Helper()
	w.must(os.MkdirAll(place, 0o755))
	w.must(unix.Mount(dir, place, "", unix.MS_BIND, ""))
	w.t.Cleanup(func() {
		if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
			w.t.Error(err)
		}
	})
}

// sshd starts that of the other machine, where other file systems are below /mnt.
// Root has a key for it, and knows its own.
func (w *world) sshd() {
	w.t.Helper()
	w.run("mkdir -p -m 700 /root/.ssh && mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -C '' -f /root/.ssh/id_ed25519 && ssh-keygen -q -t ed25519 -N '' -C '' -f /root/host")
	w.key = strings.TrimSpace(w.read("/root/.ssh/id_ed25519.pub"))
	w.write("/root/.ssh/known_hosts", "* "+w.read("/root/host.pub"), 0o644)
	w.write("/root/.ssh/authorized_keys", w.key+"\n", 0o600)
	w.write("/root/sshd_config", `Port 22
Port 2222
ListenAddress 127.0.0.1
HostKey /root/host
PidFile /run/sshd/pid
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
PermitRootLogin prohibit-password
`, 0o600)
	daemon := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc", `mount --bind "$0" /mnt && exec /usr/sbin/sshd -D -e -f /root/sshd_config`, w.far.Dir)
	daemon.Env = w.env
	said := &output{}
	daemon.Stderr = said
	w.must(onKeptThread(daemon.Start))
	w.t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		// Each session has the file systems, too.
		_ = exec.Command("pkill", "-9", "-x", "sshd|buttersink|gpg-agent").Run()
		if w.t.Failed() {
			w.t.Logf("sshd says:\n%s", said)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile("/run/sshd/pid"); strings.HasSuffix(string(text), "\n") {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("sshd does not begin: %s", said)
		}
	}
}

// shell runs a command line as somebody, root if nobody is named, in the home, and
// returns what it says and how it ends. It reads what another one of root's writes,
// if there is one.
func (w *world) shell(user, in, line string) (said string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	args := []string{"bash", "-o", "pipefail", "-c", line}
	if user != "" {
		args = append([]string{"runuser", "-u", user, "--", "env", "-i", "-C", w.home(user), "HOME=" + w.home(user), "USER=" + user, w.env[0]}, args...)
	}
	cmd := w.command(ctx, args...)
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if in != "" {
		writer := w.command(ctx, "bash", "-o", "pipefail", "-c", in)
		writer.Stderr = &out
		pipe, err := writer.StdoutPipe()
		w.must(err)
		cmd.Stdin = pipe.(*os.File)
		w.must(writer.Start())
		defer func() {
			// What was not read to its end ends as it may.
			_ = pipe.Close()
			_ = writer.Wait()
		}()
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return out.String(), exit.ExitCode()
	}
	// What a line leaves behind (an agent of gpg's) may hold on to its output.
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		w.t.Fatalf("%s: %v\n%s", line, err, &out)
	}
	return out.String(), 0
}

// command is one in root's home.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/root", w.env, time.Second
	return cmd
}

func (w *world) home(user string) string { return "/home/btrfs/" + user }

// run runs what the scene needs, which has to succeed.
func (w *world) run(line string) string {
	w.t.Helper()
	out, code := w.shell("", "", line)
	if code != 0 {
		w.t.Fatalf("%s: it ends with %d\n%s", line, code, out)
	}
	return out
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(name)
	w.must(err)
	return string(text)
}

// write writes a file, with the directories on the way to it.
func (w *world) write(name, text string, mode os.FileMode) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(name), 0o755))
	w.must(os.WriteFile(name, []byte(text), mode))
	w.must(os.Chmod(name, mode))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// furnish is what most pages take for granted: snapshots, directories for them, and
// keeper, who may log in to the other machine and use sudo there.
func (w *world) furnish() {
	w.t.Helper()
	w.snapshots("/mnt/a/snaps", "monday", "tuesday")
	w.run("mkdir -p /mnt/a/restored /mnt/b/snaps /mnt/b/restored /mnt/c/back")
	w.keeper()
}

// snapshots makes snapshots of a subvolume that changes in between, which is beside
// their directory.
func (w *world) snapshots(dir string, names ...string) {
	w.t.Helper()
	live := filepath.Join(filepath.Dir(dir), "live")
	w.run("mkdir -p " + dir + " && { [ -d " + live + " ] || btrfs -q subvolume create " + live + "; }")
	for i, name := range names {
		w.write(filepath.Join(live, "diary"), strings.Repeat(name+"\n", 1000), 0o644)
		w.must(os.WriteFile(filepath.Join(live, "photo-"+name), noise(byte(i+1), 2_000_000>>(2*min(i, 1))), 0o644))
		w.run("btrfs -q subvolume snapshot -r " + live + " " + filepath.Join(dir, name))
	}
}

// keeper makes the user whom the other machine knows.
func (w *world) keeper() {
	w.t.Helper()
	w.run("useradd --system --create-home --shell /bin/sh keeper && usermod -p '*' keeper && mkdir -p -m 700 ~keeper/.ssh")
	w.write("/etc/sudoers.d/keeper", "keeper ALL=(root) NOPASSWD: ALL\n", 0o440)
	w.write("/home/keeper/.ssh/authorized_keys", w.key+"\n", 0o600)
	w.run("chown -R keeper: ~keeper/.ssh")
	w.run("mkdir -p " + w.far.Path("b/snaps") + " " + w.far.Path("volume1/snaps"))
	w.run(fmt.Sprintf("btrfs -q subvolume create %[1]s/a/live && mkdir %[1]s/a/snaps && head -c 300000 /dev/urandom >%[1]s/a/live/film && btrfs -q subvolume snapshot -r %[1]s/a/live %[1]s/a/snaps/sunday", w.far.Dir))
}

// dated makes a snapshot that is called by a date, for btrsend.
func (w *world) dated(dates ...string) { w.snapshots("/mnt/a/dated", dates...) }

// clear removes what is in directories, snapshots among it.
func (w *world) clear(dirs ...string) {
	w.t.Helper()
	for _, dir := range dirs {
		w.run("find " + dir + " -mindepth 1 -depth -type d -inum 256 -exec btrfs -q subvolume delete {} + && find " + dir + " -mindepth 1 -delete")
	}
}

// another makes a directory with one snapshot, which is of no relation to others.
func (w *world) another(dir string) {
	w.t.Helper()
	w.run("mkdir " + dir + " && btrfs -q subvolume create " + dir + "/live && btrfs -q subvolume snapshot -r " + dir + "/live " + dir + "/friday")
}

// place puts a file of a page where it belongs, and has it checked by who reads it.
func (w *world) place(where string, p passage, s step) {
	w.t.Helper()
	if s.before != nil {
		s.before(w)
	}
	if s.run != "" {
		p.kind, p.name = file, s.run
	}
	check := ""
	switch p.kind {
	case file:
		w.write(p.name, p.text, 0o644)
		switch filepath.Ext(p.name) {
		case ".service", ".timer":
			check = "systemd-analyze verify " + p.name
		case ".toml":
			w.hooks(p.text)
			check = "buttersink config check " + p.name
		}
	case script:
		w.write("/root/script", p.text, 0o755)
		check = "sh -n /root/script"
	case sudoers:
		w.write("/root/sudoers", p.text, 0o440)
		check = "visudo -cf /root/sudoers"
	case keyLine:
		w.write("/root/authorized_keys", strings.ReplaceAll(p.text, "ssh-ed25519 AAAA...", w.key), 0o600)
		check = "ssh-keygen -lf /root/authorized_keys"
	case settings:
		w.hooks(p.text)
		if text := strings.TrimSpace(p.text); strings.HasPrefix(text, "[") {
			w.write("/root/config.toml", p.text, 0o644)
			check = "buttersink config check /root/config.toml"
		} else {
			// Keys without a table are a job's.
			w.write("/root/config.toml", "[jobs.page]\nsources = [\"/home\"]\n"+p.text+"[[jobs.page.destinations]]\nurl = \"/mnt/bk/page/\"\n", 0o644)
			check = "buttersink config check /root/config.toml && buttersink -c /root/config.toml run page"
		}
	}
	if check != "" {
		out, code := w.shell("", "", check)
		w.t.Logf("%s: %s: %s: %d\n%s", where, p.kind, check, code, out)
		if code != s.code {
			w.t.Errorf("%s: %s: %s ends with %d and not with %d:\n%s", where, p.kind, check, code, s.code, out)
		}
	}
	if s.after != nil {
		s.after(w)
	}
}

// hookPath is what a configuration names as a program of the machine's own.
var hookPath = regexp.MustCompile(`"(/usr/local/bin/[\w-]+)"`)

// hooks makes the programs that a configuration names and that only its reader has,
// and the one that takes mail.
func (w *world) hooks(text string) {
	w.t.Helper()
	names := []string{"/usr/sbin/sendmail"}
	for _, m := range hookPath.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			w.write(name, "#!/bin/sh\ncat >/dev/null\n", 0o755)
		}
	}
}
