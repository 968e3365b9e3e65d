package btrfstest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// guardScript is what the guard runs. It makes the directory itself, so that
// there is no moment at which the directory exists and nobody would remove it
// (hence PIPE: the reader of its name may be gone already), and then waits for the end of its input, which comes when the test binary
// closes the pipe or dies. Mounts are detached lazily, together with all that
// is mounted beneath them, because a child of a killed test may still be busy
// there; the last of them to end frees the file system and its loop devices.
const guardScript = `
trap '' HUP INT PIPE QUIT TERM
dir=$(mktemp -d "${TMPDIR:-/tmp}/btrfstest-XXXXXXXXXX") || exit
chmod 755 "$dir"
printf '%s\n' "$dir"
exec >/dev/null
read -r line
for m in "$dir"/mnt*; do
	while umount -l "$m"; do :; done
done
exec rm -rf --one-file-system "$dir"
`

// A guard is a process that owns a directory and removes it, with all that is
// mounted there, as soon as this process is gone.
type guard struct {
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startGuard() (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript)
	// A session of its own: what kills the test's process group must not kill
	// the one that cleans up after it. Its output goes to no file of ours, or
	// the go command would wait for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
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
	return &guard{dir: strings.TrimSuffix(line, "\n"), cmd: cmd, stdin: stdin}, nil
}

// stop lets the guard do its work now and waits for it.
func (g *guard) stop() error {
	g.stdin.Close()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("removing %s: %w", g.dir, err)
	}
	return nil
}
