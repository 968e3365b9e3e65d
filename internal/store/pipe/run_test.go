package pipe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// dyingEnv has the test's binary be a program that dies in the middle of a
// stream.
const dyingEnv = "BUTTERSINK_TEST_PIPE_DYING"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dyingEnv); dir != "" {
		die(dir)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what ought to happen soon. Machines are slow at times.
const patience = 30 * time.Second

// bulk is enough that no pipe holds it.
const bulk = 3 << 20

// big is a snapshot with more data than a pipe holds, and its stream.
func big(t testing.TB) (snapshot.Snapshot, []byte) {
	t.Helper()
	live := storetest.NewMemory("source")
	live.SetBulk(bulk)
	x := live.Add("big", 7, "some/snap")
	raw := streamOf(t, live, snapshot.Edge{To: x.ID})
	if len(raw) < bulk {
		t.Fatalf("the stream has only %d bytes", len(raw))
	}
	return x, raw
}

// little is a snapshot whose stream any pipe holds.
func little(t testing.TB) (snapshot.Snapshot, []byte) {
	t.Helper()
	x := snapshot.Snapshot{ID: snapshot.ID{1, 2, 3}, Transid: 7, Path: "some/snap"}
	raw, err := tiny(x)
	if err != nil {
		t.Fatal(err)
	}
	return x, raw
}

// tiny makes a stream of a few bytes.
func tiny(x snapshot.Snapshot) ([]byte, error) {
	var raw bytes.Buffer
	w := stream.NewWriter(&raw, 1)
	if err := w.Write(&stream.Command{Kind: stream.Subvol, Path: []byte("snap"), UUID: stream.UUID(x.ID), Transid: x.Transid}); err != nil {
		return nil, err
	}
	if err := w.Write(&stream.Command{Kind: stream.End}); err != nil {
		return nil, err
	}
	err := w.Close() // it writes what it holds
	return raw.Bytes(), err
}

// TestEnds: what the ways in which commands end are taken for.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		err           string // empty is success
		again         bool
	}{
		{"reads", "cat >/dev/null", "", false},
		{"reads, and says so", "wc -c; echo thanks >&2", "", false},
		{"fails after reading", "cat >/dev/null; echo disk on fire >&2; exit 3", "it ended with status 3: disk on fire", false},
		{"fails at once", "exit 1", "it ended with status 1", false},
		{"asks for another try", "cat >/dev/null; exit 75", "it ended with status 75", true},
		{"is not there", "/nonexistent/program", "it ended with status 127 (what it names was not found): ", false},
		{"cannot be run", "/dev/null", "it ended with status 126 (what it names cannot be run): ", false},
		{"is no command", "if then", "it ended with status 2: ", false},
		{"reads nothing", "true", "ended with status 0", false},
		{"reads a little", "head -c 10 >/dev/null", "ended with status 0", false},
		{"stops reading, and goes on", "exec <&-; sleep 0.1", "ended with status 0", false},
		{"kills itself", "kill -9 $$", "it was ended by a signal: killed", false},
		{"reads all but the end", `head -c "$(($LENGTH - 1))" >/dev/null`, "has not read all of the stream", false},
		{"leaves a process that does not read", "exec 3<&0; sleep 1000 <&3 &", "ended with status 0", false},
	} {
		for size, made := range map[string]func(testing.TB) (snapshot.Snapshot, []byte){"big": big, "little": little} {
			t.Run(tt.name+"/"+size, func(t *testing.T) {
				t.Parallel()
				x, raw := made(t)
				s := opened(t, Options{Command: tt.command, Env: append(os.Environ(), "LENGTH="+strconv.Itoa(len(raw))), Notes: newNotes()})
				err := try(t, s, want(x, snapshot.Snapshot{}), raw)
				inv, listed := s.List(t.Context())
				if listed != nil {
					t.Fatal(listed)
				}
				if tt.err == "" {
					if err != nil || len(inv.Edges) != 1 {
						t.Errorf("%v, and %d streams are noted", err, len(inv.Edges))
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), x.Path) || store.Temporary(err) != tt.again {
					t.Errorf("%v (temporary: %v), want %q", err, store.Temporary(err), tt.err)
				}
				if len(inv.Edges)+len(inv.Snapshots) != 0 {
					t.Errorf("noted as given: %+v", inv)
				}
			})
		}
	}
}

// TestAbandoned: of a command that is abandoned nothing stays, and it does not
// see an end of its input.
func TestAbandoned(t *testing.T) {
	for name, command := range map[string]string{
		"plain":             `echo $$ >"$DIR/pids"; cat >"$DIR/tmp"; mv "$DIR/tmp" "$DIR/whole"`,
		"with others":       `sleep 1000 & echo $! >"$DIR/pids"; cat | cat >"$DIR/tmp" && mv "$DIR/tmp" "$DIR/whole"`,
		"who share the end": `exec 3<&0; cat <&3 >/dev/null & echo $! >"$DIR/pids"; cat >"$DIR/tmp" && mv "$DIR/tmp" "$DIR/whole"`,
		"does not mind":     `trap "" TERM; echo $$ >"$DIR/pids"; cat >"$DIR/tmp"; mv "$DIR/tmp" "$DIR/whole"`,
		"tidies up":         `trap 'rm "$DIR/tmp"; touch "$DIR/tidied"; exit 1' TERM; echo $$ >"$DIR/pids"; cat >"$DIR/tmp"; mv "$DIR/tmp" "$DIR/whole"`,
		"is asleep":         `echo $$ >"$DIR/pids"; sleep 1000`,
		"is stopped":        `echo $$ >"$DIR/pids"; kill -STOP $$; mv "$DIR/tmp" "$DIR/whole"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			x, raw := little(t)
			s := opened(t, Options{Command: command, Env: append(os.Environ(), "DIR="+dir)})
			w, err := s.Create(t.Context(), want(x, snapshot.Snapshot{}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(raw[:firstCommand(raw)]); err != nil {
				t.Fatal(err)
			}
			pid := awaitPID(t, filepath.Join(dir, "pids"))
			if name == "tidies up" {
				// What the shell starts after the signal does not get it.
				await(t, "the first bytes", func() bool { return filled(filepath.Join(dir, "tmp")) })
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if err := w.Close(); err != nil {
				t.Errorf("the second Close: %v", err)
			}
			await(t, "the command's end", func() bool { return dead(pid) })
			if _, err := os.Stat(filepath.Join(dir, "whole")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the command took the beginning for all: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "tidied")); (err == nil) != (name == "tidies up") {
				t.Errorf("tidied up: %v", err)
			}
			give(t, opened(t, Options{Command: "cat >/dev/null"}), x, snapshot.Snapshot{}, raw)
		})
	}
}

// TestLeft: what a command leaves running after a success is left alone, and not
// waited for.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	x, raw := big(t)
	s := opened(t, Options{Command: `cat >/dev/null; sleep 1000 & echo $! >"$DIR/pids"`, Env: append(os.Environ(), "DIR="+dir)})
	give(t, s, x, snapshot.Snapshot{}, raw)
	pid := awaitPID(t, filepath.Join(dir, "pids"))
	if dead(pid) {
		t.Error("what the command has left running was ended")
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// TestCancelled: the end of the context ends a Write and a Commit that wait for
// the command.
func TestCancelled(t *testing.T) {
	x, raw := big(t)
	y, short := little(t)
	for _, tt := range []struct {
		name, command string
		x             snapshot.Snapshot
		raw           []byte
	}{
		{"ignores its input", "echo ready; sleep 1000", x, raw},
		{"reads slowly", "while head -c 100 >/dev/null; do echo ready; sleep 0.1; done", x, raw},
		{"does not end", "cat >/dev/null; echo ready; sleep 1000", y, short},
		{"has its input read by others", "exec 3<&0; sleep 1000 <&3 & echo ready; sleep 1000", x, raw},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			log := newLog(func(line string) {
				if line == "ready" {
					cancel()
				}
			})
			s := opened(t, Options{Command: tt.command, Log: log.logger()})
			w, err := s.Create(ctx, want(tt.x, snapshot.Snapshot{}))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := w.Write(tt.raw)
				if err == nil {
					err = w.Commit(ctx)
				}
				ended <- errors.Join(err, w.Close())
			}()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v, want context.Canceled", err)
				}
			case <-time.After(patience):
				t.Fatal("it goes on after its context was cancelled")
			}
		})
	}
}

// TestEnvironment: the command learns what it is given.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	live := storetest.NewMemory("source")
	const odd = "sub dir/-it's \"$HOME\"\n`x`;\xff*"
	a, b := live.Add("f", 7, "old/a"), live.Add("f", 8, odd)
	s := opened(t, Options{
		Command: `cat >/dev/null; env -0 | LC_ALL=C grep -az "^BUTTERSINK_[A-SU-Z]" | sort -z >"$DIR/$BUTTERSINK_UUID"`,
		Env:     append(os.Environ(), "DIR="+dir, "BUTTERSINK_PARENT=from outside", "BUTTERSINK_SIZE=from outside"),
	})
	give(t, s, a, snapshot.Snapshot{}, streamOf(t, live, snapshot.Edge{To: a.ID}))
	w := want(b, a)
	raw := streamOf(t, live, w.Edge)
	w.Size = snapshot.ExactSize(int64(len(raw)))
	if err := try(t, s, w, raw); err != nil {
		t.Fatal(err)
	}
	seen := func(id snapshot.ID) []string {
		text, err := os.ReadFile(filepath.Join(dir, id.String()))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	}
	if diff := cmp.Diff([]string{
		"BUTTERSINK_EXACT=", "BUTTERSINK_NAME=a", "BUTTERSINK_PARENT=", "BUTTERSINK_PARENT_PATH=", "BUTTERSINK_PATH=old/a",
		"BUTTERSINK_PROTOCOL=1", "BUTTERSINK_SIZE=", "BUTTERSINK_UUID=" + a.ID.String(),
	}, seen(a.ID)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"BUTTERSINK_EXACT=1", "BUTTERSINK_NAME=" + odd[len("sub dir/"):], "BUTTERSINK_PARENT=" + a.ID.String(), "BUTTERSINK_PARENT_PATH=old/a",
		"BUTTERSINK_PATH=" + odd, "BUTTERSINK_PROTOCOL=1", fmt.Sprintf("BUTTERSINK_SIZE=%d", len(raw)), "BUTTERSINK_UUID=" + b.ID.String(),
	}, seen(b.ID)); diff != "" {
		t.Error(diff)
	}
}

// TestOutput: what the command prints comes to the log, however much it is, and
// so that terminals survive it.
func TestOutput(t *testing.T) {
	x, raw := big(t)
	log := newLog(nil)
	s := opened(t, Options{
		Log: log.logger(),
		Command: `yes prattle | head -n 20000; cat >/dev/null; yes nonsense | head -n 20000 >&2
			head -c 1000000 /dev/zero | tr '\0' x; echo; printf '10 %%\r20 %%\r30 %%\n'; printf '\033[31mred\n\n   \n'; printf 'no line end'`,
	})
	give(t, s, x, snapshot.Snapshot{}, raw)
	count := map[string]int{}
	long := 0
	for _, line := range log.seen {
		if strings.Trim(line, "x") == "" {
			long += len(line)
			if len(line) > longest {
				t.Errorf("a line of %d bytes", len(line))
			}
			continue
		}
		count[line]++
	}
	want := map[string]int{"prattle": 20000, "nonsense": 20000, "30 %": 1, `"\x1b[31mred"`: 1, "no line end": 1}
	if diff := cmp.Diff(want, count); diff != "" || long != 1000000 {
		t.Errorf("%d bytes of the long line\n%s", long, diff)
	}
}

// TestKilled: where the program is killed itself, what its command does with a
// stream after the end of its input does not happen. The kernel closes the pipe a
// moment before it kills the shell, so that one may slip through on a busy machine.
func TestKilled(t *testing.T) {
	const all = 6
	slipped := 0
	for range all {
		dir := t.TempDir()
		program := exec.Command(os.Args[0])
		program.Env = append(os.Environ(), dyingEnv+"="+dir)
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		pid := awaitPID(t, filepath.Join(dir, "pids"))
		await(t, "the first bytes", func() bool { return filled(filepath.Join(dir, "tmp")) })
		if err := program.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = program.Wait()
		await(t, "the command's end", func() bool { return dead(pid) })
		if _, err := os.Stat(filepath.Join(dir, "whole")); !errors.Is(err, os.ErrNotExist) {
			slipped++
		}
	}
	if slipped > all/2 {
		t.Errorf("%d of %d commands took the beginning for all", slipped, all)
	}
}

// die begins to give a stream to a command, and waits for its death.
func die(dir string) {
	x := snapshot.Snapshot{ID: snapshot.ID{1, 2, 3}, Transid: 7, Path: "some/snap"}
	raw, err := tiny(x)
	if err != nil {
		panic(err)
	}
	s, err := Open(context.Background(), Options{
		Command: `echo $$ >"$DIR/pids"; cat >"$DIR/tmp"; mv "$DIR/tmp" "$DIR/whole"`, Env: append(os.Environ(), "DIR="+dir),
	})
	if err != nil {
		panic(err)
	}
	w, err := s.Create(context.Background(), store.Want{Edge: snapshot.Edge{To: x.ID}, Path: x.Path})
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(raw[:firstCommand(raw)]); err != nil {
		panic(err)
	}
	time.Sleep(patience)
	os.Exit(1)
}

// firstCommand is where the first command of a stream ends.
func firstCommand(raw []byte) int {
	const header, head = 17, 10
	return header + head + (int(raw[header]) | int(raw[header+1])<<8 | int(raw[header+2])<<16 | int(raw[header+3])<<24)
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waiting for %s takes too long", what)
		}
	}
}

// awaitPID waits for a file with the number of a process.
func awaitPID(t testing.TB, file string) (pid int) {
	t.Helper()
	await(t, "the command's process", func() bool {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

// filled reports whether there is something in a file.
func filled(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Size() > 0
}

// dead reports whether a process does not run any more, be it buried or not.
func dead(pid int) bool {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if state, ok := strings.CutPrefix(lines.Text(), "State:"); ok {
			return strings.HasPrefix(strings.TrimSpace(state), "Z")
		}
	}
	return true
}

// messages is a log that is looked at.
type messages struct {
	slog.Handler
	told func(string)
	seen []string
}

func newLog(told func(string)) *messages {
	return &messages{Handler: slog.DiscardHandler, told: told}
}

func (m *messages) logger() *slog.Logger                     { return slog.New(m) }
func (m *messages) Enabled(context.Context, slog.Level) bool { return true }
func (m *messages) Handle(_ context.Context, r slog.Record) error {
	m.seen = append(m.seen, r.Message)
	if m.told != nil {
		m.told(r.Message)
	}
	return nil
}
