package btrfstest

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// aptPackages tells which Debian package holds a program.
var aptPackages = map[string]string{
	"btrfs":      "btrfs-progs",
	"mkfs.btrfs": "btrfs-progs",
	"btrfstune":  "btrfs-progs",
	"setfacl":    "acl",
	"getfacl":    "acl",
	"setfattr":   "attr",
	"getfattr":   "attr",
	"chattr":     "e2fsprogs",
	"filefrag":   "e2fsprogs",
	"lsattr":     "e2fsprogs",
	"setcap":     "libcap2-bin",
	"getcap":     "libcap2-bin",
	"umount":     "mount",
	"mount":      "mount",
	"losetup":    "mount",
	"strace":     "strace",
	"rsync":      "rsync",
	"ssh":        "openssh-client",
	"ssh-keygen": "openssh-client",
	"age":        "age",
	"age-keygen": "age",
	"zstd":       "zstd",
	"gpg":        "gnupg",
}

// Program returns the path of an external program. Where it is missing the test
// is skipped, or fails if RealEnv is set, with the name of the package to
// install.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := program(name)
	if err != nil {
		if realTests() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	// An ordinary user's PATH often lacks the system directories.
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	if pkg, ok := aptPackages[name]; ok {
		return "", fmt.Errorf("no program %s: apt-get install %s", name, pkg)
	}
	return "", fmt.Errorf("no program %s", name)
}

// run executes a program to its end and returns what it writes to its output;
// the test fails if the program does.
func run(t testing.TB, stdin io.Reader, name string, args ...string) []byte {
	t.Helper()
	out, err := output(t, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// output is run for programs that are expected to fail; the error holds what
// the program said.
func output(t testing.TB, stdin io.Reader, name string, args ...string) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	err := pipe(t, "", stdin, &out, name, args...)
	return out.Bytes(), err
}

// pipe executes a program in a directory ("" for the present one).
func pipe(t testing.TB, dir string, stdin io.Reader, stdout io.Writer, name string, args ...string) error {
	t.Helper()
	path, err := program(name)
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, stdin, stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}
