package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// answered greets a server of an empty store with a line, and returns what it
// answers with and what Serve returns.
func answered(t *testing.T, line string, o ServeOptions) (string, error) {
	t.Helper()
	s := serveTo(t, o)
	text, _ := s.greet(t, line)
	_ = s.ours.Close()
	return text, s.wait(t)
}

func TestOldClient(t *testing.T) {
	for _, c := range []string{"version\n", "volumes\n", "edges None\n", "receive sub/a ea7c1d34-c782-584b-8144-845760163ea1 None\n", "quit\r\n"} {
		text, err := answered(t, c, served(storetest.NewMemory("far"), Write))
		if !errors.Is(err, ErrRefused) || !errors.Is(err, errOldPeer) {
			t.Errorf("%q: %v", c, err)
		}
		got := map[string]any{}
		if err := json.Unmarshal([]byte(text), &got); err != nil || !strings.HasSuffix(text, "}\n") {
			t.Errorf("%q is answered with %q: %v", c, text, err)
		}
		want := map[string]any{"error": oldAdvice, "errorType": "Exception", "command": strings.Fields(c)[0], "server": true, "traceback": ""}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q:\n%s", c, diff)
		}
		if !isOldAnswer([]byte(text)) {
			t.Errorf("%q is not what such a server answers", text)
		}
	}
}

func TestNoClient(t *testing.T) {
	for _, c := range []string{"", "\n", "GET / HTTP/1.1\r\n", "versions\n", strings.Repeat("x", maxHello+5), "no end", helloWord + " 2 {}\n", helloWord + " 1 {\n", helloWord + " 1 []\n"} {
		o := served(storetest.NewMemory("far"), Write)
		o.Open = func(context.Context, Wishes) (store.Store, error) {
			t.Error("the store is opened")
			return nil, errors.New("no")
		}
		s := serveTo(t, o)
		go func() {
			_, _ = io.WriteString(s.ours, c)
			if !strings.HasSuffix(c, "\n") {
				_ = s.ours.Close()
			}
		}()
		if err := s.wait(t); err == nil || len(err.Error()) > 1000 {
			t.Errorf("%.40q: %v", c, err)
		}
	}
}

// TestRefusals has servers that do not serve say why.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	real, link, other := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "other")
	for _, d := range []string{real, other} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	greets := func(change func(g *greeting)) string {
		g := newGreeting("test", true)
		g.Dir, g.Mode = path(real+"/"), Append
		change(&g)
		line, err := g.hello()
		if err != nil {
			t.Fatal(err)
		}
		return string(line)
	}
	gone := fmt.Errorf("opening %s: %w", real, syscall.ENOENT)
	for name, c := range map[string]struct {
		change func(g *greeting)
		open   error
		says   string // nothing: it serves
	}{
		"as it is":          {func(*greeting) {}, nil, ""},
		"by another name":   {func(g *greeting) { g.Dir = path(link) }, nil, ""},
		"another directory": {func(g *greeting) { g.Dir = path(other) }, nil, "only " + real + " is served"},
		"none there":        {func(g *greeting) { g.Dir = path(real + "/none") }, nil, "only " + real + " is served"},
		"the one above":     {func(g *greeting) { g.Dir = path(dir) }, nil, "only " + real + " is served"},
		"relative":          {func(g *greeting) { g.Dir = "real" }, nil, "only " + real + " is served"},
		"no directory":      {func(g *greeting) { g.Dir = "" }, nil, "only " + real + " is served"},
		"later version":     {func(g *greeting) { g.Lowest, g.Highest = 7, 9 }, nil, "7 to 9"},
		"no version":        {func(g *greeting) { g.Lowest, g.Highest = 0, 0 }, nil, "too old"},
		"no store":          {func(*greeting) {}, gone, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			o := served(storetest.NewMemory("far"), Write)
			o.Dir = real
			opened := o.Open
			o.Open = func(ctx context.Context, w Wishes) (store.Store, error) {
				if c.open != nil {
					return nil, c.open
				}
				return opened(ctx, w)
			}
			text, err := answered(t, greets(c.change), o)
			g, _, ok, bad := parseHello([]byte(strings.TrimSuffix(text, "\n")))
			if !ok || bad != nil {
				t.Fatalf("it answers %q: %v", text, bad)
			}
			if c.says == "" {
				if g.Error != nil || err != nil {
					t.Errorf("it answers %+v, and ends with %v", g.Error, err)
				}
				return
			}
			if g.Error == nil || !strings.Contains(g.Error.Text, c.says) || !errors.Is(err, ErrRefused) {
				t.Errorf("it answers %+v, and ends with %v", g.Error, err)
			}
			if c.open != nil && g.Error.Errno != int(syscall.ENOENT) {
				t.Errorf("the error is number %d", g.Error.Errno)
			}
		})
	}
}

func TestWishes(t *testing.T) {
	want := Wishes{Protocol: 1, KernelSend: true, Plain: true, CheckpointBytes: 12345, CheckpointEvery: -1}
	g := newGreeting("test", true)
	g.Dir, g.Mode, g.Wishes = testDir, Read, want
	line, err := g.hello()
	if err != nil {
		t.Fatal(err)
	}
	o := served(nil, Read)
	var got Wishes
	o.Open = func(_ context.Context, w Wishes) (store.Store, error) {
		got = w
		return storetest.NewMemory("far"), nil
	}
	if _, err := answered(t, string(line), o); err != nil {
		t.Error(err)
	}
	if want.Mode = Read; got != want {
		t.Errorf("the store is opened with %+v, want %+v", got, want)
	}
}

// TestSilentClient has a client that connects and says nothing.
func TestSilentClient(t *testing.T) {
	o := served(nil, Read)
	o.Silence = time.Millisecond
	if err := serveTo(t, o).wait(t); err == nil || !strings.Contains(err.Error(), "greeted within 1ms") {
		t.Errorf("a silent client: %v", err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Serve(ctx, theirs, theirs, served(nil, Read)); !errors.Is(err, context.Canceled) {
		t.Errorf("a server that was told to end: %v", err)
	}
}

// TestEndsWithItsContext ends a server with a client that has calls under way.
func TestEndsWithItsContext(t *testing.T) {
	s := newScene(t)
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	far := &serving{ours: ours, ended: make(chan error, 1)}
	go func() {
		err := Serve(ctx, theirs, theirs, served(s.m, Append))
		_ = theirs.Close()
		far.ended <- err
	}()
	p := connect(t, far, Append)
	lock := p.begin(request{Call: callLock, Who: "a run"})
	p.hears(lock)
	call := p.begin(request{Call: callCreate, Want: wantOf(s.want)})
	p.hears(call)
	cancel()
	if err := far.wait(t); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	if n := s.m.Busy(); n != 0 {
		t.Errorf("%d writers are open", n)
	}
	unlock, err := s.m.Lock(t.Context(), "the test")
	if err != nil {
		t.Fatal(err)
	}
	_ = unlock()
}

// TestRequests has requests that make no sense refused, with the connection going
// on.
func TestRequests(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Write)
	before := s.state(t)
	many := func(n int) []path { return make([]path, n) }
	bad := map[string]string{
		"empty":       "",
		"no JSON":     "\x00\x01",
		"a list":      "[]",
		"no call":     "{}",
		"unknown":     `{"call":"format"}`,
		"bad ID":      `{"call":"choose","id":"x"}`,
		"bad clones":  `{"call":"open","clones":["x"]}`,
		"deep":        strings.Repeat(`{"snapshot":{"copies":[`, 20000),
		"bad mark":    `{"call":"open","after":{"offset":5,"digest":"AAAA"}}`,
		"before zero": `{"call":"open","after":{"offset":-5,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`,
		"no want":     `{"call":"create"}`,
		"empty want":  `{"call":"create","want":{}}`,
		"no copy":     `{"call":"copy"}`,
		"nothing":     `{"call":"prove"}`,
		"zero bytes":  `{"call":"keep_sizes","path":"a","sizes":[{"edge":{"to":"` + s.a.ID.String() + `"},"bytes":0}]}`,
	}
	for what, q := range map[string]request{
		"many paths":  {Call: callInspect, Paths: many(maxPaths + 1)},
		"many sizes":  {Call: callKeepSizes, Path: "a", Sizes: make([]noted, maxSizes+1)},
		"many clones": {Call: callOpen, Edge: edge{To: s.a.ID}, Clones: make([]snapshot.ID, maxClones+1)},
	} {
		raw, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		bad[what] = string(raw)
	}
	for name, raw := range bad {
		call, err := p.conn.Call(p.ctx(), []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if a := p.hears(call); a.Error == nil || a.Error.Text == "" || len(a.Error.Text) > 1000 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if after := s.state(t); after != before {
		t.Errorf("the store has changed:\n%s\n%s", before, after)
	}
	if a := p.ask(request{Call: callInspect, Paths: []path{"a"}}); a.Error != nil || a.Ways["a"] == "" {
		t.Errorf("a good request: %+v", a)
	}
}

// onlyStore is a store that can be listed, and that is all.
type onlyStore struct{ inner store.Store }

func (s onlyStore) String() string                                        { return "little" }
func (s onlyStore) List(ctx context.Context) (*snapshot.Inventory, error) { return s.inner.List(ctx) }
func (s onlyStore) Close() error                                          { return nil }

// TestLittleStore serves one that has none of the abilities.
func TestLittleStore(t *testing.T) {
	s := newScene(t)
	p := dialled(t, onlyStore{s.m}, Write)
	if p.greeted.Name != "little" || p.greeted.Location != "" || p.greeted.Forms != [2]string{} {
		t.Errorf("it greets with %+v", p.greeted)
	}
	for call, q := range s.requests() {
		q.Call = call
		a := p.ask(q)
		if call == callList || call == callSettle {
			continue // what every store can do
		}
		if a.Error == nil || !strings.Contains(a.Error.Text, call) {
			t.Errorf("%s: %+v", call, a.Error)
		}
	}
}

// TestFailures has errors of the store come through as what they are.
func TestFailures(t *testing.T) {
	s := newScene(t)
	far := storetest.NewFault(s.m)
	p := dialled(t, far, Write)
	far.On(storetest.Create).Return(fmt.Errorf("creating: %w", syscall.ENOSPC))
	if a := p.puts(s.want, s.stream); a.Error == nil || !errors.Is(a.Error.err("host"), syscall.ENOSPC) {
		t.Errorf("a full disk: %+v", a.Error)
	}
	far = storetest.NewFault(s.m)
	p = dialled(t, far, Write)
	far.On(storetest.Commit).Return(store.MarkTemporary(errors.New("later, please")))
	if a := p.puts(s.want, s.stream); a.Error == nil || !store.Temporary(a.Error.err("host")) {
		t.Errorf("what may go away: %+v", a.Error)
	}
	if diff := cmp.Diff([]string{"/elsewhere/o", "a", "dead.part", "left", "sub/b"}, heldBy(t, s.m)); diff != "" {
		t.Error(diff)
	}
	far = storetest.NewFault(s.m)
	p = dialled(t, far, Write)
	far.On(storetest.Open).Break(300, errors.New("the disk is gone"))
	if raw, a := p.gets(request{Edge: edge{To: s.a.ID}}); len(raw) != 300 || a.Error == nil {
		t.Errorf("a stream that breaks off comes as %d bytes, and %+v", len(raw), a.Error)
	}
}

// TestRestOfAStream asks for what follows places in a stream, right and wrong.
func TestRestOfAStream(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Read)
	e := edge{To: s.b.ID}
	raw, last := p.gets(request{Edge: e})
	if last.Error != nil {
		t.Fatal(last.Error.Text)
	}
	for _, at := range commandEnds(raw)[1:] {
		r := stream.NewReader(bytes.NewReader(raw))
		for r.Stats().Bytes < int64(at) {
			if _, err := r.NextRunTo(int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		m := store.Mark(r.Mark())
		call := p.begin(request{Call: callOpen, Edge: e, After: markOf(m)})
		first := p.hears(call)
		rest, err := io.ReadAll(call)
		if first.Error != nil || err != nil || !bytes.Equal(rest, raw[at:]) || !bytes.Equal(first.State, r.State()) {
			t.Fatalf("behind byte %d come %d bytes, %+v, %v", at, len(rest), first.Error, err)
		}
		if last := p.hears(call); last.Error != nil {
			t.Errorf("behind byte %d: %s", at, last.Error.Text)
		}
		wrong := m
		wrong.Digest[31] ^= 128
		short, long, more := m, m, m
		short.Offset--
		long.Offset += int64(len(raw))
		more.Commands++
		for _, m := range []store.Mark{wrong, short, long, more} {
			if a := p.ask(request{Call: callOpen, Edge: e, After: markOf(m)}); a.Error == nil || a.Error.Kind != "another" {
				t.Errorf("at %+v: %+v", m, a)
			}
		}
	}
	idle(t, s.m)
}

// TestDamagedBeginning has what is left out be damaged itself.
func TestDamagedBeginning(t *testing.T) {
	s := newScene(t)
	raw := streamOf(t, s.m, snapshot.Edge{To: s.b.ID})
	ends := commandEnds(raw)
	raw[ends[2]-1] ^= 1
	_, err := skip(t.Context(), bytes.NewReader(raw), store.Mark{Offset: int64(ends[5]), Commands: 5})
	if !errors.Is(err, stream.ErrChecksum) || errors.Is(err, store.ErrAnother) {
		t.Errorf("a damaged beginning: %v", err)
	}
	_, err = skip(t.Context(), bytes.NewReader(raw[:ends[1]+3]), store.Mark{Offset: int64(ends[5]), Commands: 5})
	if !errors.Is(err, stream.ErrTruncated) || errors.Is(err, store.ErrAnother) {
		t.Errorf("a beginning that breaks off: %v", err)
	}
}

// FuzzRequest makes any request of a server in each mode.
func FuzzRequest(f *testing.F) {
	s := newScene(f)
	for call, q := range s.requests() {
		q.Call = call
		raw, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		for mode := range 3 {
			f.Add(raw, byte(mode))
		}
	}
	f.Add([]byte(`{"call":"open","after":{"offset":9223372036854775807,"commands":1,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, which byte) {
		if len(raw) > 1<<20 {
			return
		}
		mode := []Mode{Read, Append, Write}[which%3]
		s := newScene(t)
		before := s.state(t)
		p := dialled(t, s.m, mode)
		call, err := p.conn.Call(p.ctx(), raw)
		if err != nil {
			t.Fatal(err)
		}
		var q request
		_ = json.Unmarshal(raw, &q)
		if q.Call == callWriteNote { // or its note would be waited for
			_ = p.tells(call, instruction{Commit: true})
		}
		a := p.hears(call)
		call.Cancel()
		_ = p.conn.Close()
		_ = p.serving.ours.Close()
		p.serving.wait(t)
		after := s.state(t)
		if before != after && (!mode.allows(Append) || a.Error != nil && q.Call != callList) {
			t.Errorf("in mode %s, and answered with %+v, it has changed the store:\n%s\n%s", mode, a.Error, before, after)
		}
		if mode == Append && !strings.Contains(after, s.a.ID.String()) {
			t.Error("something was removed in mode a")
		}
	})
}

// FuzzGreeting begins with anything.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte(helloLine(f, Write)))
	f.Add([]byte("version\n"))
	f.Add([]byte(helloWord + " 1 {}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		o := served(storetest.NewMemory("far"), Read)
		o.Log = slog.New(slog.DiscardHandler)
		_ = Serve(t.Context(), bytes.NewReader(raw), &out, o)
		text := out.String()
		if text != "" && !strings.HasPrefix(text, helloWord+" 1 {") && !isOldAnswer([]byte(strings.TrimSuffix(text, "\n"))) {
			t.Errorf("%q is answered with %q", raw, text)
		}
	})
}

// TestLargeRequest has a request say so much that is not looked at that it would take
// far more memory than it is long.
func TestLargeRequest(t *testing.T) {
	raw := []byte(`{"call":"prove","snapshot":{"path":"a","copies":[{}` + strings.Repeat(",{}", 340_000) + `]}}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	q, err := parseRequest(raw)
	runtime.ReadMemStats(&after)
	if err != nil || q.Snapshot == nil || q.Snapshot.Path != "a" {
		t.Errorf("%v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("it takes %d bytes, and has %d", n, len(raw))
	}
}
