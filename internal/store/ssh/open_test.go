package ssh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// far is the other end of a connection, played by a test.
type far struct {
	net.Conn
	ended chan error
}

func (f *far) Wait() error { return <-f.ended }

// played returns a Dial whose other end is played by act; what act returns is how
// the command there has ended.
func played(act func(conn net.Conn, in *bufio.Reader) error) func(context.Context) (io.ReadWriteCloser, error) {
	return func(context.Context) (io.ReadWriteCloser, error) {
		ours, theirs := net.Pipe()
		f := &far{Conn: ours, ended: make(chan error, 1)}
		go func() {
			err := act(theirs, bufio.NewReader(theirs))
			_ = theirs.Close()
			f.ended <- err
		}()
		return f, nil
	}
}

// says answers the client's line with a text, and ends.
func says(text string, err error) func(net.Conn, *bufio.Reader) error {
	return func(conn net.Conn, in *bufio.Reader) error {
		if _, err := in.ReadString('\n'); err != nil {
			return err
		}
		_, _ = io.WriteString(conn, text)
		return err
	}
}

// pythonServer is what the server of the old ButterSink does: it takes words up to
// the end of a line, answers in JSON, and ends when there are no more.
func pythonServer(conn net.Conn, in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		words := strings.Fields(line)
		if err != nil || len(words) == 0 {
			return nil
		}
		answer := `{"errorType": "Exception", "command": "` + words[0] + `", "error": "Unknown command", "server": true, "traceback": "File \"/usr/lib/python2.7/dist-packages/buttersink/SSHStore.py\", line 557, in _processCommand"}` + "\n"
		if _, err := io.WriteString(conn, answer); err != nil {
			return nil
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	refusal := newGreeting("there", true)
	refusal.Error = failureOf(&ModeError{Mode: Read, Call: "mode w"})
	skew := newGreeting("v9.0", true)
	skew.Lowest, skew.Highest = 7, 9
	for name, c := range map[string]struct {
		act  func(net.Conn, *bufio.Reader) error
		is   error
		text []string
		soon bool // it may go away
	}{
		"an old one": {pythonServer, ErrOld, []string{"far", "old ButterSink", "install"}, false},
		"an old one behind a banner": {func(conn net.Conn, in *bufio.Reader) error {
			go func() { _, _ = io.WriteString(conn, "Debian GNU/Linux\n") }()
			return pythonServer(conn, in)
		}, ErrOld, []string{"old ButterSink"}, false},
		"refuses":                      {says(lineOf(t, refusal), nil), nil, []string{"far", "mode"}, false},
		"version skew":                 {says(lineOf(t, skew), nil), nil, []string{"far", "v9.0", "7 to 9", "here is too old"}, false},
		"another first line":           {says("buttersink-protocol 3 {}\n", nil), nil, []string{"far", "version 3", "too old"}, false},
		"cat":                          {func(conn net.Conn, in *bufio.Reader) error { _, err := io.Copy(conn, in); return err }, errEcho, []string{"RequestTTY", "forced command"}, false},
		"no program":                   {says("", &dial.ExitError{Host: "far", Status: 127, Why: dial.ErrNoProgram, Command: "buttersink --server"}), ErrNoProgram, []string{"far"}, false},
		"unreachable":                  {says("", &dial.ExitError{Host: "far", Status: 255, Why: dial.ErrUnreachable, Stderr: "Connection refused"}), dial.ErrUnreachable, []string{"far", "Connection refused"}, true},
		"host key":                     {says("", &dial.ExitError{Host: "far", Status: 255, Why: dial.ErrHostKey}), dial.ErrHostKey, []string{"far"}, false},
		"no shell":                     {says("This account is currently not available.\n", &dial.ExitError{Host: "far", Status: 1}), nil, []string{"far", "not available"}, false},
		"ends well without a word":     {says("", nil), nil, []string{"far", "printed nothing"}, false},
		"prints and ends well":         {says("hello\x1b[1m", nil), nil, []string{"far", `"hello\x1b[1m"`}, false},
		"prints for ever":              {func(conn net.Conn, _ *bufio.Reader) error { return flood(conn) }, nil, []string{"far", "forced command", "y"}, false},
		"half a greeting, then killed": {says("buttersink-protocol 1 {", &dial.ExitError{Host: "far", Status: -1, Why: dial.ErrUnreachable}), dial.ErrUnreachable, []string{"far"}, true},
		"nonsense":                     {says("buttersink-protocol 1 {\"lowest\": \"one\"}\n", nil), nil, []string{"far", "reading the greeting"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), Options{Target: dial.Target{Host: "far"}, Dir: "/srv/", Dial: played(c.act)})
			if err == nil {
				_ = s.Close()
				t.Fatal("it is opened")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error is %v, which is no %v", err, c.is)
			}
			for _, want := range c.text {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %q, without %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error is %q", err)
			}
			if store.Temporary(err) != c.soon {
				t.Errorf("%v: it may go away: %v, want %v", err, !c.soon, c.soon)
			}
		})
	}
}

func flood(to io.Writer) error {
	for {
		if _, err := io.WriteString(to, "yyyyyyyyyyyyyyyyyyyyyyyy\n"); err != nil {
			return nil
		}
	}
}

// TestBanner has a shell print something before the server begins.
func TestBanner(t *testing.T) {
	inner := storetest.NewMemory("memory")
	m := newMachine(t, Read, func() store.Store { return inner })
	var log bytes.Buffer
	o := m.options(Read)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.Dial = func(ctx context.Context) (io.ReadWriteCloser, error) {
		l, err := m.dial(ctx)
		return &bannered{l.(*link), strings.NewReader("Last login: never\r\nYou have mail. ")}, err
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.List(t.Context()); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "You have mail.") || strings.Count(text, "level=WARN") != 1 {
		t.Errorf("the log has %q", text)
	}
}

type bannered struct {
	*link
	banner io.Reader
}

func (b *bannered) Read(p []byte) (int, error) {
	if n, err := b.banner.Read(p); err == nil {
		return n, nil
	}
	return b.link.Read(p)
}

// TestMute has nothing come from the other side, for ever or until the context
// ends.
func TestMute(t *testing.T) {
	mute := played(func(_ net.Conn, in *bufio.Reader) error { _, err := io.Copy(io.Discard, in); return err })
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := Open(t.Context(), Options{Target: dial.Target{Host: "far"}, Dir: "/srv/", Dial: mute})
		if err == nil || !strings.Contains(err.Error(), "far: no buttersink has answered within 3m0s: it printed nothing") || !store.Temporary(err) || time.Since(begun) != 3*time.Minute {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		begun = time.Now()
		if _, err := Open(ctx, Options{Target: dial.Target{Host: "far"}, Dir: "/srv/", Dial: mute}); !errors.Is(err, context.Canceled) || time.Since(begun) != time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		if _, err := Open(ctx, Options{Target: dial.Target{Host: "far"}, Dir: "/srv/", Dial: mute}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestDialFails has the connection not even be begun.
func TestDialFails(t *testing.T) {
	why := errors.New("no ssh here")
	_, err := Open(t.Context(), Options{Dir: "/srv/", Dial: func(context.Context) (io.ReadWriteCloser, error) { return nil, why }})
	if !errors.Is(err, why) || store.Temporary(err) {
		t.Error(err)
	}
}

func TestName(t *testing.T) {
	for want, target := range map[string]dial.Target{
		"ssh://far/srv/":              {Host: "far"},
		"ssh://joe@far/srv/":          {Host: "far", User: "joe"},
		"ssh://joe@far:2222/srv/":     {Host: "far", User: "joe", Port: 2222},
		"ssh://[fe80::1]/srv/":        {Host: "fe80::1"},
		"ssh://root@[fe80::1]:9/srv/": {Host: "fe80::1", User: "root", Port: 9},
	} {
		if got := nameOf(target, "/srv/"); got != want {
			t.Errorf("%+v is called %s, want %s", target, got, want)
		}
	}
}

// TestClosed uses a store that is closed.
func TestClosed(t *testing.T) {
	x := newPlay(t)
	unlock, err := x.s.Lock(t.Context(), "a run")
	if err != nil {
		t.Fatal(err)
	}
	w, err := x.s.Create(t.Context(), x.want("c"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := x.s.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, c := range calls {
		if err := c.do(t.Context(), x); !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if n := x.m.dialled(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
	// The server has come to its end, and the lock is free.
	if free, err := x.inner.Lock(t.Context(), "another run"); err != nil {
		t.Error(err)
	} else {
		_ = free()
	}
}
