package pipe

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// offered begins to offer a snapshot to a shell script.
func offered(t *testing.T, dir, script string) *Offer {
	t.Helper()
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := BeginOffer(t.Context(), OfferOptions{Program: file, Args: []string{"2014-01-07"}, Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH"), "WHO=somebody"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOfferAnswers(t *testing.T) {
	for _, c := range []struct {
		name, script string
		wanted       bool
		parent, err  string
	}{
		{name: "nothing", script: "exit 0"},
		{name: "an empty line", script: "echo; cat >/dev/null"},
		{name: "in full", script: "echo c; cat >/dev/null", wanted: true},
		{name: "an increment", script: "echo i 2014-01-01; cat >/dev/null", wanted: true, parent: "2014-01-01"},
		{name: "an answer that was long in coming", script: "printf 'i 2014'; sleep 0.2; printf -- '-01-01\\nmore\\n'; cat >/dev/null", wanted: true, parent: "2014-01-01"},
		{name: "something else", script: "echo hello; cat >/dev/null", err: "hello is no answer"},
		{name: "a path", script: "echo i ../../etc; cat >/dev/null", err: "is no answer"},
		{name: "two parents", script: "echo i 2014-01-01 2014-01-02; cat >/dev/null", err: "is no answer"},
		{name: "no end of a line", script: "printf c", err: "has no line end"},
		{name: "no end at all", script: "head -c 100000 /dev/zero | tr '\\0' c; cat >/dev/null", err: "is no answer"},
		{name: "control characters", script: "printf 'c\\033[2J\\n'; cat >/dev/null", err: `"c\x1b[2J" is no answer`},
		{name: "a failure", script: "echo oh dear >&2; exit 3", err: "status 3: oh dear"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := offered(t, t.TempDir(), c.script)
			wanted, parent, err := f.Wish(t.Context())
			if wanted != c.wanted || parent != c.parent {
				t.Errorf("it wants %v on top of %q", wanted, parent)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestOfferGivesAll has a program take a stream that fits into no pipe.
func TestOfferGivesAll(t *testing.T) {
	snap, raw := big(t)
	dir := t.TempDir()
	f := offered(t, dir, `echo c; echo "$1 $WHO $#" >args; pwd >where; cat >taken`)
	if wanted, _, err := f.Wish(t.Context()); err != nil || !wanted {
		t.Fatal(wanted, err)
	}
	if err := carryTo(t, f, snap, raw); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"taken": string(raw), "args": "2014-01-07 somebody 1\n", "where": dir + "\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := f.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snap.ID}, Path: "2014-01-07"}); err == nil {
		t.Error("it takes a second stream")
	}
}

func carryTo(t *testing.T, f *Offer, snap snapshot.Snapshot, raw []byte) error {
	t.Helper()
	w, err := f.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snap.ID}, Path: "2014-01-07"})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(raw); err != nil {
		return err
	}
	return w.Commit(t.Context())
}

// TestOfferNeverLooksWhole has streams end in other ways than at their end: what the
// program does after its input has not been done then.
func TestOfferNeverLooksWhole(t *testing.T) {
	snap, raw := little(t)
	_, other := big(t)
	for name, what := range map[string][]byte{
		"cut":     raw[:len(raw)-1],
		"nothing": nil,
		"another": other,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := offered(t, dir, "echo c; cat >part && touch whole")
			if _, _, err := f.Wish(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := carryTo(t, f, snap, what)
			if err == nil {
				t.Error("it was taken")
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "whole")); !errors.Is(err, os.ErrNotExist) {
				t.Error("the program has seen an end")
			}
		})
	}
}

func TestOfferFailures(t *testing.T) {
	snap, raw := big(t)
	for name, c := range map[string]struct{ script, err string }{
		"it fails at the end":     {"echo c; cat >/dev/null; echo no room >&2; exit 9", "status 9: no room"},
		"it leaves early":         {"echo c; head -c 100 >/dev/null", "before it had been given the whole stream"},
		"it fails early":          {"echo c; exit 4", "status 4"},
		"a signal ends it":        {"echo c; kill -9 $$", "signal: killed"},
		"it reads nothing of all": {"echo c; exec <&-; sleep 0.1", "writing to it"},
	} {
		t.Run(name, func(t *testing.T) {
			f := offered(t, t.TempDir(), c.script)
			if _, _, err := f.Wish(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := carryTo(t, f, snap, raw)
			if err == nil || !strings.Contains(err.Error(), c.err) && name != "it reads nothing of all" {
				t.Errorf("the error is %v", err)
			}
			if again := carryTo(t, f, snap, raw); again == nil || again.Error() != err.Error() {
				t.Errorf("the second try says %v", again)
			}
		})
	}
}

// TestOfferEnds has programs that answer nothing, or want nothing and stay.
func TestOfferEnds(t *testing.T) {
	f := offered(t, t.TempDir(), "sleep 1000")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, _, err := f.Wish(ctx); !errors.Is(err, cause) {
		t.Errorf("waiting for an answer: %v", err)
	}
	pid := f.run.cmd.Process.Pid
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if alive(pid) {
		t.Error("it is still there")
	}

	f = offered(t, t.TempDir(), "echo; cat; exit 5")
	if wanted, _, err := f.Wish(t.Context()); wanted || err != nil {
		t.Fatal(wanted, err)
	}
	if err := f.Done(t.Context()); err == nil || !strings.Contains(err.Error(), "status 5") {
		t.Errorf("its end is %v", err)
	}
}

// TestOfferRunsAsSomebodyElse has no more rights than those of the user.
func TestOfferRunsAsSomebodyElse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run the tests as root")
	}
	dir, err := os.MkdirTemp("/tmp", "offer-") // others can reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho c; id -u >who; id -G >>who; cat /etc/shadow >>who 2>/dev/null; cat >/dev/null"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := BeginOffer(t.Context(), OfferOptions{
		Program: file, Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")},
		As: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{12345}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	snap, raw := little(t)
	if _, _, err := f.Wish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := carryTo(t, f, snap, raw); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "who")); err != nil || string(got) != "65534\n65534 12345\n" {
		t.Errorf("it ran as %q, %v", got, err)
	}
}

// FuzzAnswer cuts answers in any two pieces.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"", "c\n", "i 2014-01-01\n", "i 2014-01-01", "\n\n", "c\nc\n", strings.Repeat("c", 100)} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		read := func(pieces ...[]byte) (bool, string, bool) {
			a := &answer{rest: &lines{log: slog.New(slog.DiscardHandler), what: "x"}, whole: make(chan struct{})}
			for _, p := range pieces {
				if n, err := a.Write(p); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
			}
			if !a.ended {
				return false, "", a.unfinished() == nil
			}
			wanted, parent, err := a.wish()
			if wanted && err == nil && parent != "" && !increment.MatchString("i "+parent) {
				t.Errorf("the parent is %q", parent)
			}
			return wanted, parent, err == nil
		}
		cut = max(0, min(cut, len(text)))
		w1, p1, ok1 := read(text)
		w2, p2, ok2 := read(text[:cut], text[cut:])
		if w1 != w2 || p1 != p2 || ok1 != ok2 {
			t.Errorf("%q is another answer when it comes in two pieces", text)
		}
	})
}

// TestOfferTalkative has programs say a lot on both of their outputs at once: the
// log gets whole lines of it, and not all.
func TestOfferTalkative(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	script := `#!/bin/sh
echo
yes "$(head -c 3000 /dev/zero | tr '\0' a)" | head -n 3000 >&2 &
yes "$(head -c 3500 /dev/zero | tr '\0' b)" | head -n 3000
wait; echo the end >&2; exit 3`
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	log := newLog(nil)
	f, err := BeginOffer(t.Context(), OfferOptions{Program: file, Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")}, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if wanted, _, err := f.Wish(t.Context()); wanted || err != nil {
		t.Fatal(wanted, err)
	}
	if err := f.Done(t.Context()); err == nil || !strings.Contains(err.Error(), "status 3: the end") {
		t.Errorf("its end is %v", err)
	}
	size := 0
	for _, line := range log.seen {
		size += len(line)
		if a, b := strings.Count(line, "a"), strings.Count(line, "b"); a > 100 && b > 100 {
			t.Fatalf("a line has %d of one, and %d of the other", a, b)
		}
	}
	if size > 2*mostSaid {
		t.Errorf("the log has %d bytes in %d lines", size, len(log.seen))
	}
	if last := log.seen[len(log.seen)-1]; !strings.Contains(last, "is not shown") {
		t.Errorf("it ends with %.100q", last)
	}
}
