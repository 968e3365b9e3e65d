package endurance

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
)

// A cellar is a directory in which btrsend runs, its vault, and a subvolume with
// snapshots that are called by dates.
type cellar struct {
	t        *testing.T
	server   *glaciertest.Server
	src      *btrfstest.FS
	dir      string
	database string
	state    string
	digests  map[string]string
}

// oldTable is how btrsend made its table.
const oldTable = `CREATE TABLE btrsend (
                           id INTEGER PRIMARY KEY AUTOINCREMENT,
                           arn VARCHAR(1000) NOT NULL,
                           date DATETIME NOT NULL,
                           size INTEGER NOT NULL,
                           parent DATE)`

func newCellar(t *testing.T, begin time.Time) *cellar {
	t.Helper()
	btrfstest.Require(t)
	keyring(t)
	dir := t.TempDir()
	c := &cellar{
		t: t, src: btrfstest.New(t, btrfstest.Size(1<<30)), server: glaciertest.Start(t, glaciertest.At(begin)), dir: dir,
		database: filepath.Join(dir, ".btrsend.db"), state: filepath.Join(t.TempDir(), "state"), digests: map[string]string{},
	}
	c.server.Make(t, backupVault)
	c.src.Subvolume("live")
	return c
}

// snapshot has the subvolume change, and makes the snapshot of a day.
func (c *cellar) snapshot(date string, ballast int) {
	c.t.Helper()
	for name, size := range map[string]int{"diary": 10_000, "ballast-" + date: ballast} {
		if err := os.WriteFile(c.src.Path("live/"+name), noise(byte(len(c.digests)+1), size), 0o640); err != nil {
			c.t.Fatal(err)
		}
	}
	c.src.Snapshot("live", date, true)
	c.digests[date] = btrfstest.Digest(c.t, c.src.Path(date), btrfstest.WithoutRootTime())
}

// send is the stream of a snapshot, on top of that of another date.
func (c *cellar) send(date, parent string) []byte {
	c.t.Helper()
	if parent == "" {
		return c.src.Send(date)
	}
	return c.src.Send(date, "-p", c.src.Path(parent))
}

// query asks the database as others do. Each row is a value.
func (c *cellar) query(text string, args ...string) []string {
	c.t.Helper()
	const script = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for row in db.execute(sys.argv[2], sys.argv[3:]): print(repr(row[0]) if row[0] is None else row[0], end="\0")
db.commit()`
	out, err := exec.Command(btrfstest.Program(c.t, "python3"), append([]string{"-c", script, c.database, text}, args...)...).Output()
	if err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// A caller is what stands between btrsend and its stream: it hears what is asked for,
// and answers.
type caller struct {
	*run
	in    io.WriteCloser
	lines chan string
}

// begin starts btrsend, about a date.
func (c *cellar) begin(date string, args ...string) *caller {
	c.t.Helper()
	args = append([]string{"btrsend", "--recipient", keyOwner}, args...)
	return c.call(exec.Command(program, append(args, date)...))
}

// call starts a program that speaks as btrsend does.
func (c *cellar) call(cmd *exec.Cmd) *caller {
	c.t.Helper()
	r := &run{t: c.t, cmd: cmd}
	cmd.Dir = c.dir
	cmd.Env = append(append(os.Environ(), "BUTTERSINK_STATE="+c.state), c.server.Env()...)
	cmd.Stderr = &r.err
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	out, e := cmd.StdoutPipe()
	if err := errors.Join(err, e, onKeptThread(cmd.Start)); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	call := &caller{run: r, in: in, lines: make(chan string, 10)}
	go func() {
		defer close(call.lines)
		for s := bufio.NewScanner(io.TeeReader(out, &r.out)); s.Scan(); {
			call.lines <- s.Text()
		}
	}()
	return call
}

// asks is the line that it says what it wants with; empty if it ends without one.
func (c *caller) asks() string {
	c.t.Helper()
	select {
	case line := <-c.lines:
		return line
	case <-time.After(patience):
		c.t.Fatalf("it neither asks nor ends:\n%s", c.story())
		return ""
	}
}

// give sends it a stream, and returns how it ended. That it does not take all is for
// its exit code to say.
func (c *caller) give(stream []byte) int {
	c.t.Helper()
	_, err := c.in.Write(stream)
	if err = errors.Join(err, c.in.Close()); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
		c.t.Error(err)
	}
	for range c.lines { // until it has closed its standard output
	}
	return c.wait()
}

// answer hears what is asked for, gives just that, and expects all to be well.
func (c *cellar) answer(date, want string, args ...string) {
	c.t.Helper()
	call := c.begin(date, args...)
	if got := call.asks(); got != want {
		c.t.Fatalf("%s: it asks %q, and not %q:\n%s", date, got, want, call.story())
	}
	var stream []byte
	if want != "" {
		parent, _ := strings.CutPrefix(strings.TrimPrefix(want, "c"), "i ")
		stream = c.send(date, parent)
	}
	if code := call.give(stream); code != done {
		c.t.Fatalf("%s: it ends with %d:\n%s", date, code, call.story())
	}
}

// old stores the stream of a snapshot as btrsend did, past this program.
func (c *cellar) old(date, parent string) {
	c.t.Helper()
	description := "btrsend backup for " + date + " (complete)"
	if parent != "" {
		description = "btrsend backup for " + date + " (parent = " + parent + ")"
	}
	data := sealed(c.t, c.send(date, parent))
	id := c.server.Put(c.t, backupVault, description, data)
	if len(c.query("SELECT name FROM sqlite_master WHERE name = 'btrsend'")) == 0 {
		c.query(oldTable)
	}
	c.query("INSERT INTO btrsend (arn, date, size, parent) VALUES (?, ?, ?, NULLIF(?, ''))", id, date, strconv.Itoa(len(data)), parent)
}

// at is the URL of what btrsend has left.
func (c *cellar) at(options string) string { return "glacier://" + backupVault + "/?" + options }

// buttersink runs the program, in the directory of btrsend.
func (c *cellar) buttersink(state string, args ...string) (*run, int) {
	c.t.Helper()
	r := startWith(c.t, state, c.server.Env(), args...)
	return r, r.wait()
}

// restored expects all of the snapshots, and nothing else, on a file system.
func (c *cellar) restored(fs *btrfstest.FS, dates ...string) {
	c.t.Helper()
	for _, date := range dates {
		if got := btrfstest.Digest(c.t, fs.Path("back/"+date), btrfstest.WithoutRootTime()); got != c.digests[date] {
			c.t.Errorf("%s is not what it was", date)
		}
	}
	if there := fs.Subvolumes(); len(there) != len(dates) {
		c.t.Errorf("there are %q", there)
	}
}

// place is a fresh file system with a directory for what is restored.
func (c *cellar) place() *btrfstest.FS {
	c.t.Helper()
	fs := btrfstest.New(c.t, btrfstest.Size(1<<30))
	if err := os.Mkdir(fs.Path("back"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return fs
}
