package ssh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what ought to happen soon. Machines are slow at times.
const patience = 30 * time.Second

// testDir is what servers in these tests say that they serve.
const testDir = "/srv/snaps"

// serving is a server that runs in the test.
type serving struct {
	ours  net.Conn // the client's end
	ended chan error
}

// serveTo starts a server over a pipe.
func serveTo(t testing.TB, o ServeOptions) *serving {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &serving{ours: ours, ended: make(chan error, 1)}
	go func() {
		err := Serve(context.Background(), theirs, theirs, o)
		_ = theirs.Close()
		s.ended <- err
	}()
	t.Cleanup(func() { _ = ours.Close(); s.wait(t) })
	return s
}

// wait returns what Serve returned, as often as it is asked.
func (s *serving) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(patience):
		t.Fatal("the server does not end")
		return nil
	}
}

// served are the options of a server of a store that is open already, and stays so.
func served(st store.Store, mode Mode) ServeOptions {
	return ServeOptions{
		Mode: mode, Dir: testDir, Program: "test", Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, Wishes) (store.Store, error) { return st, nil },
	}
}

// peer is a client that says what the test wants it to say.
type peer struct {
	t       testing.TB
	serving *serving
	conn    *wire.Conn
	greeted greeting
}

// greet sends a line, and returns the server's own with what follows it.
func (s *serving) greet(t testing.TB, line string) (string, *bufio.Reader) {
	t.Helper()
	_ = s.ours.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(s.ours, line) }()
	in := bufio.NewReader(s.ours)
	answer, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("reading the greeting: %v", err)
	}
	_ = s.ours.SetDeadline(time.Time{})
	return answer, in
}

// helloLine is how these tests' clients greet.
func helloLine(t testing.TB, mode Mode) string {
	t.Helper()
	g := newGreeting("test client", false)
	g.Dir, g.Mode = testDir, mode
	line, err := g.hello()
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

// connect greets a server and begins the connection.
func connect(t testing.TB, s *serving, mode Mode) *peer {
	t.Helper()
	line, in := s.greet(t, helloLine(t, mode))
	g, _, ok, err := parseHello([]byte(strings.TrimSuffix(line, "\n")))
	if err != nil || !ok || g.Error != nil {
		t.Fatalf("the server greets with %q: %v", line, err)
	}
	p := &peer{t: t, serving: s, greeted: g, conn: wire.NewClient(in, s.ours, wire.Options{})}
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

// dialled is a client of a server of its own.
func dialled(t testing.TB, st store.Store, mode Mode) *peer {
	t.Helper()
	return connect(t, serveTo(t, served(st, mode)), mode)
}

func (p *peer) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	return ctx
}

// begin makes a request.
func (p *peer) begin(q request) *wire.Call {
	p.t.Helper()
	raw, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	call, err := p.conn.Call(p.ctx(), raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return call
}

// hears returns the next answer of a call.
func (p *peer) hears(call *wire.Call) answer {
	p.t.Helper()
	raw, err := call.Receive(p.ctx())
	if err != nil {
		p.t.Fatalf("waiting for an answer: %v", err)
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// ask makes a request and returns its first answer.
func (p *peer) ask(q request) answer {
	p.t.Helper()
	call := p.begin(q)
	defer call.Cancel()
	return p.hears(call)
}

// tells sends an instruction.
func (p *peer) tells(call *wire.Call, i instruction) error {
	p.t.Helper()
	raw, err := json.Marshal(i)
	if err != nil {
		p.t.Fatal(err)
	}
	return call.Send(p.ctx(), raw)
}

// puts sends a stream with a request to create it, and returns the last answer.
func (p *peer) puts(w store.Want, raw []byte) answer {
	p.t.Helper()
	call := p.begin(request{Call: callCreate, Want: wantOf(w)})
	first := p.hears(call)
	if first.Error != nil {
		return first
	}
	if err := p.tells(call, instruction{}); err != nil {
		p.t.Fatal(err)
	}
	at, _ := first.Mark.mark()
	// The server may have ended the call by now: then its answer says why.
	if _, err := call.Write(raw[at.Offset:]); err == nil {
		_ = p.tells(call, instruction{Commit: true})
	}
	_ = call.End(nil)
	return p.hears(call)
}

// gets reads a stream.
func (p *peer) gets(q request) ([]byte, answer) {
	p.t.Helper()
	q.Call = callOpen
	call := p.begin(q)
	defer call.Cancel()
	if first := p.hears(call); first.Error != nil {
		return nil, first
	}
	raw, err := io.ReadAll(call)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw, p.hears(call)
}

// notes sends a note with a request to write it.
func (p *peer) notes(q request, note []byte) answer {
	p.t.Helper()
	call := p.begin(q)
	// The server may have ended the call by now: then its answer says why.
	if _, err := call.Write(note); err == nil {
		_ = p.tells(call, instruction{Commit: true})
	}
	_ = call.End(nil)
	return p.hears(call)
}

// reads reads the data of a call that has one answer, behind them.
func (p *peer) reads(q request) ([]byte, answer) {
	p.t.Helper()
	call := p.begin(q)
	defer call.Cancel()
	raw, err := io.ReadAll(call)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw, p.hears(call)
}

// streamOf is the stream of an edge of a store.
func streamOf(t testing.TB, src store.Source, e snapshot.Edge) []byte {
	t.Helper()
	in, err := src.Open(t.Context(), store.Request{Edge: e})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// held returns the paths of what a store holds and of what is unfinished in it.
func heldBy(t testing.TB, st store.Store) []string {
	t.Helper()
	inv, err := st.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, x := range inv.Snapshots {
		all = append(all, x.Path)
	}
	for _, p := range inv.Partials {
		all = append(all, p.Path)
	}
	slices.Sort(all)
	return all
}

// idle waits until nothing of a Memory is open any more.
func idle(t testing.TB, m *storetest.Memory) {
	t.Helper()
	for end := time.Now().Add(patience); m.Busy() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d streams and writers are still open", m.Busy())
		}
	}
}
