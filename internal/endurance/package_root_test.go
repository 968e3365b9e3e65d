package endurance

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// A debianRoot is a small Debian on a btrfs of its own, with what a job needs: the
// subvolume /home, and another btrfs at /mnt/bk. It has no service manager: in its
// place is a script that writes down what it is asked.
type debianRoot struct {
	t    *testing.T
	dir  string
	disk *btrfstest.FS
}

// managed is where the script in place of systemctl writes its arguments.
const managed = "var/log/systemctl"

const manager = `#!/bin/sh
echo "$*" >>/` + managed + `
case $* in
*is-enabled*) echo enabled ;;
--version*) echo "systemd 252 (252.39-1~deb12u1)" ;;
esac
`

func newDebianRoot(t *testing.T) *debianRoot {
	t.Helper()
	tar := debian(t)
	disk := btrfstest.New(t, btrfstest.Size(1<<30))
	r := &debianRoot{t: t, dir: disk.Subvolume("root"), disk: btrfstest.New(t)}
	r.host("tar", "-C", r.dir, "-xf", tar)
	if err := os.Remove(r.path("home")); err != nil {
		t.Fatal(err)
	}
	disk.Subvolume("root/home")
	for _, dir := range []string{"mnt/bk", "run/systemd/system"} {
		if err := os.MkdirAll(r.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write("usr/bin/systemctl", manager, 0o755)
	return r
}

// debian returns a tar file of Debian's smallest system that is one, and makes it
// where there is none yet: that takes a minute and a mirror, and is kept beside
// what Go keeps.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	const suite = "bookworm"
	dir := filepath.Join(cache, "buttersink-test")
	file := filepath.Join(dir, suite+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), suite)
	for _, args := range [][]string{
		{"debootstrap", "--variant=minbase", suite, root, "http://deb.debian.org/debian"},
		{"sh", "-c", `rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*; tar -C "$1" -cf "$2".new.$$ . && mv "$2".new.$$ "$2"; s=$?; rm -f "$2".new.$$; exit $s`, "sh", root, file},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if strings.HasPrefix(args[0], "deb") {
			if cmd.Path, err = lookInSbin(args[0]); err != nil {
				t.Fatalf("%v; make deps installs it", err)
			}
			cmd.Err = nil
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return file
}

// lookInSbin finds a program also where only root's PATH leads.
func lookInSbin(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

func (r *debianRoot) path(name string) string { return filepath.Join(r.dir, name) }

func (r *debianRoot) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

func (r *debianRoot) exists(name string) bool {
	_, err := os.Lstat(r.path(name))
	return err == nil
}

// host runs a command outside.
func (r *debianRoot) host(args ...string) string {
	r.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// command prepares a command inside: with mounts and processes of its own, that go
// with it.
func (r *debianRoot) command(args ...string) *exec.Cmd {
	const enter = `mount --bind "$2" "$1/mnt/bk" && mount -t proc proc "$1/proc" && root=$1 && shift 2 &&
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"`
	return exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh", r.dir, r.disk.Dir}, args...)...)
}

// run runs a command inside, and returns what it writes.
func (r *debianRoot) run(args ...string) string {
	r.t.Helper()
	out, err := r.try(args...)
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

func (r *debianRoot) try(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := r.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// asked returns what the service manager has been asked since the last time.
func (r *debianRoot) asked() []string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(managed))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	_ = os.Remove(r.path(managed))
	var asked []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "is-enabled") && !strings.Contains(line, "is-active") && !strings.HasPrefix(line, "--version") {
			asked = append(asked, strings.TrimSpace(line))
		}
	}
	return asked
}

// unlisted are the files of the package managers, and logs; and what is the user's.
var unlisted = []string{"var/lib/dpkg", "var/lib/rpm", "var/log", "proc", "mnt/bk", "home", "root", "tmp"}

// files tells of every file what it is: a line each, with its mode, and of regular
// files size and time of change too.
func (r *debianRoot) files() []string {
	r.t.Helper()
	var list []string
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.dir, path)
		if err != nil {
			return err
		}
		if slices.Contains(unlisted, name) {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", name, info.Mode())
		switch {
		case info.Mode().IsRegular():
			line += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case info.Mode().Type()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" %d", info.Sys().(*syscall.Stat_t).Rdev)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// names returns the paths in a list of files that another one lacks.
func names(list, without []string) []string {
	had := map[string]bool{}
	for _, line := range without {
		had[line] = true
	}
	var found []string
	for _, line := range list {
		if !had[line] {
			name, _, _ := strings.Cut(line, " ")
			found = append(found, "/"+name)
		}
	}
	return found
}
