package btrfstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// childEnv tells a copy of the test binary which end to come to.
const childEnv = "BTRFSTEST_CHILD"

// TestChild is not a test of its own: the tests below run it in a process of its
// own and see what that leaves behind.
func TestChild(t *testing.T) {
	end := os.Getenv(childEnv)
	if end == "" {
		return
	}
	if end == "make many" {
		for range 100 {
			t.Run("one", func(t *testing.T) { btrfstest.New(t, btrfstest.Size(128<<20)) })
		}
	}
	if end == "cannot be made" {
		btrfstest.New(t, btrfstest.Size(1<<20))
	}
	if end == "waits for its disk" {
		fs := btrfstest.New(t, btrfstest.Faulty())
		if err := writeSynced(fs.Path("file"), []byte("file")); err != nil {
			t.Fatal(err)
		}
		fs.Remount()
		fs.Disks[0].Pause()
		fmt.Println("ready")
		_, _ = os.ReadFile(fs.Path("file"))
		t.Fatal("it did not wait")
	}
	fs := btrfstest.New(t, btrfstest.Devices(2))
	go func() { // whoever started this may be killed as well
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(4)
	}()
	fs.Subvolume("live")
	fs.Bind("live")
	fs.MountAgain("subvol=live")
	tree := btrfstest.NewTree(t, fs.Path("live"), 1)
	tree.Fill()
	switch end {
	case "passes":
	case "fails":
		t.Fatal("as told")
	case "panics":
		panic("as told")
	case "exits":
		os.Exit(3)
	case "hangs":
		fmt.Println("ready")
		select {}
	case "mutates":
		fmt.Println("ready")
		for {
			tree.Mutate()
		}
	case "leaks":
		f, err := os.Open(fs.Path("live"))
		if err != nil {
			t.Fatal(err)
		}
		leaked = f
	case "leaves a child":
		cmd := exec.Command("sleep", "4")
		cmd.Dir = fs.Path("live")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("ready")
		select {}
	default:
		t.Fatalf("no end %q", end)
	}
}

// leaked is kept from being collected, which would close it.
var leaked *os.File

// child runs TestChild with a temporary directory of its own.
type child struct {
	*exec.Cmd
	tmp    string
	stdout io.Reader
	stderr bytes.Buffer
}

func startChild(t *testing.T, end string, args ...string) *child {
	t.Helper()
	c := &child{tmp: t.TempDir()}
	c.Cmd = exec.Command(os.Args[0], append([]string{"-test.run=^TestChild$", "-test.v"}, args...)...)
	c.Env = append(os.Environ(), childEnv+"="+end, "TMPDIR="+c.tmp)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.stdout, c.Cmd.Stderr = out, &c.stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.kill(t)
		}
	})
	return c
}

// readAll returns the rest of what the child says, up to its end.
func (c *child) readAll() string {
	out, _ := io.ReadAll(c.stdout)
	return string(out)
}

// untilReady waits until the child says that it is ready.
func (c *child) untilReady(t *testing.T) {
	t.Helper()
	var said []byte
	for b := make([]byte, 512); !bytes.Contains(said, []byte("ready\n")); {
		n, err := c.stdout.Read(b)
		said = append(said, b[:n]...)
		if err != nil {
			t.Fatalf("the child ended before it was ready: %v: %s", err, said)
		}
	}
}

// kill ends the child and everything in its process group in an instant.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.readAll()
	_ = c.Wait()
}

// remains lists the mounts, loop devices and files below a directory.
func remains(t *testing.T, dir string) (mounts, loops, files []string) {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, dir) {
			mounts = append(mounts, line)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range backing {
		if of, err := os.ReadFile(file); err == nil && bytes.Contains(of, []byte(dir)) {
			loops = append(loops, file+": "+string(of))
		}
	}
	files, err = filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return mounts, loops, files
}

// checkNothingRemains gives the guard a moment, as it works after its test has
// gone.
func checkNothingRemains(t *testing.T, dir string, patience time.Duration) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		mounts, loops, files := remains(t, dir)
		if len(mounts)+len(loops)+len(files) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: mounts %q, loop devices %q, files %q", mounts, loops, files)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNothingRemains: however a test ends.
func TestNothingRemains(t *testing.T) {
	btrfstest.Require(t)
	for _, c := range []struct {
		end   string
		args  []string
		fails bool
	}{
		{end: "passes"},
		{end: "fails", fails: true},
		{end: "panics", fails: true},
		{end: "exits", fails: true},
		{end: "hangs", args: []string{"-test.timeout=2s"}, fails: true},
		{end: "leaks", fails: true},
		{end: "cannot be made", fails: true},
	} {
		t.Run(c.end, func(t *testing.T) {
			child := startChild(t, c.end, c.args...)
			said := child.readAll()
			if err := child.Wait(); (err != nil) != c.fails {
				t.Errorf("the child ends with %v: %s", err, said)
			}
			if c.end == "leaks" && !strings.Contains(said, "in use by /proc/") {
				t.Errorf("the leak is not explained: %s", said)
			}
			checkNothingRemains(t, child.tmp, 10*time.Second)
		})
	}
}

// TestNothingRemainsAfterKill: not even when the test binary gets no chance to
// do anything about it.
func TestNothingRemainsAfterKill(t *testing.T) {
	btrfstest.Require(t)
	for _, end := range []string{"hangs", "mutates"} {
		t.Run(end, func(t *testing.T) {
			child := startChild(t, end)
			child.untilReady(t)
			if mounts, loops, files := remains(t, child.tmp); len(mounts) != 3 || len(loops) != 2 || len(files) != 1 {
				t.Errorf("before the kill: mounts %q, loop devices %q, files %q", mounts, loops, files)
			}
			child.kill(t)
			checkNothingRemains(t, child.tmp, 20*time.Second)
		})
	}
	t.Run("waits for its disk", func(t *testing.T) {
		child := startChild(t, "waits for its disk")
		child.untilReady(t)
		child.kill(t)
		checkNothingRemains(t, child.tmp, 20*time.Second)
	})
	t.Run("busy", func(t *testing.T) {
		child := startChild(t, "leaves a child")
		child.untilReady(t)
		child.kill(t)
		checkNothingRemains(t, child.tmp, 20*time.Second)
	})
	t.Run("at any moment", func(t *testing.T) {
		for range 25 {
			child := startChild(t, "make many")
			time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
			child.kill(t)
			checkNothingRemains(t, child.tmp, 20*time.Second)
		}
	})
}

// TestManyAtOnce: several test binaries, each with several file systems, take
// their loop devices from the same few.
func TestManyAtOnce(t *testing.T) {
	btrfstest.Require(t)
	var children []*child
	for range 3 {
		children = append(children, startChild(t, "passes", "-test.count=4"))
	}
	for i := range 6 {
		t.Run("here", func(t *testing.T) {
			t.Parallel()
			fs := btrfstest.New(t, btrfstest.Size(128<<20))
			if err := os.WriteFile(fs.Path("mine"), []byte{byte(i)}, 0o600); err != nil {
				t.Fatal(err)
			}
			fs.Remount()
			if b, err := os.ReadFile(fs.Path("mine")); err != nil || !bytes.Equal(b, []byte{byte(i)}) {
				t.Errorf("another's file system: %v, %v", b, err)
			}
		})
	}
	t.Cleanup(func() { // the parallel tests have ended by now
		for _, c := range children {
			said := c.readAll()
			if err := c.Wait(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
			checkNothingRemains(t, c.tmp, 10*time.Second)
		}
	})
}

// TestRequireFails: where a real btrfs is demanded, its absence is a failure
// that says what is missing; otherwise a skip.
func TestRequireFails(t *testing.T) {
	btrfstest.Require(t)
	for _, c := range []struct {
		real, verdict string
	}{{"1", "--- FAIL"}, {"", "--- SKIP"}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"=passes", btrfstest.RealEnv+"="+c.real)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Path = readableCopy(t)
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), c.verdict) || !strings.Contains(string(out), "not root") {
			t.Errorf("%s=%s: want %q for want of root, got: %s", btrfstest.RealEnv, c.real, c.verdict, out)
		}
	}
}

// readableCopy puts the test binary where an ordinary user may run it.
func readableCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "btrfstest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "test")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
