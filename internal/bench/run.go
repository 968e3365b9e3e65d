package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A pipeline is commands that run at once, each reading what the one before
// writes.
type pipeline [][]string

// work is what is timed: pipelines one after another, or side by side.
type work struct {
	pipelines  []pipeline
	sideBySide bool
	listen     bool // keep what the last command writes to standard output
}

// one is the work of a single command.
func one(command ...string) work { return work{pipelines: []pipeline{{command}}} }

// cost is what a work has taken.
type cost struct {
	wall time.Duration
	cpu  time.Duration // of its processes, not of the kernel's own threads
	peak int64         // bytes of memory of its largest process
	said []byte        // what the last of it wrote to standard output
}

// do runs a work in a directory. The environment is that of this process with
// what is given.
func do(ctx context.Context, w work, env []string) (cost, error) {
	var all []*running
	var c cost
	begun := time.Now()
	for _, p := range w.pipelines {
		r, err := start(ctx, p, w.listen, env)
		if err != nil {
			return c, err
		}
		all = append(all, r)
		if !w.sideBySide {
			if err := r.wait(&c); err != nil {
				return c, err
			}
		}
	}
	if w.sideBySide {
		for _, r := range all {
			if err := r.wait(&c); err != nil {
				return c, err
			}
		}
	}
	c.wall = time.Since(begun)
	return c, nil
}

// running is a pipeline that runs.
type running struct {
	cmds []*exec.Cmd
	out  bytes.Buffer
	bad  complaints
}

// complaints are what several commands write to standard error.
type complaints struct {
	mu   sync.Mutex
	text []byte
}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	return len(p), nil
}

func start(ctx context.Context, p pipeline, listen bool, env []string) (*running, error) {
	r := &running{}
	var from *os.File
	for i, command := range p {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = &r.bad
		var ours []*os.File // closed once the command has its own
		if from != nil {
			cmd.Stdin = from
			ours = append(ours, from)
			from = nil
		}
		switch {
		case i == len(p)-1 && listen:
			cmd.Stdout = &r.out
		case i < len(p)-1:
			read, write, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			cmd.Stdout, from = write, read
			ours = append(ours, write)
		}
		err := cmd.Start()
		for _, f := range ours {
			f.Close()
		}
		if err != nil {
			return nil, err
		}
		r.cmds = append(r.cmds, cmd)
	}
	return r, nil
}

func (r *running) wait(c *cost) error {
	var failed error
	for _, cmd := range r.cmds {
		if err := cmd.Wait(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(r.bad.text)))
		}
		c.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			// What the child had before it became the program counts too: this
			// process has to stay small.
			c.peak = max(c.peak, usage.Maxrss<<10)
		}
	}
	c.said = r.out.Bytes()
	return failed
}
