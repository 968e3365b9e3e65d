package ssh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// commandEnds returns where the commands of a stream end, the header's end first.
func commandEnds(raw []byte) []int {
	const header = 17
	ends := []int{header}
	for at := header; at < len(raw); {
		at += commandHead + int(binary.LittleEndian.Uint32(raw[at:]))
		ends = append(ends, at)
	}
	return ends
}

// renamedTo returns a stream with another name in its first command.
func renamedTo(t testing.TB, raw []byte, name string) []byte {
	t.Helper()
	r := stream.NewReader(bytes.NewReader(raw))
	var out bytes.Buffer
	var w *stream.Writer
	for {
		c, err := r.Next()
		if err == io.EOF {
			return out.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		if w == nil {
			w = stream.NewWriter(&out, r.Version())
			c.Path = []byte(name)
		}
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
		if c.Kind == stream.End {
			_ = w.Close()
		}
	}
}

// trusting is a store that would commit anything: what is refused, the server has
// refused.
type trusting struct {
	*storetest.Memory
	written bytes.Buffer
	commits int
	closed  int
	from    store.Mark
}

func (s *trusting) Create(context.Context, store.Want) (store.Writer, error) { return s, nil }
func (s *trusting) Write(p []byte) (int, error)                              { return s.written.Write(p) }

func (s *trusting) Commit(context.Context) error { s.commits++; return nil }

func (s *trusting) Close() error        { s.closed++; return nil }
func (s *trusting) Resumed() store.Mark { return s.from }

// hostile are streams that are not what was announced.
func hostile(t testing.TB, s *scene) map[string][]byte {
	ends := commandEnds(s.stream)
	middle := ends[len(ends)/2]
	with := func(at int, b []byte) []byte {
		return append(append(append([]byte{}, s.stream[:at]...), b...), s.stream[at:]...)
	}
	flipped := func(at int) []byte {
		out := bytes.Clone(s.stream)
		out[at] ^= 4
		return out
	}
	rewritten := func(id stream.Identity) []byte {
		r, err := stream.RewriteHead(bytes.NewReader(s.stream), id)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := map[string][]byte{
		"empty":               {},
		"no stream":           []byte(strings.Repeat("no stream at all ", 50)),
		"only a header":       s.stream[:ends[0]],
		"no END":              s.stream[:ends[len(ends)-2]],
		"torn":                s.stream[:middle+3],
		"begun anew":          append(append([]byte{}, s.stream[:middle+3]...), s.stream...),
		"twice":               append(append([]byte{}, s.stream...), s.stream...),
		"something behind":    append(append([]byte{}, s.stream...), 0),
		"another in between":  with(middle, s.stream[ends[0]:ends[1]]),
		"another identity":    rewritten(stream.Identity{UUID: stream.UUID{1, 2, 3}}),
		"another transaction": rewritten(stream.Identity{Transid: 77}),
		"longer than allowed": with(middle, binary.LittleEndian.AppendUint32(nil, 1<<31)),
	}
	for _, at := range []int{ends[0] + 4, ends[0] + 7, ends[1] - 1, middle - 1, middle + 1, len(s.stream) - 1} {
		all[fmt.Sprintf("byte %d flipped", at)] = flipped(at)
	}
	return all
}

func TestHostileStreams(t *testing.T) {
	s := newScene(t)
	for name, raw := range hostile(t, s) {
		t.Run(name, func(t *testing.T) {
			far := &trusting{Memory: storetest.NewMemory("far")}
			p := dialled(t, far, Append)
			if a := p.puts(s.want, raw); a.Error == nil {
				t.Error("it was committed")
			} else if a.Error.Text == "" {
				t.Error("nobody says why")
			}
			if far.commits != 0 || far.closed != 1 {
				t.Errorf("the writer has seen %d commits and was closed %d times", far.commits, far.closed)
			}
			// What has come through is the beginning of the stream, in whole commands.
			got := far.written.Bytes()
			whole := len(got) == 0
			for _, end := range commandEnds(s.stream) {
				whole = whole || end == len(got) && bytes.Equal(got, s.stream[:end])
			}
			if !whole && name != "another transaction" && name != "another identity" {
				t.Errorf("the store was given %d bytes that are no whole commands of the stream", len(got))
			}
			// And it is the transfer that has failed, not the connection.
			if a := p.puts(s.want, s.stream); a.Error != nil {
				t.Errorf("the right stream: %+v", a.Error)
			}
			if far.commits != 1 {
				t.Errorf("%d commits", far.commits)
			}
		})
	}
}

// TestAnnouncedOtherwise has the stream of an increment come where a full one is
// announced, and the other way round.
func TestAnnouncedOtherwise(t *testing.T) {
	src := storetest.NewMemory("here")
	a, b := src.Add("tree", 1, "a"), src.Add("tree", 2, "b")
	whole := store.Want{Edge: snapshot.Edge{To: b.ID}, Path: "x"}
	since := store.Want{Edge: snapshot.Edge{To: b.ID, From: a.ID}, Path: "x"}
	far := &trusting{Memory: storetest.NewMemory("far")}
	p := dialled(t, far, Append)
	for _, c := range []struct {
		w  store.Want
		of snapshot.Edge
	}{
		{whole, since.Edge},
		{since, whole.Edge},
		{store.Want{Edge: since.Edge, FromTransid: 9, Path: "x"}, since.Edge},
		{store.Want{Edge: snapshot.Edge{To: b.ID, From: b.ID}, Path: "x"}, since.Edge},
	} {
		if a := p.puts(c.w, streamOf(t, src, c.of)); a.Error == nil {
			t.Errorf("%+v was announced, and the stream of %+v taken", c.w, c.of)
		}
	}
	if far.commits != 0 || far.written.Len() != 0 {
		t.Errorf("%d commits, %d bytes", far.commits, far.written.Len())
	}
}

// TestNameInTheStream has a stream call its snapshot otherwise than the client.
func TestNameInTheStream(t *testing.T) {
	s := newScene(t)
	p := dialled(t, s.m, Append)
	if a := p.puts(s.want, renamedTo(t, s.stream, "elsewhere")); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	inv, err := s.m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := inv.Find(s.want.Edge.To); !ok || x.Path != "new" {
		t.Errorf("it is at %q", x.Path)
	}
}

// TestUncommitted has clients that end a stream in other ways than with a commit.
func TestUncommitted(t *testing.T) {
	s := newScene(t)
	ways := map[string]func(p *peer, call *wire.Call) error{
		"ended":         func(_ *peer, call *wire.Call) error { return call.End(nil) },
		"told again":    func(p *peer, call *wire.Call) error { return p.tells(call, instruction{}) },
		"told nonsense": func(p *peer, call *wire.Call) error { return call.Send(p.ctx(), []byte("]")) },
	}
	for name, way := range ways {
		for _, n := range []int{0, commandEnds(s.stream)[3], len(s.stream)} {
			far := &trusting{Memory: storetest.NewMemory("far")}
			p := dialled(t, far, Append)
			call := p.begin(request{Call: callCreate, Want: wantOf(s.want)})
			p.hears(call)
			if err := p.tells(call, instruction{}); err != nil {
				t.Fatal(err)
			}
			if _, err := call.Write(s.stream[:n]); err != nil {
				t.Fatal(err)
			}
			if err := way(p, call); err != nil {
				t.Fatal(err)
			}
			if a := p.hears(call); a.Error == nil {
				t.Errorf("%s after %d bytes: no error", name, n)
			}
			if far.commits != 0 || far.closed != 1 {
				t.Errorf("%s after %d bytes: %d commits, closed %d times", name, n, far.commits, far.closed)
			}
		}
	}
}

// TestCarriedOn sends the rest of a stream, right and wrong.
func TestCarriedOn(t *testing.T) {
	s := newScene(t)
	ends := commandEnds(s.stream)
	at := ends[len(ends)/2]
	from := store.Mark{Offset: int64(at), Commands: int64(len(ends) / 2), Digest: [32]byte{1}}
	for name, raw := range hostile(t, s) {
		if len(raw) < at || !bytes.Equal(raw[:at], s.stream[:at]) {
			continue // it is another one before that place
		}
		far := &trusting{Memory: storetest.NewMemory("far"), from: from}
		p := dialled(t, far, Append)
		if a := p.puts(s.want, raw); a.Error == nil || far.commits != 0 || far.closed != 1 {
			t.Errorf("%s: %+v, %d commits, closed %d times", name, a.Error, far.commits, far.closed)
		}
	}
	far := &trusting{Memory: storetest.NewMemory("far"), from: from}
	p := dialled(t, far, Append)
	call := p.begin(request{Call: callCreate, Want: wantOf(s.want)})
	if m, err := p.hears(call).Mark.mark(); err != nil || m != from {
		t.Errorf("it begins at %+v, %v", m, err)
	}
	call.Cancel()
	if a := p.puts(s.want, s.stream); a.Error != nil || far.commits != 1 || !bytes.Equal(far.written.Bytes(), s.stream[at:]) {
		t.Errorf("%+v, %d commits, %d bytes, want %d", a.Error, far.commits, far.written.Len(), len(s.stream)-at)
	}
}

// TestRestInPieces cuts what is carried on as connections do.
func TestRestInPieces(t *testing.T) {
	s := newScene(t)
	ends := commandEnds(s.stream)
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.SampledFrom(ends[1:]).Draw(t, "at")
		var in io.Reader = bytes.NewReader(s.stream[at:])
		if rapid.Bool().Draw(t, "slow") {
			in = iotest.OneByteReader(in)
		}
		r := &rest{in: bufio.NewReaderSize(in, longestCommand)}
		var got []byte
		for {
			run, err := r.NextRun()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(run) == 0 {
				t.Fatal("an empty run")
			}
			got = append(got, run...)
		}
		if !bytes.Equal(got, s.stream[at:]) {
			t.Errorf("%d bytes, want %d", len(got), len(s.stream)-at)
		}
	})
}

// smallStream is a stream with a few short commands.
func smallStream(t testing.TB) []byte {
	t.Helper()
	raw := stream.AppendHeader(nil, 1)
	for _, c := range []*stream.Command{
		{Kind: stream.Subvol, Path: []byte("a"), UUID: stream.UUID{1}, Transid: 5},
		{Kind: stream.MkFile, Path: []byte("x"), Ino: 257},
		{Kind: stream.Write, Path: []byte("x"), Data: []byte("content")},
		{Kind: stream.Truncate, Path: []byte("x"), Size: 7},
		{Kind: stream.End},
	} {
		var err error
		if raw, err = stream.Append(raw, 1, c); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

// FuzzRest compares what is carried on with what package stream says of it.
func FuzzRest(f *testing.F) {
	raw := smallStream(f)
	ends := commandEnds(raw)
	head := raw[:ends[1]]
	for _, at := range ends[1:] {
		f.Add(raw[at:])
		f.Add(raw[ends[1]:at])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &rest{in: bufio.NewReaderSize(bytes.NewReader(raw), longestCommand)}
		var got []byte
		var err error
		for err == nil {
			var run []byte
			run, err = r.NextRun()
			got = append(got, run...)
		}
		if !bytes.HasPrefix(raw, got) {
			t.Fatal("what was handed out is not what came in")
		}
		if _, _, right := stream.Verify(io.MultiReader(bytes.NewReader(head), bytes.NewReader(raw))); right == nil && (!errors.Is(err, io.EOF) || len(got) != len(raw)) {
			t.Errorf("a good stream is refused: %v", err)
		} else if errors.Is(right, stream.ErrChecksum) && errors.Is(err, io.EOF) {
			t.Errorf("%v, and it was taken", right)
		}
	})
}
