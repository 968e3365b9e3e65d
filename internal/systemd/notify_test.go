package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// listen stands in for the service manager.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // a path short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// heard returns what has been said, in order.
func heard(t *testing.T, conn *net.UnixConn) []string {
	t.Helper()
	var all []string
	buffer := make([]byte, 64<<10)
	for {
		// Nothing is on its way: a message is there when its sender goes on.
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buffer)
		if err != nil {
			return all
		}
		all = append(all, string(buffer[:n]))
	}
}

func TestNotifier(t *testing.T) {
	conn := listen(t)
	t.Setenv("WATCHDOG_USEC", "")
	n := Ready("begins")
	n.Say(time.Now(), "first")
	n.Status(time.Now(), "too soon")
	n.Status(time.Now(), "still too soon")
	n.Say(time.Now(), "said at once")
	n.Say(time.Now(), "said at once")
	n.Status(time.Now(), "forgotten")
	n.Status(time.Now(), "told later")
	buffer := make([]byte, 1000)
	var all []string
	for len(all) < 4 {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		all = append(all, string(buffer[:k]))
	}
	n.Say(time.Now(), "two\nlines\x00\x1b[31m, \xff\nREADY=0")
	n.Say(time.Now(), strings.Repeat("ä", 300))
	n.Status(time.Now(), "never told")
	n.Stopping("ends")
	n.Stopping("ends")
	n.Status(time.Now(), "too late")
	n.Say(time.Now(), "too late")
	all = append(all, heard(t, conn)...)
	want := []string{
		"READY=1\nSTATUS=begins",
		"STATUS=first",
		"STATUS=said at once",
		"STATUS=told later",
		"STATUS=two lines  [31m, ? READY=0",
		"STATUS=" + strings.Repeat("ä", statusLength/2),
		"STOPPING=1\nSTATUS=ends",
		"STOPPING=1\nSTATUS=ends",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("what was said (-want +got):\n%s", diff)
	}
}

// Whatever a line is made of, it is one assignment, and not too long for the
// manager.
func TestStatusLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 2*statusLength).Draw(t, "text"))
		line := statusLine(text)
		value, ok := strings.CutPrefix(line, "STATUS=")
		if !ok || strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) || len(value) > statusLength {
			t.Fatalf("%q becomes %q", text, line)
		}
		if clean := strings.ToValidUTF8(text, "?"); !strings.ContainsFunc(clean, unicode.IsControl) && !strings.HasPrefix(clean, value) {
			t.Fatalf("%q becomes %q", text, line)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	for name, socket := range map[string]string{
		"no manager":     "",
		"no socket":      filepath.Join(t.TempDir(), "socket"),
		"not an address": strings.Repeat("x", 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", socket)
			n := Ready("begins")
			if n != nil {
				t.Error("somebody listens")
			}
			n.Status(time.Now(), "x")
			n.Say(time.Now(), "x")
			n.Stopping("x")
		})
	}
}

// A manager that does not read, and one that goes away, hold nobody up.
func TestManagerHangs(t *testing.T) {
	conn := listen(t)
	n := Ready("begins")
	sent := 0
	for i := range 10_000 { // until its queue is full
		n.mu.Lock()
		n.last = ""
		n.mu.Unlock()
		n.Say(time.Now(), fmt.Sprint(i))
		if n.last == "" {
			break
		}
		sent++
	}
	if sent == 10_000 {
		t.Fatal("the queue is never full")
	}
	conn.Close()
	n.Say(time.Now(), "x")
	n.Stopping("x")
}

func TestWatchdog(t *testing.T) {
	conn := listen(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	n := Ready("begins")
	buffer := make([]byte, 1000)
	for answers := 0; answers < 3; {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		if string(buffer[:k]) == "WATCHDOG=1" {
			answers++
		}
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { n.Say(time.Now(), "while it is answered") })
	}
	all.Wait()
	n.Stopping("ends")
	heard(t, conn)
	time.Sleep(50 * time.Millisecond)
	if late := heard(t, conn); len(late) > 0 {
		t.Errorf("it answers after it has ended: %q", late)
	}

	t.Setenv("WATCHDOG_PID", "1")
	Ready("begins").Stopping("ends")
	if diff := cmp.Diff([]string{"READY=1\nSTATUS=begins", "STOPPING=1\nSTATUS=ends"}, heard(t, conn)); diff != "" {
		t.Errorf("with the watchdog of another process (-want +got):\n%s", diff)
	}
}
