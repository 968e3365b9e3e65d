package stream

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// rewritten returns a stream with other names in it, and how reading it ends.
func rewritten(raw []byte, to, from UUID) ([]byte, error) {
	return io.ReadAll(RewriteAll(NewReader(bytes.NewReader(raw)), to, from))
}

// names are the UUIDs in a whole stream: of its first command, and of its clones.
func names(t interface{ Fatal(...any) }, raw []byte) (first Identity, clones []UUID) {
	r := NewReader(bytes.NewReader(raw))
	for {
		c, err := r.Next()
		if err == io.EOF {
			return first, clones
		}
		if err != nil {
			t.Fatal(err)
		}
		switch c.Kind {
		case Subvol, Snapshot:
			first = identityOf(c)
		case Clone:
			clones = append(clones, c.CloneUUID)
		}
	}
}

func TestRewriteAllOfRealStreams(t *testing.T) {
	files, err := filepath.Glob("testdata/*.stream")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	to, from := UUID{1, 2, 3}, UUID{4, 5, 6}
	cloned := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		was, wasClones := names(t, raw)
		got, err := rewritten(raw, to, from)
		if err != nil || len(got) != len(raw) {
			t.Fatalf("%s: %d bytes become %d, %v", file, len(raw), len(got), err)
		}
		is, clones := names(t, got)
		if is.UUID != to || was.HasParent && is.Parent != from || is.Transid != was.Transid || is.ParentTransid != was.ParentTransid || is.Path != was.Path {
			t.Errorf("%s: %+v has become %+v", file, was, is)
		}
		for i, id := range wasClones {
			want := id
			switch id {
			case was.UUID:
				want = to
				cloned++
			case was.Parent:
				want = from
				cloned++
			}
			if clones[i] != want {
				t.Errorf("%s: clone %d is of %x, want %x", file, i, clones[i], want)
			}
		}
		back, err := rewritten(got, was.UUID, was.Parent)
		if err != nil || !bytes.Equal(back, raw) {
			t.Errorf("%s: it does not become again what it was (%v)", file, err)
		}
		if same, err := rewritten(raw, UUID{}, UUID{}); err != nil || !bytes.Equal(same, raw) {
			t.Errorf("%s: it changes without a reason (%v)", file, err)
		}
		if cut, err := rewritten(raw[:len(raw)-1], to, from); !errors.Is(err, ErrTruncated) || len(cut) >= len(raw) {
			t.Errorf("%s, cut off: %d bytes, %v", file, len(cut), err)
		}
	}
	if cloned == 0 {
		t.Error("no stream has a clone command with a name that changes")
	}
}

// Whatever the commands are, only names change, and there and back is nothing.
func TestRewriteAllThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := uint32(rapid.IntRange(1, 2).Draw(t, "version"))
		own, parent, other := UUID{1}, UUID{2}, UUID{3}
		first := drawCommand(t, version, rapid.SampledFrom([]Kind{Subvol, Snapshot}).Draw(t, "first"))
		first.UUID, first.CloneUUID = own, parent
		var raw bytes.Buffer
		w := NewWriter(&raw, version)
		all := []*Command{first}
		for range rapid.IntRange(0, 12).Draw(t, "commands") {
			c := drawCommand(t, version, rapid.SampledFrom([]Kind{Clone, Clone, MkFile, Write, Utimes, SetXattr}).Draw(t, "kind"))
			if c.Kind == Clone {
				c.CloneUUID = rapid.SampledFrom([]UUID{own, parent, other}).Draw(t, "of")
			}
			all = append(all, c)
		}
		for _, c := range append(all, &Command{Kind: End}) {
			if err := w.Write(c); err != nil {
				t.Skip(err) // what is drawn need not make sense
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(RewriteAll(NewReader(bytes.NewReader(raw.Bytes())), UUID{7}, UUID{8})))
		if err != nil {
			t.Fatal(err)
		}
		is, clones := names(t, got)
		if is.UUID != (UUID{7}) || is.HasParent && is.Parent != (UUID{8}) {
			t.Fatalf("the first command says %+v", is)
		}
		renamed := map[UUID]UUID{own: {7}, parent: {8}, other: other}
		if first.Kind == Subvol {
			renamed[parent] = parent
		}
		i := 0
		for _, c := range all {
			if c.Kind == Clone {
				if clones[i] != renamed[c.CloneUUID] {
					t.Fatalf("clone %d is of %x, want %x", i, clones[i], renamed[c.CloneUUID])
				}
				i++
			}
		}
		back, err := rewritten(got, own, parent)
		if err != nil || !bytes.Equal(back, raw.Bytes()) {
			t.Fatalf("it does not become again what it was (%v)", err)
		}
	})
}

func TestRewriteAllRefuses(t *testing.T) {
	raw, err := os.ReadFile("testdata/v1-full.stream")
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(raw)
	bad[len(bad)/2] ^= 1
	for name, in := range map[string][]byte{"empty": nil, "no stream": []byte("films"), "a wrong bit": bad, "more": append(bytes.Clone(raw), 'x')} {
		if _, err := rewritten(in, UUID{1}, UUID{}); err == nil {
			t.Errorf("%s: it is rewritten", name)
		}
	}
	broken := errors.New("broken")
	_, err = io.ReadAll(RewriteAll(NewReader(io.MultiReader(bytes.NewReader(raw[:1000]), iotest.ErrReader(broken))), UUID{1}, UUID{}))
	if !errors.Is(err, broken) {
		t.Errorf("a reader that breaks: %v", err)
	}
}

// Commands cost nothing but their copying.
func TestRewriteAllAllocatesLittle(t *testing.T) {
	raw, err := os.ReadFile("testdata/v1-incremental.stream")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n := testing.AllocsPerRun(10, func() {
		r := RewriteAll(NewReader(bytes.NewReader(raw)), UUID{1}, UUID{2})
		for {
			if _, err := r.Read(buf); err != nil {
				return
			}
		}
	})
	_, clones := names(t, raw)
	r := NewReader(bytes.NewReader(raw))
	for {
		if _, err := r.Next(); err != nil {
			break
		}
	}
	if commands := float64(r.Stats().Commands); n > commands/2 || len(clones) == 0 {
		t.Errorf("%v allocations for %v commands, %d of them clones", n, commands, len(clones))
	}
}

// FuzzRewriteAll looks for streams that a Reader takes and that are none any more
// with other names.
func FuzzRewriteAll(f *testing.F) {
	files, err := filepath.Glob("testdata/*.stream")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, want := io.Copy(io.Discard, RewriteAll(NewReader(bytes.NewReader(raw)), UUID{}, UUID{}))
		got, err := rewritten(raw, UUID{1}, UUID{2})
		if (err == nil) != (want == nil) {
			t.Fatalf("it ends in %v, and with other names in %v", want, err)
		}
		if err != nil {
			return
		}
		if first, _ := names(t, got); first.UUID != (UUID{1}) {
			t.Fatalf("it is called %x", first.UUID)
		}
	})
}

// Snapshots of a subvolume that was received once may all have the same UUID, its
// own: then the transid tells which of the two a clone command means.
func TestRewriteAllOfOneName(t *testing.T) {
	name := UUID{1, 2, 3}
	var raw bytes.Buffer
	w := NewWriter(&raw, 1)
	for _, c := range []*Command{
		{Kind: Snapshot, Path: []byte("s"), UUID: name, Transid: 20, CloneUUID: name, CloneTransid: 10},
		{Kind: Clone, Path: []byte("f"), ClonePath: []byte("f"), CloneUUID: name, CloneTransid: 20, CloneLen: 4096, FileOffset: 4096},
		{Kind: Clone, Path: []byte("f"), ClonePath: []byte("f"), CloneUUID: name, CloneTransid: 10, CloneLen: 4096, FileOffset: 8192},
		{Kind: End},
	} {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	to, from := UUID{7}, UUID{8}
	got, err := rewritten(raw.Bytes(), to, from)
	if err != nil {
		t.Fatal(err)
	}
	first, clones := names(t, got)
	if first.UUID != to || first.Parent != from {
		t.Errorf("it is %x on top of %x", first.UUID, first.Parent)
	}
	if len(clones) != 2 || clones[0] != to || clones[1] != from {
		t.Errorf("the clones are of %x", clones)
	}
}
