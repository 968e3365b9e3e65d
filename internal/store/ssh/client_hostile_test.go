package ssh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"
)

// liar is a client of a server that answers calls as a test says, and has then
// ended them if act has not.
func liar(t testing.TB, act func(call *wire.Call, q request)) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{
		Target: dial.Target{Host: "far"}, Dir: testDir, Mode: Write,
		Dial: played(func(conn net.Conn, in *bufio.Reader) error {
			if _, err := readHello(in); err != nil {
				return err
			}
			if _, err := io.WriteString(conn, lineOf(t, newGreeting("a liar", true))); err != nil {
				return err
			}
			server := wire.NewServer(in, conn, wire.Options{})
			defer server.Close()
			for {
				call, raw, err := server.Accept(context.Background())
				if err != nil {
					return nil
				}
				var q request
				if err := json.Unmarshal(raw, &q); err != nil {
					return err
				}
				if q.Call == callSettle {
					_ = call.End([]byte("{}"))
					continue
				}
				act(call, q)
				_ = call.End(nil)
			}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ends answers every call with one text.
func ends(text string) func(*wire.Call, request) {
	return func(call *wire.Call, _ request) { _ = call.End([]byte(text)) }
}

// TestNonsenseAnswers has a server answer every call with what makes no sense.
func TestNonsenseAnswers(t *testing.T) {
	id := snapshot.ID{1}
	x := snapshot.Snapshot{ID: id, UUID: id, Path: "a"}
	r := store.Request{Edge: snapshot.Edge{To: id}}
	read := func(s *Store, ctx context.Context) error {
		in, err := s.Open(ctx, r)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(in)
		return errors.Join(err, in.Close())
	}
	create := func(s *Store, ctx context.Context) error {
		w, err := s.Create(ctx, store.Want{Edge: r.Edge, Path: "a", Fresh: true})
		if err != nil {
			return err
		}
		return errors.Join(w.Commit(ctx), w.Close())
	}
	continues := func(s *Store, ctx context.Context) error {
		_, _, err := s.OpenAfter(ctx, r, store.Mark{Offset: 5})
		return err
	}
	doing := map[string]func(s *Store, ctx context.Context) error{
		callList:     func(s *Store, ctx context.Context) error { _, err := s.List(ctx); return err },
		callInspect:  func(s *Store, ctx context.Context) error { _, err := s.Inspect(ctx, "a"); return err },
		callEstimate: func(s *Store, ctx context.Context) error { _, err := s.Estimate(ctx, r); return err },
		callMeasure:  func(s *Store, ctx context.Context) error { _, err := s.Measure(ctx, r); return err },
		callProve:    func(s *Store, ctx context.Context) error { _, err := s.Prove(ctx, x); return err },
		callKnownSizes: func(s *Store, ctx context.Context) error {
			_, err := s.KnownSizes(ctx)
			return err
		},
		callKeepSizes: func(s *Store, ctx context.Context) error {
			return s.KeepSizes(ctx, "a", map[snapshot.Edge]int64{r.Edge: 1})
		},
		callOpen: read, callCreate: create,
		callCopy:          func(s *Store, ctx context.Context) error { return s.Copy(ctx, store.Want{Path: "a"}) },
		callRemove:        func(s *Store, ctx context.Context) error { return s.Remove(ctx, x) },
		callRemovePartial: func(s *Store, ctx context.Context) error { return s.RemovePartial(ctx, snapshot.Partial{Path: "p"}) },
		callChoose:        func(s *Store, _ context.Context) error { return s.Choose(id, "a") },
		callLock:          func(s *Store, ctx context.Context) error { _, err := s.Lock(ctx, "x"); return err },
	}
	for name, do := range doing {
		for _, text := range []string{"", "nonsense", "[]", `{"error": 5}`, `{"error": {}}`, `{"size": {"bytes": "many"}, "ways": 3, "trust": "x", "mark": 1}`} {
			if err := do(liar(t, ends(text)), t.Context()); err == nil || !strings.Contains(err.Error(), "far") || store.Temporary(err) {
				t.Errorf("%s answered with %q: %v", name, text, err)
			}
		}
	}
	for text, do := range map[string]func(s *Store, ctx context.Context) error{
		`{"size": {"bytes": -1}}`: doing[callMeasure],
		`{"trust": 1}`:            doing[callProve], // doubtful is no answer
		`{"trust": 7}`:            doing[callProve],
		`{"mark": {"offset": 5, "commands": 1, "digest": "AAAA"}}`:         create,
		`{"mark": {"offset": -5, "commands": 1, "digest": ` + zeros + `}}`: create,
		`{"mark": {"offset": 5, "commands": 1, "digest": ` + zeros + `}}`:  create, // it was to begin anew
		`{}`: continues, // no state
	} {
		if err := do(liar(t, ends(text)), t.Context()); err == nil || !strings.Contains(err.Error(), "far") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// zeros is a digest in JSON.
const zeros = `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`

// TestNotWhole has a server end streams and listings early, without saying that it
// failed: they are not taken for whole.
func TestNotWhole(t *testing.T) {
	s := liar(t, func(call *wire.Call, q request) {
		if q.Call == callOpen {
			_ = call.Send(context.Background(), []byte("{}"))
		}
		_, _ = io.WriteString(call, `{"head":{"dir":"/"}}`+"\n")
	})
	if inv, err := s.List(t.Context()); err == nil || inv != nil {
		t.Errorf("a listing without an answer behind it: %+v, %v", inv, err)
	}
	in, err := s.Open(t.Context(), store.Request{Edge: snapshot.Edge{To: snapshot.ID{1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if raw, err := io.ReadAll(in); err == nil || len(raw) == 0 {
		t.Errorf("a stream without an answer behind it: %q, %v", raw, err)
	}
}

// TestReasonBehindHalf has a server fail in the middle of a listing: what it says
// is told, and not that half a line could not be read.
func TestReasonBehindHalf(t *testing.T) {
	s := liar(t, func(call *wire.Call, _ request) {
		_, _ = io.WriteString(call, `{"head":{"dir":"/"}}`+"\n"+`{"snapshot":{"id":`)
		_ = call.End([]byte(`{"error":{"text":"the disk is on fire","kind":"errno","errno":5}}`))
	})
	if _, err := s.List(t.Context()); err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Error(err)
	}
	if _, err := s.KnownSizes(t.Context()); err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Error(err)
	}
}

// TestEarlyAnswer has a server answer to a stream before it has all of it.
func TestEarlyAnswer(t *testing.T) {
	for text, want := range map[string]string{`{"error":{"text":"no more room","errno":28}}`: "no more room", `{}`: "before all was sent", ``: "without an answer"} {
		s := liar(t, func(call *wire.Call, q request) {
			_ = call.Send(context.Background(), []byte("{}"))
			_, _ = call.Receive(context.Background())
			_, _ = io.ReadFull(call, make([]byte, 1000))
			if text != "" {
				_ = call.End([]byte(text))
			}
		})
		w, err := s.Create(t.Context(), store.Want{Edge: snapshot.Edge{To: snapshot.ID{1}}, Path: "a"})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = w.Write(make([]byte, 100_000))
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "far") {
			t.Errorf("it answered %q early: %v", text, err)
		}
		if again := w.Commit(t.Context()); again == nil {
			t.Error("it is committed")
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWaysOfOthers has a server tell of paths that nobody has asked for, and asks
// for more than one request has.
func TestWaysOfOthers(t *testing.T) {
	most := 0
	s := liar(t, func(call *wire.Call, q request) {
		most = max(most, len(q.Paths))
		text, _ := json.Marshal(answer{Ways: map[path]string{q.Paths[0]: "a cat", "other": "a dog"}})
		_ = call.End(text)
	})
	var paths []string
	for i := range 2*mostPaths + 1 {
		paths = append(paths, fmt.Sprintf("a%d\xff%%41", i))
	}
	ways, err := s.Inspect(t.Context(), paths...)
	if err != nil || len(ways) != 3 || ways[paths[mostPaths]] != "a cat" || ways["other"] != "" || most != mostPaths {
		t.Errorf("%v, %v, of %d paths at once", ways, err, most)
	}
	long := []string{strings.Repeat("x", mostPathBytes+1), "b", strings.Repeat("y", mostPathBytes), "c"}
	if ways, err := s.Inspect(t.Context(), long...); err != nil || len(ways) < 3 {
		t.Errorf("%d ways, %v", len(ways), err)
	}
}

// TestOffence has a server break the protocol: the connection is given up, which is
// said, and no call hangs.
func TestOffence(t *testing.T) {
	s, err := Open(t.Context(), Options{
		Target: dial.Target{Host: "far"}, Dir: testDir,
		Dial: played(func(conn net.Conn, in *bufio.Reader) error {
			if _, err := readHello(in); err != nil {
				return err
			}
			go func() { _, _ = io.Copy(io.Discard, in) }()
			_, err := io.WriteString(conn, lineOf(t, newGreeting("a liar", true))+strings.Repeat("garbage", 1000))
			return err
		}), waits: waits{between: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.List(t.Context())
	if _, ok := errors.AsType[*wire.ProtocolError](err); !ok || !strings.Contains(err.Error(), "far") {
		t.Error(err)
	}
}
