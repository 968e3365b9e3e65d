package replay

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

var kills = flag.Int("kills", 3, "number of random streams of which each shape's receive is interrupted again and again")

// often is a checkpoint after every few KiB, and never by the clock.
var often = Checkpoints{Bytes: 64 << 10, Every: -1}

// attempt receives in as name until the stream is cut off at an offset, or whole
// if that is -1, from a checkpoint if there is one. It leaves what a process
// leaves that is killed.
func (b *bench) attempt(name string, in []byte, cut int64, every Checkpoints) (from stream.Mark, err error) {
	b.t.Helper()
	r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: name, Checkpoints: every, ForceDecompress: b.decompress})
	id, err := stream.NewReader(bytes.NewReader(in)).Identity()
	if err != nil {
		b.t.Fatal(err)
	}
	state, err := r.Resume(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	source := stream.NewReader(cutOff(in, cut))
	if state != nil {
		whole, err := stream.Continue(nil, state)
		if err != nil {
			b.t.Fatal(err)
		}
		// What is skipped is compared.
		skipped := stream.NewReader(bytes.NewReader(in))
		for skipped.Mark().Offset < whole.Mark().Offset {
			if _, err := skipped.Next(); err != nil {
				b.t.Fatal(err)
			}
		}
		from = whole.Mark()
		if skipped.Mark() != from {
			b.t.Fatalf("the checkpoint is at %+v, the stream has there %+v", from, skipped.Mark())
		}
		rest := cutOff(in, cut)
		if _, err := rest.Seek(from.Offset, io.SeekStart); err != nil {
			b.t.Fatal(err)
		}
		if source, err = stream.Continue(rest, state); err != nil {
			b.t.Fatal(err)
		}
	}
	err = r.Receive(context.Background(), source)
	if err == nil {
		_, err = r.Commit(context.Background())
	}
	if err != nil {
		r.die()
	}
	return from, err
}

func cutOff(in []byte, at int64) *bytes.Reader {
	if at < 0 {
		return bytes.NewReader(in)
	}
	return bytes.NewReader(in[:at])
}

// die does what the kernel does when a process is killed.
func (r *Receiver) die() {
	r.closeFiles()
	if r.tree != nil {
		r.tree.forgetAll()
		release(r.tree.root)
	}
	r.endCheckpoints(true)
	r.state = abandoned
}

// parts returns what is left of unfinished receives.
func (b *bench) parts() []string {
	b.t.Helper()
	found, err := filepath.Glob(b.path("*" + PartSuffix))
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// Receives of random snapshots, full and incremental, are interrupted at random
// places; carried on they give what the source is.
func TestInterruptedSequences(t *testing.T) {
	btrfstest.Require(t)
	for i, s := range shapes[:min(len(shapes), 5)] {
		for n := range *kills {
			seed := uint64(1000*i + n)
			t.Run(fmt.Sprintf("%s %d", s.name, seed), func(t *testing.T) {
				t.Parallel()
				interrupted(t, s, seed)
			})
		}
	}
}

func interrupted(t *testing.T, s shape, seed uint64) {
	origin := btrfstest.New(t, btrfstest.MountOptions(s.source))
	copies := btrfstest.New(t, btrfstest.MountOptions(s.dest))
	b := newBench(t, copies, "in")
	b.decompress = s.force
	rng := rand.New(rand.NewPCG(seed, 1))
	var without []btrfstest.Feature
	if s.compress {
		without = append(without, btrfstest.Prealloc)
	}
	tree := btrfstest.NewTree(t, origin.Subvolume("live"), seed, btrfstest.Extra(30), btrfstest.Without(without...))
	tree.Fill()
	parent, resumes := "", 0
	for _, name := range []string{"one", "two", "three"} {
		snapshot := origin.Snapshot("live", name, true)
		in := sendByProgram(origin, s, snapshot, parent)
		every := Checkpoints{Bytes: 1 + int64(len(in)/(2+rng.IntN(20))), Every: -1}
		for done := int64(0); ; {
			// Seldom before the place that was reached.
			cut := int64(-1)
			if rng.IntN(4) > 0 {
				cut = min(done+rng.Int64N(int64(len(in))/2+1), int64(len(in))-1)
			}
			from, err := b.attempt(name, in, cut, every)
			if from.Offset > 0 {
				resumes++
			}
			if err == nil {
				break
			}
			if !resumable(err) {
				t.Fatalf("cut off at %d of %d: %v", cut, len(in), err)
			}
			done = from.Offset
		}
		same(t, "carried on", snapshot, b.path(name))
		if left := b.parts(); len(left) > 0 {
			t.Errorf("left after success: %v", left)
		}
		info := b.info(name)
		if !info.ReadOnly || info.Ctransid > info.Rtransid {
			t.Errorf("%s: %+v", name, info)
		}
		if n, err := unix.Getxattr(b.path(name), recordXattr, nil); err != unix.ENODATA {
			t.Errorf("the record is still there: %d, %v", n, err)
		}
		parent = snapshot
		tree.Mutate()
	}
	t.Logf("carried on %d times", resumes)
}

// checkpointed receives the beginning of a stream, and returns the path of its
// checkpoint.
func checkpointed(t *testing.T, b *bench, name string, in []byte) string {
	t.Helper()
	if _, err := b.attempt(name, in, int64(len(in))*3/4, often); err == nil {
		t.Fatal("half a stream is enough")
	}
	found, err := filepath.Glob(b.path(name + checkpointMark + "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("checkpoints: %v, %v", found, err)
	}
	return found[0]
}

// manyFiles returns a full stream of some hundred KiB.
func manyFiles(t testing.TB) []byte {
	f := newForge(t, 2)
	for i := range 100 {
		f.file(fmt.Sprintf("f%d", i)).write(fmt.Sprintf("f%d", i), strings.Repeat(fmt.Sprint(i, " "), 2000))
	}
	return f.end()
}

func TestCheckpointIsDurable(t *testing.T) {
	fs := btrfstest.New(t, btrfstest.MountOptions("noatime,commit=300"))
	b := newBench(t, fs, "in")
	in := manyFiles(t)
	b.must("whole", in)
	point := checkpointed(t, b, "x", in)
	cut := fs.PowerCut()
	after := newBench(t, cut, "in")
	from, err := after.attempt("x", in, -1, often)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(point) != checkpointName("x", from.Offset) {
		t.Errorf("carried on from %d, and there was %s", from.Offset, point)
	}
	same(t, "carried on after a power cut", b.path("whole"), after.path("x"), btrfstest.WithoutTimes())
	// Nothing is left even if the power goes right after success.
	again := newBench(t, cut.PowerCut(), "in")
	same(t, "after another power cut", b.path("whole"), again.path("x"), btrfstest.WithoutTimes())
	if left := again.parts(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What has happened to a checkpoint, or is wanted instead, so that the receive
// begins at the start and the checkpoint goes.
func TestUnusableCheckpoints(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in := manyFiles(t)
	id, err := stream.NewReader(bytes.NewReader(in)).Identity()
	if err != nil {
		t.Fatal(err)
	}
	writable := func(t *testing.T, path string, change func()) {
		t.Helper()
		f := open(t, path)
		defer f.Close()
		if err := btrfs.SetReadOnly(f, false); err != nil {
			t.Fatal(err)
		}
		change()
		if err := btrfs.SetReadOnly(f, true); err != nil {
			t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(t *testing.T, path string) stream.Identity{
		"changed": func(t *testing.T, path string) stream.Identity {
			writable(t, path, func() { write(t, path+"/f1", "other") })
			return id
		},
		"changed, and not yet on disk": func(t *testing.T, path string) stream.Identity {
			writable(t, path, func() {
				w, err := os.OpenFile(path+"/f1", os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				m, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_WRITE|unix.PROT_READ, unix.MAP_SHARED)
				if err != nil {
					t.Fatal(err)
				}
				m[7] = 'X'
				if err := errors.Join(unix.Munmap(m), w.Close()); err != nil {
					t.Fatal(err)
				}
			})
			return id
		},
		"writable": func(t *testing.T, path string) stream.Identity {
			f := open(t, path)
			defer f.Close()
			if err := btrfs.SetReadOnly(f, false); err != nil {
				t.Fatal(err)
			}
			return id
		},
		"damaged record": func(t *testing.T, path string) stream.Identity {
			writable(t, path, func() {
				record := make([]byte, maxRecord)
				n, err := unix.Getxattr(path, recordXattr, record)
				if err != nil {
					t.Fatal(err)
				}
				record[n/2] ^= 1
				setxattr(t, path, recordXattr, record[:n])
			})
			return id
		},
		"other format": func(t *testing.T, path string) stream.Identity {
			writable(t, path, func() { setxattr(t, path, recordXattr, []byte("buttersink checkpoint 2\n...")) })
			return id
		},
		"renamed": func(t *testing.T, path string) stream.Identity {
			if err := os.Rename(path, filepath.Dir(path)+"/"+checkpointName("x", 12345)); err != nil {
				t.Fatal(err)
			}
			return id
		},
		"other snapshot": func(*testing.T, string) stream.Identity {
			other := id
			other.UUID[3]++
			return other
		},
		"other transaction": func(*testing.T, string) stream.Identity {
			other := id
			other.Transid++
			return other
		},
		"other parent": func(*testing.T, string) stream.Identity {
			other := id
			other.HasParent, other.Parent[5] = true, 1
			return other
		},
	} {
		t.Run(name, func(t *testing.T) {
			point := checkpointed(t, b, "x", in)
			r := b.receiver("x")
			state, err := r.Resume(context.Background(), spoil(t, point))
			if err != nil || state != nil {
				t.Errorf("it is carried on: %v, %v", state != nil, err)
			}
			if err := r.Abandon(); err != nil {
				t.Error(err)
			}
			for _, left := range b.parts() {
				if left != b.path("x.part") { // torn, until somebody receives it
					t.Errorf("left: %v", left)
				}
			}
			from, err := b.attempt("x", in, -1, often)
			if err != nil || from.Offset != 0 {
				t.Errorf("from %d: %v", from.Offset, err)
			}
			if left := b.parts(); len(left) > 0 {
				t.Errorf("left after success: %v", left)
			}
			clearAway(t, b.path("x"))
		})
	}
}

// What only looks like a checkpoint stays, and is nothing to carry on from.
func TestNotACheckpoint(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in := manyFiles(t)
	plain := fs.Subvolume(b.path("x.checkpoint-77.part"))
	fs.Subvolume(b.path("elsewhere"))
	fs.Snapshot(b.path("elsewhere"), b.path("x.checkpoint-78.part"), true)
	mkdir(t, b.path("x.checkpoint-79.part"))
	write(t, b.path("x.checkpoint-80.part"), "")
	before := len(b.parts())
	if from, err := b.attempt("x", in, -1, often); err != nil || from.Offset != 0 {
		t.Errorf("from %d: %v", from.Offset, err)
	}
	if left := b.parts(); len(left) != before {
		t.Errorf("of %d are left %v", before, left)
	}
	if removed, err := RemoveRemainder(b.dir, filepath.Base(plain)); !removed || err != nil {
		t.Errorf("a writable one: %v, %v", removed, err)
	}
	if _, err := RemoveRemainder(b.dir, "x.checkpoint-78.part"); !errors.Is(err, ErrExists) {
		t.Errorf("a snapshot: %v", err)
	}
}

// Which endings keep the checkpoint.
func TestEndings(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	in := manyFiles(t)
	unsafe := newForge(t, 2)
	for i := range 100 {
		unsafe.file(fmt.Sprintf("f%d", i)).write(fmt.Sprintf("f%d", i), strings.Repeat("data", 2000))
	}
	impossible := unsafe.rename("nowhere", "somewhere").end()
	damaged := bytes.Clone(in)
	damaged[len(in)*3/4] ^= 1
	for _, c := range []struct {
		name string
		in   []byte
		ctx  func() context.Context
		kept int
	}{
		{"cut off", in[:len(in)*3/4], nil, 1},
		{"damaged", damaged, nil, 1},
		{"impossible", impossible, nil, 0},
	} {
		r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "x", Checkpoints: often})
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(c.in))); err == nil {
			t.Fatalf("%s: it is received", c.name)
		}
		if err := r.Abandon(); err != nil {
			t.Error(err)
		}
		if left := b.parts(); len(left) != c.kept {
			t.Errorf("%s: left is %v", c.name, left)
		}
	}
	// Given up after the whole stream.
	r := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "x", Checkpoints: often})
	if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err != nil {
		t.Fatal(err)
	}
	if left := b.parts(); len(left) != 2 {
		t.Errorf("at work: %v", left)
	}
	for _, part := range b.parts() {
		if _, err := RemoveRemainder(b.dir, filepath.Base(part)); !errors.Is(err, ErrInUse) {
			t.Errorf("while somebody is at work on %s: %v", part, err)
		}
	}
	if _, err := b.receiver("x").Resume(context.Background(), stream.Identity{UUID: forgedUUID}); !errors.Is(err, ErrInUse) {
		t.Errorf("carried on while somebody is at work: %v", err)
	}
	if err := r.Abandon(); err != nil {
		t.Error(err)
	}
	if left := b.parts(); len(left) != 1 {
		t.Errorf("given up: %v", left)
	}
	if err := RemoveCheckpoints(b.dir, "x"); err != nil || len(b.parts()) != 0 {
		t.Errorf("%v, %v", b.parts(), err)
	}
}

// A snapshot may have the attribute that checkpoints are known by.
func TestRecordOfTheStream(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	f := newForge(t, 2).xattr("", recordXattr, "mine")
	for i := range 20 {
		f.file(fmt.Sprintf("f%d", i)).write(fmt.Sprintf("f%d", i), strings.Repeat("data", 9000))
	}
	in := f.end()
	parent := New(Options{Filesystem: b.fs, Dir: b.dir, Name: "one", Checkpoints: often})
	receive := func(r *Receiver, in []byte) Result {
		t.Helper()
		if err := r.Receive(context.Background(), stream.NewReader(bytes.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		if len(b.parts()) != 1 {
			t.Errorf("checkpoints were made: %v", b.parts())
		}
		result, err := r.Commit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	one := receive(parent, in)
	second := newForgedIncrement(t, 2, one.ReceivedUUID, one.Stransid)
	for i := range 20 {
		second.write(fmt.Sprintf("f%d", i), strings.Repeat("tata", 9000))
	}
	receive(New(Options{Filesystem: b.fs, Dir: b.dir, Name: "two", Checkpoints: often}), second.end())
	for _, name := range []string{"one", "two"} {
		value := make([]byte, 100)
		if n, err := unix.Getxattr(b.path(name), recordXattr, value); err != nil || string(value[:n]) != "mine" {
			t.Errorf("%s: %q, %v", name, value[:max(n, 0)], err)
		}
	}
}
