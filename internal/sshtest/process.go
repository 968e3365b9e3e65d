package sshtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is sshd, and all that runs in its sessions.
type process struct {
	cmd  *exec.Cmd
	said *tail
	done chan struct{} // closed once it has ended
	err  error         // how it ended
}

// spawn starts a program that dies with this one, as the first process of a PID
// namespace: when it ends, for whatever reason, the kernel kills all others there
// (pid_namespaces(7)). /proc stays that of the machine, so in a session /proc/self
// is right and /proc/$$ is not.
func spawn(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), said: &tail{}, done: make(chan struct{})}
	p.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	p.cmd.Dir = "/"
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID, Setsid: true}
	// A pipe of our own: a session that is left would keep Wait waiting for the end
	// of one of exec's.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	go func() {
		defer r.Close()
		_, _ = r.WriteTo(p.said) // ends when nobody has the other end any more
	}()
	started := make(chan error)
	go func() {
		// The signal comes with the end of the thread that made the process, not of
		// the whole program (prctl(2), PR_SET_PDEATHSIG): so the thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		w.Close()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ready waits until probe reports true.
func (p *process) ready(probe func() bool) error {
	for deadline := time.Now().Add(time.Minute); !probe(); time.Sleep(2 * time.Millisecond) {
		select {
		case <-p.done:
			return fmt.Errorf("%w: %s", p.err, p.said)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it is not ready after a minute: %s", p.said)
		}
	}
	return nil
}

// kill ends the process, and all in its namespace, and waits for them. It may
// have ended already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // only says that it has ended
	<-p.done
}

// Kill ends the server and everything that runs in its sessions, as if the
// machine had crashed (SIGKILL); what they wrote stays.
func (s *Server) Kill() {
	s.t.Helper()
	s.process.kill()
}

// Restart has a server that was killed back, on the same port, with the same keys
// and users.
func (s *Server) Restart() {
	s.t.Helper()
	s.process.kill()
	if err := s.start(); err != nil {
		s.t.Fatalf("starting sshd again: %v", err)
	}
}

// Cut ends the server's half of every connection (SIGKILL for the processes of
// sshd) and returns how many processes that were. What runs in the sessions finds
// out by itself; new connections are taken.
func (s *Server) Cut() int {
	s.t.Helper()
	count := 0
	for _, pid := range s.pids() {
		if pid == s.process.cmd.Process.Pid || !strings.HasPrefix(comm(pid), "sshd") {
			continue
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			count++
		}
	}
	return count
}

// Pids returns the processes of this name (the first 15 bytes of that of the
// program) that run on the far side now, in order.
func (s *Server) Pids(name string) []int {
	s.t.Helper()
	return slices.DeleteFunc(s.pids(), func(pid int) bool { return comm(pid) != name })
}

// Signal sends a signal to the processes of this name on the far side, and
// returns how many they were.
func (s *Server) Signal(name string, sig syscall.Signal) int {
	s.t.Helper()
	count := 0
	for _, pid := range s.Pids(name) {
		if syscall.Kill(pid, sig) == nil {
			count++
		}
	}
	return count
}

// pids returns all processes in the server's namespace.
func (s *Server) pids() []int {
	s.t.Helper()
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.process.cmd.Process.Pid))
	if err != nil {
		return nil // it has ended, and all with it
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/pid")); err == nil && ns == ours {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// comm is the name of a process, "" if it has ended.
func comm(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// tail keeps the end of what a server says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const most = 4096
	w.text = append(w.text, b...)
	if over := len(w.text) - most; over > 0 {
		w.text = bytes.Clone(w.text[over:])
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}
