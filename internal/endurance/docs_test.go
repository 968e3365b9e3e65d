package endurance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/sshtest"
)

// docsPageEnv names the page to the process in which its command lines are run.
const docsPageEnv = "BUTTERSINK_TEST_PAGE"

// performed is what the process in which a page is run says in the end.
const performed = "all of the page was run"

// TestDocs runs every command line of README.md and docs/*.md, in the order in which
// they stand there, each page in a world of its own (see world), and compares what
// they print with what the page shows, if it shows that (see alike). What is code has to
// be understood: a new page and new lines are run without anybody saying so, and
// what cannot be run is named in docs_scenes_test.go, with its reason.
func TestDocs(t *testing.T) {
	if page := os.Getenv(docsPageEnv); page != "" {
		perform(t, page)
		return
	}
	t.Parallel()
	btrfstest.Require(t)
	s3test.Require(t)
	sshtest.Require(t)
	named := pages(t)
	stale(t, named)
	for _, page := range named {
		if len(readPage(t, page)) == 0 && len(proseOf(t, page)) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			elsewhere(t, page)
		})
	}
}

// stale fails the test for what the tables say of pages and lines that are not there.
func stale(t *testing.T, named []string) {
	t.Helper()
	for page := range scenes {
		if !slices.Contains(named, page) {
			t.Errorf("there is no page %s any more", page)
		}
	}
	var lines []string
	for _, page := range named {
		for _, p := range readPage(t, page) {
			lines = append(lines, p.runs...)
		}
	}
	for _, o := range otherwise {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, o.there) }) {
			t.Errorf("no line begins with %q any more", o.there)
		}
	}
}

// elsewhere runs this test for one page in namespaces of its own: nothing that it
// mounts, starts or listens on is seen outside, and all of it is gone with it.
func elsewhere(t *testing.T, page string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	args := []string{"-test.run=^TestDocs$", "-test.v"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), docsPageEnv+"="+page, programEnv+"="+program, "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = onKeptThread(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	// A process that has run nothing has not failed either.
	if !strings.Contains(said.String(), performed) {
		t.Fatalf("it was not run:\n%s", &said)
	}
	t.Log(said.String())
}

// perform runs the command lines of a page.
func perform(t *testing.T, page string) {
	w := newWorld(t)
	s := scenes[page]
	if s.before == nil {
		s.before = (*world).furnish
	}
	s.before(w)
	chapters := maps.Clone(s.chapters)
	heading, left := "", []step(nil)
	var said []string // by the command lines below the heading
	finish := func() {
		for _, missed := range left {
			t.Errorf("%s, %q: the line %q is not there any more, or not in this order", page, heading, missed.line)
		}
	}
	ran := 0
	for _, p := range readPage(t, page) {
		if p.heading != heading {
			finish()
			heading, left, said = p.heading, nil, nil
			if c, ok := chapters[heading]; ok {
				if c.before != nil {
					c.before(w)
				}
				left = c.steps
				delete(chapters, heading)
			}
		}
		where := fmt.Sprintf("%s:%d", page, p.line)
		next := func(line string) step {
			if len(left) > 0 && left[0].line == line {
				st := left[0]
				left = left[1:]
				return st
			}
			return step{line: line}
		}
		first, _, _ := strings.Cut(p.text, "\n")
		if p.kind == printed {
			st := next(first)
			if st.run != "" {
				said = append(said, w.carryOut(where, "", st))
			}
			w.shown(where, p.text, said)
			continue
		}
		if p.kind != commands {
			w.place(where, p, next(first))
			continue
		}
		if len(left) > 0 && left[0].line == first && left[0].block != "" {
			left = left[1:] // the table says what it is
			continue
		}
		set := ""
		for i, line := range p.runs {
			st := next(line)
			if i < len(p.shown) {
				st.shows = p.shown[i]
			}
			said = append(said, w.carryOut(where, set, st))
			ran++
			if strings.HasPrefix(line, "set ") {
				set = line
			}
		}
	}
	finish()
	for missed := range chapters {
		t.Errorf("%s has no code below %q any more", page, missed)
	}
	for _, line := range proseOf(t, page) {
		w.understood(page, line)
	}
	t.Logf("%s: %d command lines: "+performed, page, ran)
}

// proseOf returns the command lines that stand within the sentences of a page.
func proseOf(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	return mentions(string(text))
}

// shown fails the test unless a piece of what a run prints is in what one of the
// last ones has printed.
func (w *world) shown(where, text string, said []string) {
	w.t.Helper()
	var all strings.Builder
	for _, one := range said {
		if unlike("…\n"+text+"…\n", one) == "" {
			return
		}
		all.WriteString("\n" + one)
	}
	w.t.Errorf("%s: nothing below this heading prints\n%sbut:%s", where, text, &all)
}

// carryOut runs a command line and fails the test unless it ends as it should, and
// prints what the page shows. It returns what it prints.
func (w *world) carryOut(where, set string, s step) (out string) {
	w.t.Helper()
	if s.before != nil {
		s.before(w)
	}
	line := s.line
	if s.run != "" {
		line = s.run
	} else if line = w.otherwise(line); line == "" {
		w.t.Logf("%s: not run: %s", where, s.line)
		return ""
	}
	if s.fill != nil {
		line = s.fill(w, line)
	}
	text := line
	if set != "" {
		text = set + "\n" + line
	}
	begin := time.Now()
	out, code := w.shell(s.as, s.in, text)
	w.t.Logf("%s: %s: %d in %v\n%s", where, line, code, time.Since(begin).Round(time.Millisecond), out)
	if code != s.code {
		w.t.Errorf("%s: %s: it ends with %d and not with %d:\n%s", where, line, code, s.code, out)
	}
	if s.says != "" && !strings.Contains(out, s.says) {
		w.t.Errorf("%s: %s: it does not say %q:\n%s", where, line, s.says, out)
	}
	if s.shows != "" {
		if diff := unlike(strings.NewReplacer(s.here...).Replace(s.shows), out); diff != "" {
			w.t.Errorf("%s: %s: the page shows something else (-page +run):\n%s", where, line, diff)
		}
	}
	if s.after != nil {
		s.after(w)
	}
	return out
}

// otherwise returns what is run in place of lines that are the same everywhere.
func (w *world) otherwise(line string) string {
	for _, o := range otherwise {
		if rest, ok := strings.CutPrefix(line, o.there); ok {
			if o.here == "" {
				return ""
			}
			return strings.ReplaceAll(o.here, "TOP", w.top) + rest
		}
	}
	return line
}

// commandWord is a word that can only be meant as a command's name.
var commandWord = regexp.MustCompile(`^[a-z]+$`)

// understood fails the test unless the program knows the command and the flags of a
// line within a sentence. What such a line leaves out, or has in capitals, is for
// the reader to fill in, so it cannot be run.
func (w *world) understood(page, line string) {
	w.t.Helper()
	line = strings.NewReplacer("…", "x", "|", " ").Replace(line)
	out, code := w.shell("", "", line+" --help")
	if flag := line[strings.LastIndex(line, " ")+1:]; code != done && strings.HasPrefix(flag, "-") {
		out, code = w.shell("", "", line+" x --help") // what it is given is left out
	}
	word := strings.Fields(line)[1]
	known := !commandWord.MatchString(word) || word == "help" || strings.Contains(out, "buttersink "+word)
	if code != done || !known {
		w.t.Errorf("%s: the program does not understand %q: it ends with %d:\n%s", page, line, code, out)
	}
}
