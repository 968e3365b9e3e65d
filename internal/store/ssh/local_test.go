package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/storetest"
	"github.com/buttersink/buttersink/internal/stream"
)

// farDir is a directory on a btrfs file system of its own, served by a machine.
type farDir struct {
	*machine
	fs   *btrfstest.FS
	path string
}

// newFarDir makes one. Receives there make checkpoints after so many bytes of a
// stream; zero is the rule.
func newFarDir(t testing.TB, mode Mode, every int64) *farDir {
	t.Helper()
	fs := btrfstest.New(t)
	far := &farDir{fs: fs, path: fs.Path("store")}
	if err := os.Mkdir(far.path, 0o755); err != nil {
		t.Fatal(err)
	}
	far.machine = newMachine(t, mode, nil)
	far.opt.Open = func(context.Context, Wishes) (store.Store, error) {
		return local.Open(far.path, local.Options{Checkpoints: replay.Checkpoints{Bytes: every}, Origin: far.opt.Of})
	}
	return far
}

// TestContractOfLocal holds the client, the server and a real directory together to
// the contract.
func TestContractOfLocal(t *testing.T) {
	h := localHarness(50_000)
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // most of the time goes into file systems that are made
			c.Run(t, h)
		})
	}
}

func localHarness(every int64) storetest.Harness {
	var mu sync.Mutex
	dirs := map[*Store]*farDir{}
	live := 0
	of := func(s store.Store) *farDir {
		mu.Lock()
		defer mu.Unlock()
		return dirs[s.(*Store)]
	}
	client := func(far *farDir) *Store {
		s := far.client(Write)
		mu.Lock()
		defer mu.Unlock()
		dirs[s] = far
		return s
	}
	return storetest.Harness{
		New:   func(t testing.TB) store.Store { return client(newFarDir(t, Write, every)) },
		Again: func(t testing.TB, s store.Store) store.Store { return client(of(s)) },
		Populate: func(t testing.TB, s store.Store, paths ...string) {
			mu.Lock()
			live++
			name := fmt.Sprintf("live%d", live)
			mu.Unlock()
			of(s).grow(t, name, paths...)
		},
		Digest: func(t testing.TB, s store.Store, x snapshot.Snapshot) string {
			return btrfstest.Digest(t, filepath.Join(of(s).path, x.Path))
		},
		Origin: func(t testing.TB, s store.Store) (store.Store, func()) {
			far := of(s)
			origin := far.fs.Subvolume("origin")
			far.opt.Of = origin
			n := 0
			change := func() {
				n++
				if err := os.WriteFile(filepath.Join(origin, "changing"), fmt.Appendf(nil, "state %d", n), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			change()
			again := wanting(t, far.machine, origin+"/")
			mu.Lock()
			defer mu.Unlock()
			dirs[again] = far
			return again, change
		},
		Leftover: func(t testing.TB, s store.Store, path string) {
			full := filepath.Join(of(s).path, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := of(s).fs.Subvolume(full)
			if err := os.WriteFile(filepath.Join(dir, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		Leave: func(t testing.TB, s store.Store, path string) {
			full := filepath.Join(of(s).path, path) + snapshot.PartSuffix
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			of(s).fs.Subvolume(full)
			if err := os.WriteFile(filepath.Join(full, "half"), []byte("of a file"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// grow makes snapshots at the paths, of one tree that changes in between.
func (far *farDir) grow(t testing.TB, name string, paths ...string) {
	t.Helper()
	dir := far.fs.Subvolume(name)
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	noise := make([]byte, 128<<10)
	_, _ = rand.Read(noise)
	for i := range 8 {
		write(fmt.Sprintf("noise%d", i), noise[i<<14:(i+1)<<14])
	}
	write("fixed", []byte("always the same"))
	for i, p := range paths {
		write("changing", fmt.Appendf(nil, "state %d", i))
		write(fmt.Sprintf("new%d", i), noise[:1000+i])
		if err := os.MkdirAll(filepath.Dir(filepath.Join(far.path, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		far.fs.Snapshot(name, filepath.Join(far.path, p), true)
	}
}

// push is a snapshot with an increment in one directory, and an empty directory.
type push struct {
	src, dst *farDir
	from     *Store
	x        []snapshot.Snapshot
}

func newPush(t testing.TB, mode Mode, every int64) *push {
	t.Helper()
	p := &push{src: newFarDir(t, Read, 0), dst: newFarDir(t, mode, every)}
	p.src.grow(t, "live", "a", "b")
	p.from = p.src.client(Read)
	inv, err := p.from.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.x = inv.Inside()
	return p
}

// want announces one of the snapshots in full.
func (p *push) want(i int) store.Want {
	return store.Want{Edge: snapshot.Edge{To: p.x[i].ID}, Transid: p.x[i].Transid, Path: p.x[i].Path}
}

// TestHostileStreamsOfLocal has a real directory get what is not what was
// announced, from the start and carried on.
func TestHostileStreamsOfLocal(t *testing.T) {
	x := newPush(t, Append, 20_000)
	s := &scene{want: x.want(1), stream: streamOf(t, x.from, x.want(1).Edge)}
	p := connect(t, x.dst.serve(t), Append)
	ends := commandEnds(s.stream)
	at := ends[len(ends)/3]
	all := hostile(t, s)
	all["out of the snapshot"] = escaping(t, s.stream, "zz/zz/evil", "../../evil")
	all["from the root"] = escaping(t, s.stream, "zetc/evil", "/etc/evil")
	for name, raw := range all {
		for _, carried := range []bool{false, true} {
			if carried && (len(raw) < at || !bytes.Equal(raw[:at], s.stream[:at])) {
				continue // what is carried on is another stream
			}
			want := s.want
			want.Fresh = true
			if carried {
				call := p.begin(request{Call: callCreate, Want: wantOf(want)})
				p.hears(call)
				if err := errors.Join(p.tells(call, instruction{}), write(call, s.stream[:at]), call.End(nil)); err != nil {
					t.Fatal(err)
				}
				if a := p.hears(call); a.Error == nil {
					t.Fatal("the beginning of a stream was committed")
				}
				want.Fresh = false
			}
			a := p.puts(want, raw)
			if a.Error == nil {
				t.Errorf("%s, carried on: %v: it was committed", name, carried)
			}
		}
		inv, err := x.from.List(t.Context())
		if err != nil || len(inv.Inside()) != 2 {
			t.Fatalf("the source: %v", err)
		}
	}
	to := x.dst.client(Read)
	inv, err := to.List(t.Context())
	if err != nil || len(inv.Snapshots) > 0 {
		t.Fatalf("it holds %+v, %v", inv.Snapshots, err)
	}
	for _, evil := range []string{filepath.Join(x.dst.path, "evil"), x.dst.fs.Path("evil"), "/etc/evil"} {
		if _, err := os.Lstat(evil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has come to be: %v", evil, err)
		}
	}
	// The right stream is taken, and goes where the client says.
	s.want.Fresh = true
	if a := p.puts(s.want, renamedTo(t, s.stream, "elsewhere")); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if btrfstest.Digest(t, filepath.Join(x.src.path, "b")) != btrfstest.Digest(t, filepath.Join(x.dst.path, "b")) {
		t.Error("what has arrived differs")
	}
}

// escaping returns a stream with a command before its END that makes a file at a
// path which no sender gives, with the right checksum. The other path is as long.
func escaping(t testing.TB, raw []byte, good, bad string) []byte {
	t.Helper()
	at := len(raw) - commandHead
	out, err := stream.Append(bytes.Clone(raw[:at]), 1, &stream.Command{Kind: stream.MkFile, Path: []byte(good), Ino: 300})
	if err != nil {
		t.Fatal(err)
	}
	command := out[at:]
	copy(command[bytes.Index(command, []byte(good)):], bad)
	stream.Seal(command)
	return append(out, raw[at:]...)
}

// serve starts a server of the directory for a client that says what the test
// wants.
func (far *farDir) serve(t testing.TB) *serving { return serveTo(t, far.opt) }

// awaitCheckpoint waits until a receive has come durably further than some byte,
// and returns how far.
func (far *farDir) awaitCheckpoint(t testing.TB, name string, before int64) int64 {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all, err := filepath.Glob(filepath.Join(far.path, name+"*"+snapshot.PartSuffix))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			digits := strings.TrimSuffix(p, snapshot.PartSuffix)
			digits = digits[strings.LastIndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })+1:]
			if at, err := strconv.ParseInt(digits, 10, 64); err == nil && at > before {
				return at
			}
		}
	}
	t.Fatalf("there is no checkpoint behind byte %d", before)
	return 0
}

// TestCutInTheMiddle cuts the line to a real directory again and again: the rest
// is carried on where it durably was.
func TestCutInTheMiddle(t *testing.T) {
	x := newPush(t, Append, 20_000)
	raw := streamOf(t, x.from, x.want(1).Edge)
	ends := commandEnds(raw)
	var durable int64
	for _, part := range []int{1, 2, 3} {
		s := x.dst.serve(t)
		p := connect(t, s, Append)
		call := p.begin(request{Call: callCreate, Want: wantOf(x.want(1))})
		m, err := p.hears(call).Mark.mark()
		if err != nil {
			t.Fatal(err)
		}
		if m.Offset < durable {
			t.Errorf("it is carried on from byte %d, and there is a checkpoint at %d", m.Offset, durable)
		}
		end := ends[slices.IndexFunc(ends, func(end int) bool { return end >= len(raw)*part/4 })]
		if err := errors.Join(p.tells(call, instruction{}), write(call, raw[m.Offset:end])); err != nil {
			t.Fatal(err)
		}
		durable = x.dst.awaitCheckpoint(t, "b", durable)
		_ = s.ours.Close()
		s.wait(t)
	}
	p := connect(t, x.dst.serve(t), Append)
	call := p.begin(request{Call: callCreate, Want: wantOf(x.want(1))})
	last := p.hears(call)
	if last.Mark == nil {
		t.Error("nothing is carried on")
	}
	call.Cancel()
	if a := p.puts(x.want(1), raw); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if btrfstest.Digest(t, filepath.Join(x.src.path, "b")) != btrfstest.Digest(t, filepath.Join(x.dst.path, "b")) {
		t.Error("what has arrived differs")
	}
	inv, err := x.dst.client(Read).List(t.Context())
	if err != nil || len(inv.Partials) > 0 || len(inv.Inside()) != 1 {
		t.Errorf("there are %+v, %v", inv, err)
	}
}

// TestIntoUnfinished has a client make something in what another one is in the middle
// of sending.
func TestIntoUnfinished(t *testing.T) {
	x := newPush(t, Append, 0)
	one, two := connect(t, x.dst.serve(t), Append), connect(t, x.dst.serve(t), Append)
	raw := streamOf(t, x.from, x.want(0).Edge)
	call := one.begin(request{Call: callCreate, Want: wantOf(x.want(0))})
	if a := one.hears(call); a.Error != nil {
		t.Fatal(a.Error.Text)
	}
	if err := one.tells(call, instruction{}); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Write(raw[:len(raw)-commandHead]); err != nil {
		t.Fatal(err)
	}
	part := x.want(0).Path + snapshot.PartSuffix
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if entries, _ := os.ReadDir(filepath.Join(x.dst.path, part)); len(entries) > 0 {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("nothing comes in")
		}
	}
	for _, at := range []string{"alien", "deep/alien"} {
		w := x.want(0)
		w.Path = part + "/" + at
		if a := two.puts(w, raw); a.Error == nil || a.Error.Kind != kindExists {
			t.Errorf("%s: %+v", at, a.Error)
		}
	}
	if _, err := call.Write(raw[len(raw)-commandHead:]); err != nil {
		t.Fatal(err)
	}
	if err := one.tells(call, instruction{Commit: true}); err != nil {
		t.Fatal(err)
	}
	if a := one.hears(call); a.Error != nil {
		t.Error(a.Error.Text)
	}
	entries, err := os.ReadDir(filepath.Join(x.dst.path, x.want(0).Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "alien" || e.Name() == "deep" {
			t.Errorf("%s is in the snapshot", e.Name())
		}
	}
}
