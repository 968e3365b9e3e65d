package ssh

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// beServer is set in the environment of test programs that are to be a server.
const beServer = "BUTTERSINK_TEST_BE_SERVER"

// TestServer is no test, but the server that those below start: this program with
// the arguments of buttersink. It has a store in memory, the same in each.
func TestServer(t *testing.T) {
	if os.Getenv(beServer) == "" {
		return
	}
	args := flag.Args()
	err := Serve(context.Background(), os.Stdin, os.Stdout, ServeOptions{
		Mode: Mode(args[2]), Dir: args[3], Program: strings.Join(args, "|"),
		Open: func(context.Context, Wishes) (store.Store, error) { return processStore(), nil },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// placed is a Memory that is at the same place in every process.
type placed struct{ *storetest.Memory }

func (placed) Location() string { return "the memory of a test" }

func processStore() placed {
	m := storetest.NewMemory("process")
	m.SetBulk(16 << 20)
	m.Add("home", 1, "a")
	return placed{m}
}

// remote starts an sshd with this program as its buttersink.
func remote(t *testing.T) *sshtest.Server {
	t.Helper()
	sshtest.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := sshtest.Start(t)
	server.Install("self", self)
	server.Script("buttersink", "#!/bin/sh\n"+beServer+"=1 exec "+server.Bin+"/self -test.run='^TestServer$' -- \"$@\"\n")
	return server
}

func optionsFor(server *sshtest.Server, user *sshtest.User, dir string) Options {
	return Options{
		Target: dial.Target{User: user.Name, Host: sshtest.Host, Port: server.Port, Options: user.Options(), Batch: true}, Dir: dir,
		Compress: true, waits: waits{between: 50 * time.Millisecond},
	}
}

// TestOverSSH goes through a real sshd, which breaks the connection now and then.
func TestOverSSH(t *testing.T) {
	server := remote(t)
	user := server.User(sshtest.Shell("/bin/dash"))
	user.Sudoers("ALL=(root) NOPASSWD: " + server.Bin + "/buttersink")
	dir := "/srv/it's a \"$HOME\" é\\/"
	s, err := Open(t.Context(), optionsFor(server, user, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if want := "--server|--mode|r|" + dir; s.greeting.Program != want {
		t.Errorf("the server was started with %q, want %q", s.greeting.Program, want)
	}
	inv, err := s.List(t.Context())
	if err != nil || len(inv.Snapshots) != 1 {
		t.Fatalf("%+v, %v", inv, err)
	}
	r := store.Request{Edge: snapshot.Edge{To: inv.Snapshots[0].ID}}
	want := streamOf(t, processStore(), r.Edge)

	in, err := s.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	tap := stream.NewReader(in)
	for tap.Stats().Bytes < 1<<20 {
		if _, err := tap.NextRun(); err != nil {
			t.Fatal(err)
		}
	}
	if server.Cut() == 0 {
		t.Fatal("there was nothing to cut")
	}
	if _, err := io.Copy(io.Discard, in); !store.Temporary(err) || !errors.Is(err, dial.ErrUnreachable) {
		t.Errorf("the connection was cut, and the error is %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}

	mark := store.Mark(tap.Mark())
	rest, state, err := s.OpenAfter(t.Context(), r, mark)
	if err != nil {
		t.Fatal(err)
	}
	tap, err = stream.Continue(rest, state)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = tap.NextRun()
	}
	if !errors.Is(err, io.EOF) || tap.Stats().Bytes != int64(len(want)) {
		t.Errorf("the rest ends after %d bytes of %d: %v", tap.Stats().Bytes, len(want), err)
	}
	if err := rest.Close(); err != nil {
		t.Error(err)
	}
	mark.Digest[0]++
	if _, _, err := s.OpenAfter(t.Context(), r, mark); !errors.Is(err, store.ErrAnother) {
		t.Errorf("the beginning is another one, and the error is %v", err)
	}

	// The server dies, and not the connection.
	if server.Signal("self", syscall.SIGKILL) == 0 {
		t.Fatal("there is no server")
	}
	if inv, err := s.List(t.Context()); err != nil || len(inv.Snapshots) != 1 {
		t.Errorf("after the server was killed: %+v, %v", inv, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(patience); len(server.Pids("self")) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("servers go on")
		}
	}
}

// TestOpenOverSSH has nothing, or something else, be on the other machine.
func TestOpenOverSSH(t *testing.T) {
	server := remote(t)
	root := server.Root()
	o := optionsFor(server, root, "/srv/")
	fails := func(o Options, is error, words ...string) {
		t.Helper()
		s, err := Open(t.Context(), o)
		if err == nil {
			_ = s.Close()
			t.Fatal("it is opened")
		}
		if is != nil && !errors.Is(err, is) {
			t.Errorf("the error is %v, which is no %v", err, is)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("the error is %q, without %q", err, w)
			}
		}
	}
	root.ForceCommand("buttersink --server --mode r /srv/other/")
	fails(o, nil, "/srv/other/", sshtest.Host)
	root.ForceCommand("echo hello there; exit 3")
	fails(o, nil, "hello there", "3")
	root.ForceCommand("cat")
	fails(o, errEcho, "RequestTTY")
	root.ForceCommand("")
	o.RemoteProgram = "/opt/none/buttersink"
	fails(o, ErrNoProgram, "/opt/none/buttersink")
	o.RemoteProgram = ""
	o.Mode = "x"
	fails(o, nil, `mode "x" is not known`)
	o.Mode, o.Target.Port = Read, 1
	fails(o, dial.ErrUnreachable, "refused")
	o.Target.Port = server.Port
	server.Script("buttersink", "#!/bin/sh\necho 'ERROR: unknown flag: --of.' >&2\nexit 2\n")
	fails(o, nil, "unknown flag", "install this one there")
	server.Script("buttersink", "#!/bin/sh\nread x; echo '{\"error\": \"Unknown command\", \"errorType\": \"Exception\", \"command\": \"x\", \"server\": true, \"traceback\": \"\"}'; read x\n")
	fails(o, ErrOld, "install")
}
