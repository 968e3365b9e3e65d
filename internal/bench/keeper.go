package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// dirEnv tells the process that does the work where its directory is.
const dirEnv = "BUTTERSINK_BENCH_DIR"

// keep runs this program again, in a mount namespace of its own and with a
// directory of its own, and clears up behind it. What is mounted there ends with
// the last process of the namespace, and the loop devices, which detach
// themselves, with the mounts; all of its processes die with their parents. So
// nothing is left, however any of them ends; only if this one is killed the
// directory stays.
func keep(below string) error {
	if os.Geteuid() != 0 {
		return errors.New("it mounts scratch file systems: run it as root")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Whoever asks for the end asks the other process too, or it is asked here.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	dir, err := os.MkdirTemp(below, "buttersink-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), dirEnv+"="+dir, "LC_ALL=C")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting in a mount namespace of its own: %w", err)
	}
	done := make(chan struct{})
	go func() {
		select {
		case s := <-ended:
			_ = cmd.Process.Signal(s)
		case <-done:
		}
	}()
	err = cmd.Wait()
	close(done)
	return err
}
