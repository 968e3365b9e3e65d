package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// child is another process that writes to a ledger: a number of receipts and runs of
// a job, or without end where the number is negative. It tells each one that it was
// told is in the ledger.
func child(path string) {
	n, _ := strconv.Atoi(os.Getenv("BUTTERSINK_TEST_RECEIPTS"))
	l, err := Open(path)
	for i := 0; err == nil && i != n; i++ {
		var id int64
		if id, err = l.Begin(Receipt{Destination: "d", Path: strings.Repeat("x", i%5000), Begun: noon}); err == nil {
			err = l.End(id, Outcome{Result: Done, Ended: noon})
		}
		if err == nil {
			err = l.RememberSize(snapshot.Edge{To: snapshot.ID{byte(i)}}, fmt.Sprint(os.Getpid()), snapshot.ExactSize(int64(i)), noon)
		}
		var run int64
		if err == nil {
			run, err = l.BeginJob("j", noon)
		}
		if err == nil {
			err = l.EndPlace(run, PlaceRun{Source: "s", Destination: fmt.Sprint(i % 10), Ended: noon, Result: Done})
		}
		if err == nil {
			err = l.EndJob(run, Outcome{Result: Done, Ended: noon})
		}
		if err == nil {
			fmt.Println(id, run)
		}
	}
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A hearing is what a child has told so far.
type hearing struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *hearing) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *hearing) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Fields(strings.ReplaceAll(o.text.String(), " ", ","))
}

func start(t *testing.T, path string, receipts int) (*exec.Cmd, *hearing) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BUTTERSINK_TEST_LEDGER="+path, fmt.Sprintf("BUTTERSINK_TEST_RECEIPTS=%d", receipts))
	out := &hearing{}
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func (l *Ledger) check(t *testing.T) {
	t.Helper()
	var verdict string
	if err := l.db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity: %s, %v", verdict, err)
	}
}

func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "ledger.db")
	const processes, receipts = 6, 60
	var cmds []*exec.Cmd
	for range processes {
		cmd, _ := start(t, path, receipts) // all of them find that there is no ledger
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	l := open1(t, path)
	if n := l.count(t, "receipts WHERE ended IS NOT NULL"); n != processes*receipts {
		t.Errorf("%d receipts, want %d", n, processes*receipts)
	}
	if n := l.count(t, "sizes"); n != processes*receipts {
		t.Errorf("%d sizes, want %d", n, processes*receipts)
	}
	if n := l.count(t, "job_runs r JOIN job_places p ON p.run = r.id WHERE r.ended IS NOT NULL"); n != processes*receipts {
		t.Errorf("%d runs of a job with a place, want %d", n, processes*receipts)
	}
	l.check(t)
}

func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	heard := 0
	for round := range 10 {
		var cmds []*exec.Cmd
		var outs []*hearing
		for range 2 {
			cmd, out := start(t, path, -1)
			cmds, outs = append(cmds, cmd), append(outs, out)
		}
		// The first rounds hit the opening, the later ones the writing, however long a
		// process takes to come to it.
		if round >= 4 {
			for deadline := time.Now().Add(time.Minute); len(outs[0].lines()) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("round %d: nothing is written in a minute", round)
					break
				}
			}
		}
		time.Sleep(time.Duration(rand.IntN(20+10*round)) * time.Millisecond)
		for _, cmd := range cmds {
			cmd.Process.Signal(syscall.SIGKILL)
		}
		for _, cmd := range cmds {
			cmd.Wait()
		}
		l := open1(t, path)
		for _, out := range outs {
			for _, line := range out.lines() {
				heard++
				receipt, run, _ := strings.Cut(line, ",")
				if n := l.count(t, "receipts WHERE ended IS NOT NULL AND id = "+receipt); n != 1 {
					t.Errorf("receipt %s was written, and is not there", receipt)
				}
				if n := l.count(t, "job_runs r JOIN job_places p ON p.run = r.id WHERE r.result = 'done' AND r.id = "+run); n != 1 {
					t.Errorf("run %s of a job was written, and is not there", run)
				}
			}
		}
		// What was last at a place is there, however the process died.
		if n := l.count(t, "job_lasts l LEFT JOIN job_places p ON p.id = l.success WHERE p.id IS NULL OR l.try != l.success"); n != 0 {
			t.Errorf("%d places have a last success that is not there", n)
		}
		if n := l.count(t, "job_places p WHERE NOT EXISTS (SELECT 1 FROM job_lasts l WHERE l.destination = p.destination AND l.try >= p.id)"); n != 0 {
			t.Errorf("%d tries are later than the last", n)
		}
		l.check(t)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d receipts", heard)
}

func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open1(t, path)
	for i := range 300 {
		id, err := l.Begin(Receipt{Destination: "d", Path: strings.Repeat("x", 500)})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			l.End(id, Outcome{})
		}
	}
	l.Close()
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, len(sound))
	rand.NewChaCha8([32]byte{}).Read(random)
	for name, bad := range map[string][]byte{
		"text":                []byte("this is no database\n" + strings.Repeat("at all\n", 1000)),
		"random":              random,
		"zeros":               make([]byte, 8192),
		"cut in the middle":   sound[:len(sound)/2],
		"version":             slices.Concat(sound[:60], []byte{0xff, 0xff, 0xff, 0xff}, sound[64:]),
		"random after a page": append(bytes.Clone(sound[:4096]), random[4096:]...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(path)
			if err == nil {
				defer l.Close()
				_, err = l.Unfinished("d")
			}
			if err == nil {
				err = l.prune(limits{})
			}
			damaged, ok := errors.AsType[*DamagedError](err)
			if !ok || damaged.Path != path || !strings.Contains(err.Error(), "move it away, it is rebuilt") {
				t.Fatalf("%v, want *DamagedError", err)
			}
			t.Log(err)
			if l != nil {
				l.Close()
			}
			// And so it is.
			for _, p := range []string{path, path + "-wal", path + "-shm"} {
				if err := os.Rename(p, p+".bad"); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if _, err := open1(t, path).Begin(Receipt{}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("anywhere", func(t *testing.T) {
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, 0))
			bad := bytes.Clone(sound)
			for range 1 + r.IntN(20) {
				bad[r.IntN(len(bad))] ^= byte(1 + r.IntN(255))
			}
			path := filepath.Join(t.TempDir(), "ledger.db")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(path)
			if err != nil {
				continue
			}
			// What can be read may be wrong, but nothing falls over.
			for _, err := range []error{
				l.RememberSize(edge, "k", snapshot.ExactSize(1), noon), l.End(3, Outcome{}), l.prune(limits{ended: 10}),
			} {
				if err != nil {
					t.Logf("seed %d: %v", seed, err)
				}
			}
			_, _ = l.Unfinished("d")
			l.Close()
		}
	})
	t.Run("empty", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		open1(t, path).check(t)
	})
}

func TestForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	l := open1(t, path)
	if _, err := l.db.Exec("PRAGMA application_id = 0; PRAGMA journal_mode = DELETE"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("opening the database of another program: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed (%v)", err)
	}
}

func TestModesAndNames(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "a new/dir?x=1&mode=ro#y%20", "led ger?.db")
	l := open1(t, path)
	if _, err := l.Begin(Receipt{Destination: "d"}); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{
		filepath.Dir(filepath.Dir(path)): 0o700, filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", p, got, want)
		}
	}
}

func TestCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	there := open1(t, path)
	if _, err := there.Begin(Receipt{Destination: "d"}); err != nil {
		t.Fatal(err)
	}
	there.Close()
	for d, mode := range map[string]fs.FileMode{filepath.Dir(dir): 0o755, dir: 0o555} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(d, 0o700)
	}
	nobody(t)
	for name, p := range map[string]string{
		"a new one":                filepath.Join(dir, "new.db"),
		"a new directory":          filepath.Join(dir, "new", "ledger.db"),
		"one that is there":        path,
		"below something else":     "/dev/null/ledger.db",
		"a directory in its place": dir,
	} {
		l, err := Open(p)
		if err == nil {
			l.Close()
			t.Errorf("%s: it was opened", name)
			continue
		}
		t.Logf("%s: %v", name, err)
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new.db")); err == nil {
		t.Error("something was made")
	}
}

// nobody takes root's file permissions from the test's thread.
func nobody(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	runtime.LockOSThread()
	syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
	t.Cleanup(func() {
		syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
		runtime.UnlockOSThread()
	})
}
