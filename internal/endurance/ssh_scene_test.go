package endurance

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/sshtest"
)

// A remote is a scene of which a side is on another machine: an sshd on this
// one, behind a link that can break.
type remote struct {
	*scene
	server *sshtest.Server
	link   *link
	user   *sshtest.User
	scheme string
	flags  []string // how the far side is reached
	env    []string
}

// apart makes a scene without snapshots, with an sshd that lets a user in who
// is not root and may use sudo.
func apart(t *testing.T) *remote {
	t.Helper()
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	return reached(t, s)
}

// reached gives a scene an sshd.
func reached(t *testing.T, s *scene) *remote {
	t.Helper()
	server := sshtest.Start(t)
	server.Install("buttersink", program)
	m := &remote{scene: s, server: server, link: newLink(t, server.Addr), scheme: "ssh"}
	user := server.User()
	user.Sudoers("ALL=(root) NOPASSWD: ALL")
	m.as(user)
	return m
}

// as has the far side reached as a user.
func (m *remote) as(user *sshtest.User) {
	m.user, m.flags = user, nil
	for _, o := range user.Options() {
		m.flags = append(m.flags, "--ssh-opt="+o)
	}
}

// url names a directory, or a snapshot in it, of the far side.
func (m *remote) url(path string) string {
	return m.scheme + "://" + m.user.Name + "@127.0.0.1:" + strconv.Itoa(m.link.port()) + path
}

// run starts the program. Flags of the connection come with it.
func (m *remote) run(command string, args ...string) *run {
	m.t.Helper()
	return startWith(m.t, m.state, m.env, slices.Concat([]string{command}, m.flags, args)...)
}

// push starts a sync from here to the far side, and pull one from there.
func (m *remote) push(flags ...string) *run {
	m.t.Helper()
	return m.run("sync", slices.Concat([]string{"--json"}, flags, []string{m.from(), m.url(m.to())})...)
}

func (m *remote) pull(flags ...string) *run {
	m.t.Helper()
	return m.run("sync", slices.Concat([]string{"--json"}, flags, []string{m.url(m.from()), m.to()})...)
}

// A direction is which side is the far one.
type direction struct {
	name string
	sync func(m *remote, flags ...string) *run
	way  func(l *link) *way // the one that streams take
}

var (
	pushing    = direction{"push", (*remote).push, func(l *link) *way { return &l.up }}
	pulling    = direction{"pull", (*remote).pull, func(l *link) *way { return &l.down }}
	directions = []direction{pushing, pulling}
)

// bothWays runs a test in each direction, each with a scene of its own.
func bothWays(t *testing.T, test func(t *testing.T, m *remote, d direction)) {
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			test(t, apart(t), d)
		})
	}
}

// servers returns the processes of the program at the far side.
func (m *remote) servers() []int { return m.server.Pids("buttersink") }

// sshes returns the processes of ssh that a run has started.
func (m *remote) sshes(r *run) []int {
	m.t.Helper()
	out, err := exec.Command("pgrep", "-x", "-P", strconv.Itoa(r.cmd.Process.Pid), "ssh").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !(ok && exit.ExitCode() == 1) { // there is none
		m.t.Fatal(err)
	}
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			m.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// end kills processes that were found.
func end(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
	}
}

// deserted waits until nothing serves the scene any more, which has to be soon.
func (m *remote) deserted() {
	m.t.Helper()
	for deadline := time.Now().Add(patience); len(m.servers()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("the far side goes on, as processes %v", m.servers())
		}
	}
}

// held returns what the checkpoints at the destination say that is held of each
// unfinished snapshot, in bytes of its stream.
func (s *scene) held() map[string]int64 {
	s.t.Helper()
	const mark = ".checkpoint-"
	held := map[string]int64{}
	files, _ := filepath.Glob(s.to() + "*" + mark + "*.part")
	for _, file := range files {
		name, offset, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".part"), mark)
		n, err := strconv.ParseInt(offset, 10, 64)
		if err != nil {
			s.t.Fatalf("what is %s?", file)
		}
		held[name] = max(held[name], n)
	}
	return held
}

// events returns those of the records of a run that are of one kind.
func (r *run) events(kind string) []event {
	r.t.Helper()
	var found []event
	for line := range strings.Lines(r.out.String()) {
		var e event
		// What a kill has cut off is no record.
		if err := json.Unmarshal([]byte(line), &e); err == nil && e.Event == kind {
			found = append(found, e)
		}
	}
	return found
}

// event is what the tests want to know of a record.
type event struct {
	Event, Path, Error, Reason string
	Bytes                      int64
	Skipped                    int64
	From                       string
}

// starts returns, for each snapshot that a run has begun to send, what it was sent
// from the last time.
func (r *run) starts() map[string]string {
	from := map[string]string{}
	for _, e := range r.events("step-begun") {
		from[e.Path] = e.From
	}
	return from
}

// carriesOn fails the test unless a run that has ended well has carried on from
// everything that was held before it began.
func (r *run) carriesOn(held map[string]int64) {
	r.t.Helper()
	for path, bytes := range held {
		if !slices.ContainsFunc(r.events("resumed"), func(e event) bool { return e.Path == path && e.Bytes >= bytes }) {
			r.t.Errorf("%s was held up to %d, and is not carried on from there:\n%s", path, bytes, r.story())
		}
	}
}

// fails waits for a run that has to end with one of some exit codes, and to say
// all of the texts.
func (r *run) fails(code int, texts ...string) *run {
	r.t.Helper()
	if got := r.wait(); got != code {
		r.t.Errorf("%q ends with %d and not %d:\n%s", r.cmd.Args[1:], got, code, r.story())
	}
	r.says(texts...)
	return r
}
