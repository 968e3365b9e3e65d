package sshtest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/sshtest"
)

// ssh runs a command as a user, and returns its exit status and what it said.
func ssh(t *testing.T, u *sshtest.User, command string, more ...string) (int, string) {
	t.Helper()
	args := slices.Concat(more, u.Args(), []string{sshtest.Host, command})
	out, err := exec.Command("ssh", args...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// expect fails the test unless a command ends like this.
func expect(t *testing.T, u *sshtest.User, command string, status int, says string) {
	t.Helper()
	if got, out := ssh(t, u, command); got != status || !strings.Contains(out, says) {
		t.Errorf("%q ends with %d and says %q; want %d and %q", command, got, out, status, says)
	}
}

func TestUsers(t *testing.T) {
	server := sshtest.Start(t, sshtest.Env("SOME=thing with spaces"))
	server.Script("hail", "#!/bin/sh\necho \"hail $(id -un)\"\n")
	plain, ash := server.User(), server.User(sshtest.Shell(server.Ash()))
	root := server.Root()

	expect(t, plain, "hail; pwd; echo $SOME", 0, "hail "+plain.Name+"\n"+plain.Home+"\nthing with spaces\n")
	expect(t, ash, "hail; read name </proc/self/comm; echo $name", 0, "hail "+ash.Name+"\nash\n")
	expect(t, root, "hail", 0, "hail root\n")
	expect(t, plain, "exit 3", 3, "")
	expect(t, plain, "sudo -n hail", 1, "sudo: a password is required")

	plain.Sudoers("ALL=(root) NOPASSWD: " + server.Bin + "/hail there")
	expect(t, plain, "sudo -n hail there", 0, "hail root\n")
	expect(t, plain, "sudo -n hail here", 1, "sudo: a password is required")
	plain.Sudoers()
	expect(t, plain, "sudo -n hail there", 1, "sudo: a password is required")

	plain.ForceCommand(`echo "asked: $SSH_ORIGINAL_COMMAND"`)
	expect(t, plain, "hail 'a  b'", 0, "asked: hail 'a  b'\n")
	expect(t, ash, "hail", 0, "hail "+ash.Name)
	plain.ForceCommand("")
	expect(t, plain, "hail", 0, "hail "+plain.Name)

	// One user's key opens no other's door.
	other := *plain
	other.Name = ash.Name
	expect(t, &other, "hail", 255, "Permission denied (publickey)")
}

func TestFailures(t *testing.T) {
	server := sshtest.Start(t)
	u := server.User()
	proxy := server.Proxy(t)
	port := "-oPort=" + strconv.Itoa(proxy.Port)
	if status, out := ssh(t, u, "echo hi", port); status != 0 || out != "hi\n" {
		t.Fatalf("through the proxy: %d %q", status, out)
	}
	proxy.Cut(64<<10, s3test.Down)
	if status, _ := ssh(t, u, "head -c 1M /dev/zero", port); status != 255 {
		t.Errorf("ssh ends with %d on a connection that is cut", status)
	}
	proxy.Heal()
	var got int64
	for deadline := time.Now().Add(time.Minute); got < 64<<10 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got = proxy.Bytes(s3test.Down)
	}
	if got < 64<<10 || got >= 128<<10 {
		t.Errorf("%d bytes went down a proxy that cuts after 64 KiB", got)
	}

	for _, trouble := range []struct {
		name string
		make func()
	}{
		{"cut", func() {
			if server.Cut() == 0 {
				t.Error("there was nothing to cut")
			}
		}},
		{"killed", server.Kill},
	} {
		cmd := exec.Command("ssh", append(u.Args(), sshtest.Host, "echo ready; exec sleep 1000")...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); len(server.Pids("sleep")) != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("sleep runs %d times", len(server.Pids("sleep")))
			}
		}
		trouble.make()
		if exit, ok := errors.AsType[*exec.ExitError](cmd.Wait()); !ok || exit.ExitCode() != 255 {
			t.Errorf("%s: ssh ends with %v", trouble.name, exit)
		}
		server.Signal("sleep", syscall.SIGKILL)
	}
	server.Restart()
	expect(t, u, "echo back", 0, "back\n")
}

// TestGuard holds that a test binary that is killed leaves no user, no rule, no
// server and no directory.
func TestGuard(t *testing.T) {
	const env = "SSHTEST_GUARDED"
	if os.Getenv(env) != "" {
		server := sshtest.Start(t)
		u := server.User()
		u.Sudoers("ALL=(root) NOPASSWD: ALL")
		cmd := exec.Command("ssh", append(u.Args(), sshtest.Host, "echo ready; exec sudo sleep 1000")...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		fmt.Println("HERE", u.Name, server.Dir, server.Addr)
		time.Sleep(time.Minute)
		t.Fatal("nobody kills me")
	}
	sshtest.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestGuard$", "-test.v")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var name, dir, addr string
	var text strings.Builder
	for b := make([]byte, 1); ; {
		if _, err := out.Read(b); err != nil {
			t.Fatalf("the test that is to be killed says %q: %v", text.String(), err)
		}
		text.Write(b)
		if _, after, ok := strings.Cut(text.String(), "HERE "); ok && strings.HasSuffix(after, "\n") {
			if _, err := fmt.Sscan(after, &name, &dir, &addr); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	left := func() []string {
		var left []string
		if _, err := user.Lookup(name); err == nil {
			left = append(left, "the user")
		}
		for _, file := range []string{dir, "/etc/sudoers.d/" + name} {
			if _, err := os.Lstat(file); err == nil {
				left = append(left, file)
			}
		}
		if out, err := exec.Command("ssh-keyscan", "-T", "2", "-p", addr[strings.LastIndex(addr, ":")+1:], sshtest.Host).Output(); err == nil && len(out) > 0 {
			left = append(left, "the server")
		}
		return left
	}
	deadline := time.Now().Add(time.Minute)
	for len(left()) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if l := left(); len(l) > 0 {
		t.Errorf("what is left: %q", l)
	}
}
