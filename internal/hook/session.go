package hook

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// grace is how long a program that is to end may take to tidy up.
	grace = 10 * time.Second
	// lingering is how long what a program has printed is waited for when it has
	// ended, but others hold its output open.
	lingering = time.Second
	// longestVariable is how many bytes of a variable a program gets: the kernel
	// runs nothing with one above 128 KiB (execve(2)).
	longestVariable = 32 << 10
	// searchPath is where programs of programs are found.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// session is a program that runs, with what it has started.
type session struct {
	cmd    *exec.Cmd
	lines  *lines
	done   chan struct{} // closed when the program has ended
	status error         // how, once done is closed
}

// start runs a program.
func start(p Program) (*session, error) {
	s := &session{lines: newLines(p.Log, filepath.Base(p.Argv[0]), p.Hide), done: make(chan struct{})}
	for try := 0; ; try++ {
		s.cmd = &exec.Cmd{
			Path: p.Argv[0], Args: p.Argv, Dir: "/", Env: environment(p.Env),
			Stdout: s.lines, Stderr: s.lines, WaitDelay: lingering,
			SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		}
		if p.Stdin != nil {
			s.cmd.Stdin = bytes.NewReader(p.Stdin)
		}
		err := s.cmd.Start()
		// Whoever has just written it, or forked while writing, is about to close it.
		if errors.Is(err, syscall.ETXTBSY) && try < 10 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			return nil, unrunnable(err)
		}
		break
	}
	go func() {
		err := s.cmd.Wait()
		s.lines.close()
		if errors.Is(err, exec.ErrWaitDelay) { // it has left something running
			err = nil
		}
		s.status = err
		close(s.done)
	}()
	return s, nil
}

// unrunnable says why a program that is there cannot be run.
func unrunnable(err error) error {
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		err = inner.Err
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: what its first line names after #! is not there", err)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: a script begins with a line such as #!/bin/sh", err)
	case errors.Is(err, syscall.E2BIG):
		return fmt.Errorf("%w: its arguments and variables are too long", err)
	}
	return err
}

// environment is all that a program finds in its environment. Of a variable that is
// there twice, the last counts.
func environment(more []string) []string {
	name, home, shell := strconv.Itoa(os.Getuid()), "/", "/bin/sh"
	if u, err := user.LookupId(name); err == nil {
		name, home = u.Username, cmp.Or(u.HomeDir, home)
	}
	all := []string{"PATH=" + searchPath, "HOME=" + home, "USER=" + name, "LOGNAME=" + name, "SHELL=" + shell, "LANG=C.UTF-8"}
	for _, v := range more {
		v = strings.ReplaceAll(v, "\x00", "")
		if len(v) > longestVariable {
			v = strings.ToValidUTF8(v[:longestVariable], "")
		}
		all = append(all, v)
	}
	return all
}

// outcome is how the program ended, which has not ended well.
func (s *session) outcome() (status int, signal syscall.Signal, err error) {
	exit, ok := errors.AsType[*exec.ExitError](s.status)
	if !ok {
		return -1, 0, s.status
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return -1, ws.Signal(), nil
	}
	return exit.ExitCode(), 0, nil
}

// end ends all that is left of the session, which has so much time to do it itself.
func (s *session) end(log *slog.Logger, grace time.Duration) error {
	id := s.cmd.Process.Pid
	var denied error // of one; the others are ended all the same
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		told := map[int]bool{}
		limit := time.Now().Add(grace)
		for pause := time.Millisecond; time.Now().Before(limit); pause = min(2*pause, grace/50) {
			left := members(id)
			if len(left) == 0 && s.ended() {
				return nil
			}
			for _, pid := range left {
				if told[pid] && signal == syscall.SIGTERM {
					continue
				}
				told[pid] = true
				if err := tell(pid, id, signal); err != nil {
					denied = fmt.Errorf("ending process %d of it: %w", pid, err)
				}
			}
			time.Sleep(pause)
		}
		if signal == syscall.SIGTERM {
			log.Warn("it does not end when it is asked to, and is killed", "program", s.lines.name)
		}
	}
	if denied != nil {
		return denied
	}
	return fmt.Errorf("ending it: something in the session %d does not react to SIGKILL", id)
}

// ended reports whether the program has ended, and its output was read.
func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// tell sends a signal to a process, if it still is one of the session.
func tell(pid, session int, signal syscall.Signal) error {
	// What this holds on to cannot become another process between the two.
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	defer func() { _ = p.Release() }()
	if state, in := membership(stat(pid)); in != session || state == 'Z' || state == 'X' {
		return nil
	}
	if err := p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if signal == syscall.SIGTERM {
		_ = p.Signal(syscall.SIGCONT) // one that is stopped tidies up too, if it still is there
	}
	return nil
}

// members returns the processes of a session that run. What is dead and was not
// buried by its parent, as happens in containers, does not.
func members(session int) []int {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if state, in := membership(stat(pid)); in == session && state != 'Z' && state != 'X' {
			found = append(found, pid)
		}
	}
	return found
}

func stat(pid int) []byte {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil { // it is gone
		return nil
	}
	return text
}

// membership reads the state and the session from /proc/PID/stat (proc(5)):
// "PID (NAME) STATE PPID PGRP SESSION ...", where the name may have anything in it.
func membership(stat []byte) (state byte, session int) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 {
		return 0, 0
	}
	session, _ = strconv.Atoi(string(fields[3]))
	return fields[0][0], session
}
