package sshtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// lockFile is held while users are made and removed: useradd and userdel give up
// when another of them is at work.
const lockFile = "/run/buttersink-sshtest.lock"

// guardScript is what the guard runs. It makes the directory itself, so that
// there is no moment at which the directory exists and nobody would remove it,
// and then waits for the end of its input, which comes when the test binary
// closes the pipe or dies. sshd is gone by then, or about to go; a process of a
// user that is still there would keep userdel from removing the user, hence the
// tries.
const guardScript = `
trap '' HUP INT PIPE QUIT TERM
dir=$(mktemp -d "${TMPDIR:-/tmp}/sshtest-XXXXXXXXXX") || exit
chmod 755 "$dir"
printf '%s\n' "$dir"
exec >/dev/null
read -r line
status=0
while read -r user; do
	rm -f "/etc/sudoers.d/$user"
	tries=0
	while id "$user" >/dev/null 2>&1; do
		flock "$1" userdel "$user" 2>"$dir/userdel" && break
		tries=$((tries + 1))
		if [ "$tries" -ge 100 ]; then
			cat "$dir/userdel" >&2
			status=1
			break
		fi
		sleep 0.1
	done
done <"$dir/users"
rm -rf --one-file-system "$dir" || exit
exit "$status"
`

// A guard is a process that owns a directory, and the users and sudo rules that
// are written down there, and removes them as soon as this process is gone.
type guard struct {
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startGuard() (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "guard", lockFile)
	// A session of its own: what kills the test's process group must not kill
	// the one that cleans up after it. Its output goes to no file of ours, or
	// the go command would wait for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TMPDIR=" + os.TempDir()}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stdin.Close()
		return nil, fmt.Errorf("making a directory below %s: %w", os.TempDir(), cmd.Wait())
	}
	g := &guard{dir: strings.TrimSuffix(line, "\n"), cmd: cmd, stdin: stdin}
	if err := os.WriteFile(g.users(), nil, 0o600); err != nil {
		stdin.Close()
		return nil, err
	}
	return g, nil
}

// users is the file with the names of the users to remove, one a line.
func (g *guard) users() string { return g.dir + "/users" }

// owes notes a user before it is made.
func (g *guard) owes(user string) error {
	f, err := os.OpenFile(g.users(), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(user + "\n"); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// stop lets the guard do its work now and waits for it.
func (g *guard) stop() error {
	g.stdin.Close()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("removing the users and the directory %s of an sshd: %w", g.dir, err)
	}
	return nil
}
