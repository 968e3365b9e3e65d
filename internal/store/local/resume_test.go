package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

var often = Options{Checkpoints: replay.Checkpoints{Bytes: 200 << 10, Every: -1}}

var errCut = errors.New("the line is cut")

// carryOn is what a transfer does: it skips what has been carried out before,
// and begins again where that is something else. It stops after some bytes, if
// that is not negative.
func carryOn(ctx context.Context, src, dst *Store, want store.Want, stop int64) (from store.Mark, err error) {
	raw, err := src.Open(ctx, store.Request{Edge: want.Edge})
	if err != nil {
		return from, err
	}
	defer raw.Close()
	w, err := dst.Create(ctx, want)
	if err != nil {
		return from, err
	}
	defer w.Close()
	from = w.(store.Resumer).Resumed()
	in := stream.NewReader(raw)
	for in.Mark().Offset < from.Offset {
		if _, err := in.Next(); err != nil {
			return from, err
		}
	}
	if store.Mark(in.Mark()) != from {
		if err := w.Close(); err != nil {
			return from, err
		}
		want.Fresh = true
		return carryOn(ctx, src, dst, want, stop)
	}
	for {
		at := in.Mark().Offset
		run, err := in.NextRun()
		if err == io.EOF {
			return from, w.Commit(ctx)
		}
		if err != nil {
			return from, err
		}
		if stop >= 0 && at >= stop {
			return from, errCut
		}
		if _, err := w.Write(run); err != nil {
			return from, err
		}
	}
}

// scene is a source with a snapshot and an increment, and an empty destination.
type scene struct {
	src, dst *btrfstest.FS
	from     *Store
	inv      *snapshot.Inventory
	wants    []store.Want
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{src: btrfstest.New(t), dst: btrfstest.New(t, btrfstest.MountOptions("noatime,commit=300"))}
	tree := btrfstest.NewTree(t, s.src.Subvolume("live"), 11)
	tree.Fill()
	noise := func(name string) {
		data := make([]byte, 5<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(len(name))}).Read(data)
		if err := os.WriteFile(s.src.Path("live/"+name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	noise("noise")
	mustMkdir(t, s.src.Path("snaps"))
	s.src.Snapshot("live", "snaps/a", true)
	tree.Mutate()
	noise("more noise")
	s.src.Snapshot("live", "snaps/b", true)
	s.from = mustOpen(t, s.src.Path("snaps"))
	s.inv = mustList(t, s.from)
	a, b := at(t, s.inv, "a"), at(t, s.inv, "b")
	s.wants = []store.Want{wantOf(s.inv, a, snapshot.Snapshot{}), wantOf(s.inv, b, a)}
	return s
}

func (s *scene) same(t *testing.T, fs *btrfstest.FS, path string) {
	t.Helper()
	if diff := btrfstest.Diff(t, s.src.Path("snaps/"+path), fs.Path(path)); diff != "" {
		t.Errorf("%s differs:\n%.3000s", path, diff)
	}
}

func TestResume(t *testing.T) {
	s := newScene(t)
	to := mustOpen(t, s.dst.Dir, often)
	mustList(t, to)
	for _, want := range s.wants {
		last, parts := int64(-1), 0
		for stop := int64(1 << 20); ; stop += 1 << 20 {
			from, err := carryOn(t.Context(), s.from, to, want, stop)
			if from.Offset <= last && from.Offset > 0 || stop > 3<<20 && from.Offset == 0 {
				t.Fatalf("%s: carried on from %d, then %d", want.Path, last, from.Offset)
			}
			last = from.Offset
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			inv := mustList(t, to)
			if parts = len(inv.Partials); parts != 1 {
				t.Fatalf("%s: %+v", want.Path, inv.Partials)
			}
			p := inv.Partials[0]
			if !p.Ours || !snapshot.IsPart(p.Path) || !strings.Contains(p.Why, "an interrupted transfer of "+want.Path+" can be carried on") {
				t.Errorf("%+v", p)
			}
			if len(inv.Warnings) > 0 || inv.Occupied[p.Path] != "" {
				t.Errorf("%v, %q", inv.Warnings, inv.Occupied[p.Path])
			}
			for _, snap := range inv.Snapshots {
				if snap.Path != "a" {
					t.Errorf("taken for a snapshot: %+v", snap)
				}
			}
			if ways, err := to.Inspect(t.Context(), want.Path); ways[want.Path] != "" || err != nil {
				t.Errorf("in the way: %q, %v", ways[want.Path], err)
			}
		}
		if last == 0 {
			t.Errorf("%s: never carried on", want.Path)
		}
		s.same(t, s.dst, want.Path)
		if inv := mustList(t, to); len(inv.Partials) != 0 {
			t.Errorf("left: %+v", inv.Partials)
		}
	}
	cut := s.dst.PowerCut()
	for _, want := range s.wants {
		s.same(t, cut, want.Path)
	}
	if left, _ := filepath.Glob(cut.Path("*.part")); len(left) > 0 {
		t.Errorf("left after a power cut: %v", left)
	}
}

// The power goes in the middle; the parent goes while the transfer is away.
func TestResumeAfterPowerCut(t *testing.T) {
	s := newScene(t)
	to := mustOpen(t, s.dst.Dir, often)
	mustList(t, to)
	if _, err := carryOn(t.Context(), s.from, to, s.wants[0], -1); err != nil {
		t.Fatal(err)
	}
	if _, err := carryOn(t.Context(), s.from, to, s.wants[1], 3<<20); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	cut := s.dst.PowerCut()
	again := mustOpen(t, cut.Dir, often)
	mustList(t, again)
	from, err := carryOn(t.Context(), s.from, again, s.wants[1], -1)
	if err != nil || from.Offset == 0 {
		t.Fatalf("from %d: %v", from.Offset, err)
	}
	s.same(t, cut, "b")

	if err := to.Remove(t.Context(), at(t, mustList(t, to), "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := carryOn(t.Context(), s.from, to, s.wants[1], -1); err == nil {
		t.Error("carried on without the parent")
	} else if _, ok := errors.AsType[*store.ParentError](err); !ok {
		t.Error(err)
	}
}

// Where the stream is not what it was, and where that is asked for, the transfer
// begins again.
func TestResumeOfAnotherStream(t *testing.T) {
	s := newScene(t)
	to := mustOpen(t, s.dst.Dir, often)
	mustList(t, to)
	interrupt := func() {
		t.Helper()
		if _, err := carryOn(t.Context(), s.from, to, s.wants[0], 3<<20); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
	}
	interrupt()
	// A stream of the other version is another one.
	old := mustOpen(t, s.src.Path("snaps"), Options{Protocol: 1})
	mustList(t, old)
	from, err := carryOn(t.Context(), old, to, s.wants[0], 3<<20)
	if from.Offset != 0 || !errors.Is(err, errCut) {
		t.Fatalf("from %d: %v", from.Offset, err)
	}
	if from, err = carryOn(t.Context(), old, to, s.wants[0], -1); err != nil || from.Offset == 0 {
		t.Fatalf("from %d: %v", from.Offset, err)
	}
	s.same(t, s.dst, "a")
	if err := to.Remove(t.Context(), at(t, mustList(t, to), "a")); err != nil {
		t.Fatal(err)
	}

	interrupt()
	fresh := s.wants[0]
	fresh.Fresh = true
	if from, err := carryOn(t.Context(), s.from, to, fresh, -1); err != nil || from != (store.Mark{}) {
		t.Errorf("from %d: %v", from.Offset, err)
	}
	if inv := mustList(t, to); len(inv.Partials) != 0 {
		t.Errorf("left: %+v", inv.Partials)
	}
	s.same(t, s.dst, "a")
}

func TestRemoveCheckpoint(t *testing.T) {
	s := newScene(t)
	to := mustOpen(t, s.dst.Dir, often)
	mustList(t, to)
	if _, err := carryOn(t.Context(), s.from, to, s.wants[0], 3<<20); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	inv := mustList(t, to)
	w, err := to.Create(t.Context(), s.wants[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range mustList(t, to).Partials {
		if err := to.RemovePartial(t.Context(), p); !errors.Is(err, replay.ErrInUse) {
			t.Errorf("removing %s while it is being carried on: %v", p.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Spoilt it is still ours.
	f, err := os.Open(s.dst.Path(inv.Partials[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	if err := btrfs.SetReadOnly(f, false); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s.dst.Path(inv.Partials[0].Path+"/more"), "")
	if err := btrfs.SetReadOnly(f, true); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := to.RemovePartial(t.Context(), inv.Partials[0]); err != nil {
		t.Error(err)
	}
	if inv := mustList(t, to); len(inv.Partials) != 0 {
		t.Errorf("left: %+v", inv.Partials)
	}
}

// What was copied in is complete.
func TestCopyEndsInterrupted(t *testing.T) {
	s := newScene(t)
	mustMkdir(t, s.dst.Path("in"))
	to := mustOpen(t, s.dst.Path("in"), often)
	mustList(t, to)
	if _, err := carryOn(t.Context(), s.from, to, s.wants[0], 3<<20); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	outside := mustOpen(t, s.dst.Dir, often)
	mustList(t, outside)
	if _, err := carryOn(t.Context(), s.from, outside, s.wants[0], -1); err != nil {
		t.Fatal(err)
	}
	mustList(t, to)
	if err := to.Copy(t.Context(), s.wants[0]); err != nil {
		t.Fatal(err)
	}
	if inv := mustList(t, to); len(inv.Partials) != 0 || len(inv.Snapshots) != 1 {
		t.Errorf("%+v", inv)
	}
}

// TestKilledReceiver kills a process that receives, at random moments, until it
// gets done.
func TestKilledReceiver(t *testing.T) {
	if dirs := os.Getenv("BUTTERSINK_TEST_RECEIVE"); dirs != "" {
		receiveAll(t, filepath.SplitList(dirs))
		return
	}
	s := newScene(t)
	rng := rand.New(rand.NewPCG(7, 7))
	killed, resumed := 0, 0
	for limit := 50 * time.Millisecond; ; limit += limit / 10 {
		if found, _ := filepath.Glob(s.dst.Path("*.checkpoint-*.part")); len(found) > 0 {
			resumed++
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledReceiver$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("BUTTERSINK_TEST_RECEIVE=%s:%s", s.src.Path("snaps"), s.dst.Dir))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(limit))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
			t.Fatalf("%v:\n%s", err, out.String())
		}
		killed++
	}
	t.Logf("killed %d times, with a checkpoint %d times", killed, resumed)
	if resumed == 0 {
		t.Error("there was nothing to be carried on from")
	}
	for _, want := range s.wants {
		s.same(t, s.dst, want.Path)
	}
	if left, _ := filepath.Glob(s.dst.Path("*.part")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// receiveAll is the process that is killed.
func receiveAll(t *testing.T, dirs []string) {
	src, dst := mustOpen(t, dirs[0]), mustOpen(t, dirs[1], Options{Checkpoints: replay.Checkpoints{Bytes: 300 << 10, Every: -1}})
	inv := mustList(t, src)
	a, b := at(t, inv, "a"), at(t, inv, "b")
	for _, want := range []store.Want{wantOf(inv, a, snapshot.Snapshot{}), wantOf(inv, b, a)} {
		if slices.Contains(paths(mustList(t, dst)), want.Path) {
			continue
		}
		if _, err := carryOn(t.Context(), src, dst, want, -1); err != nil {
			t.Fatal(err)
		}
	}
}
