package cli

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// random is data that nothing compresses.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}

// onScreen makes an environment whose standard error is a terminal, and that finds
// what is set.
func onScreen(t *testing.T, p *pty, set ...string) (env *Env, stdout *bytes.Buffer) {
	t.Helper()
	env, stdout, _ = testEnv(t, "buttersink")
	env.Stderr, env.StderrIsTerminal = p.tty, true
	env.Width = func() int { return 160 }
	env.Getenv = func(name string) string {
		for _, s := range set {
			if value, ok := strings.CutPrefix(s, name+"="); ok {
				return value
			}
		}
		return ""
	}
	return env, stdout
}

// TestCalendarShown: how far the backup of a day is can be seen on a terminal, the
// service manager knows it, and programs are told, as with the jobs of the other kind.
func TestCalendarShown(t *testing.T) {
	btrfstest.Require(t)
	s3test.Require(t)
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	fs := btrfstest.New(t)
	fs.Subvolume("mail")
	if err := os.WriteFile(fs.Path("mail/box"), random(2_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("[jobs.mail]\nkind = \"calendar\"\nsources = [%q]\nsnapshots = %q\n[[jobs.mail.destinations]]\nurl = \"s3://%s/mail/\"\nlimit = \"1MiB/s\"\n", fs.Path("mail"), fs.Path("snaps"), bucket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	told := manager(t)
	set := append(server.Env(), "BUTTERSINK_STATE="+filepath.Join(dir, "state"), "BUTTERSINK_CONFIG="+config)

	p := newPTY(t, 160, 24)
	env, _ := onScreen(t, p, set...)
	if code := Main([]string{"run", "mail"}, env); code != exitDone {
		p.wait(t, "ERROR")
		t.Fatalf("exit code %d: %s", code, p.text())
	}
	p.wait(t, "mail: done")
	shown := regexp.MustCompile(`\[1/1\] 2[0-9-]{9}: [^\r\n]* of ~2\.[0-9]+ MiB \([0-9]+%\)`)
	all := p.all()
	if !shown.MatchString(all) {
		t.Errorf("it does not show how far it is: %q", all)
	}
	lines, _ := screen(t, all)
	if left := strings.Join(lines, "\n"); strings.Contains(left, "[1/1]") {
		t.Errorf("what was drawn is still there:\n%s", left)
	}
	status := regexp.MustCompile(`STATUS=mail: s3://\S+: 2[0-9-]{9}: .* of ~2\.[0-9]+ MiB \([0-9]+%\)`)
	if all := told(); !status.MatchString(all) {
		t.Errorf("the service manager is not told how far it is:\n%s", all)
	}

	// Another day, for a program.
	p = newPTY(t, 160, 24)
	env, stdout := onScreen(t, p, set...)
	env.Now = func() time.Time { return time.Now().AddDate(0, 0, 40) }
	if code := Main([]string{"run", "--json", "mail"}, env); code != exitDone {
		t.Fatalf("exit code %d: %s%s", code, stdout, p.text())
	}
	for _, want := range []string{`"event":"step-begun"`, `"event":"committed"`} {
		if !regexp.MustCompile(want + `.*"destination":"s3://`).MatchString(stdout.String()) {
			t.Errorf("%s is not in\n%s", want, stdout)
		}
	}
	if all := p.all(); strings.Contains(all, "[1/1]") {
		t.Errorf("it draws for a program: %q", all)
	}
}

// TestBtrsendShown: who runs btrsend by hand sees how much has come, and its caller
// hears the one line that it waits for.
func TestBtrsendShown(t *testing.T) {
	btrfstest.Require(t)
	fs := btrfstest.New(t)
	fs.Subvolume("mail")
	if err := os.WriteFile(fs.Path("mail/box"), random(500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	fs.Snapshot("mail", "2026-01-03", true)
	stream := fs.Send("2026-01-03")
	t.Chdir(t.TempDir())
	state := "BUTTERSINK_STATE=" + t.TempDir()
	p := newPTY(t, 160, 24)
	if err := os.Mkdir("archive", 0o700); err != nil {
		t.Fatal(err)
	}
	env, _ := onScreen(t, p, state)
	if code := Main([]string{"init", "-q", "dir://archive/"}, env); code != exitDone {
		t.Fatal(p.text())
	}
	in, feed := io.Pipe()
	env, stdout := onScreen(t, p, state)
	env.Stdin = in
	ended := make(chan int)
	go func() { ended <- Main([]string{"btrsend", "--archive", "dir://archive/", "2026-01-03"}, env) }()
	if _, err := feed.Write(stream[:len(stream)/2]); err != nil {
		t.Fatal(err)
	}
	p.wait(t, "[1/1] 2026-01-03: ")
	if _, err := feed.Write(stream[len(stream)/2:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if code := <-ended; code != exitDone {
		t.Fatalf("exit code %d: %s", code, p.text())
	}
	if diff := cmp.Diff("c\n", stdout.String()); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	lines, column := screen(t, p.all())
	if left := strings.TrimSpace(strings.Join(lines, "\n")); left != "" || column != 0 {
		t.Errorf("on the screen is left, with the cursor in column %d:\n%s", column, left)
	}
}

// manager stands in for the service manager, and returns what it is told until then.
func manager(t *testing.T) (told func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // a path short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	var mu sync.Mutex
	var all strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			mu.Lock()
			all.Write(buffer[:n])
			all.WriteString("\n")
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		os.RemoveAll(dir)
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}
