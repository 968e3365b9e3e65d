package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive"
)

const testPart = 40_000

// partContent is what part number of any upload here has in it.
func partContent(number int) []byte {
	raw := make([]byte, testPart)
	_, _ = rand.NewChaCha8([32]byte{byte(number), byte(number >> 8)}).Read(raw)
	return raw
}

func body(data []byte) archive.Body {
	return archive.Body{ReadSeeker: bytes.NewReader(data), Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)}
}

func begin(t testing.TB, b *Bucket, key string) archive.Upload {
	t.Helper()
	u, err := b.Begin(t.Context(), key, archive.UploadOptions{PartSize: testPart})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func store(t testing.TB, u archive.Upload, number int) archive.Part {
	t.Helper()
	p, err := u.Put(t.Context(), number, body(partContent(number)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// holdsParts expects an object of the parts from 1 to n.
func holdsParts(t testing.TB, b *Bucket, key string, n int) {
	t.Helper()
	in, err := b.Get(t.Context(), key, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for i := range n {
		want = append(want, partContent(i+1)...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%q has %d bytes that are not the %d that were stored", key, len(got), len(want))
	}
}

// pausing is a body that stops in the middle until it is told to go on.
type pausing struct {
	io.ReadSeeker
	reached, goOn chan struct{}
}

func (p *pausing) Read(b []byte) (int, error) {
	n, err := p.ReadSeeker.Read(b[:min(len(b), testPart/4)])
	if p.reached != nil {
		close(p.reached)
		p.reached = nil
		<-p.goOn
	}
	return n, err
}

// TestNothingIsWrittenIntoAnObject completes an upload while another process
// stores a part of it.
func TestNothingIsWrittenIntoAnObject(t *testing.T) {
	top := t.TempDir()
	b, other := open(t, top), open(t, top)
	u := begin(t, b, "o")
	one := store(t, u, 1)
	theirs, err := other.Continue(t.Context(), u.Unfinished())
	if err != nil {
		t.Fatal(err)
	}
	slow := &pausing{bytes.NewReader(partContent(7)), make(chan struct{}), make(chan struct{})}
	reached := slow.reached
	late := make(chan error)
	go func() {
		data := body(partContent(7))
		data.ReadSeeker = slow
		_, err := theirs.Put(context.Background(), 1, data)
		late <- err
	}()
	<-reached
	completed := make(chan error)
	go func() {
		_, err := u.Complete(context.Background(), []archive.Part{one})
		completed <- err
	}()
	close(slow.goOn)
	if err := <-late; err != nil {
		t.Errorf("storing a part while another process completes: %v", err)
	}
	if err := <-completed; !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Complete with a part that has been replaced meanwhile: %v", err)
	}
	one = store(t, u, 1)
	if _, err := u.Complete(t.Context(), []archive.Part{one}); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Put(t.Context(), 1, body(partContent(7))); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Put into what is an object: %v", err)
	}
	holdsParts(t, b, "o", 1)
}

func TestCompleteGivesUpWaiting(t *testing.T) {
	top := t.TempDir()
	u := begin(t, open(t, top), "o")
	one := store(t, u, 1)
	f, err := os.Open(filepath.Join(top, Folder, u.Unfinished().ID, dataIn))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Complete(ctx, []archive.Part{one}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Complete while somebody writes for ever: %v", err)
	}
}

// TestKilledBetweenLinkAndUnlink has an object that is still the data of an upload.
func TestKilledBetweenLinkAndUnlink(t *testing.T) {
	top := t.TempDir()
	b := open(t, top)
	u := begin(t, b, "o")
	one := store(t, u, 1)
	if err := os.Link(filepath.Join(top, Folder, u.Unfinished().ID, dataIn), filepath.Join(top, "o")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Continue(t.Context(), u.Unfinished()); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Continue: %v", err)
	}
	if _, err := u.Put(t.Context(), 1, body(partContent(3))); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Put: %v", err)
	}
	if _, err := u.Complete(t.Context(), []archive.Part{one}); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Complete: %v", err)
	}
	for un := range b.Uploads(t.Context(), "") {
		t.Errorf("%+v is listed as an upload", un)
	}
	if err := u.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	holdsParts(t, b, "o", 1)
	tidy(t, top)
}

func TestUploadRefuses(t *testing.T) {
	b := open(t, t.TempDir())
	for _, size := range []int64{0, -1} {
		if _, err := b.Begin(t.Context(), "o", archive.UploadOptions{PartSize: size}); err == nil {
			t.Errorf("Begin with parts of %d bytes", size)
		}
	}
	u := begin(t, b, "o")
	for _, number := range []int{0, -1, maxParts + 1} {
		if _, err := u.Put(t.Context(), number, body(nil)); err == nil {
			t.Errorf("there is a part %d", number)
		}
	}
	if _, err := u.Put(t.Context(), 1, body(make([]byte, testPart+1))); err == nil {
		t.Error("a part was stored that is longer than parts are")
	}
	short, err := u.Put(t.Context(), 1, body(make([]byte, testPart-1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range [][]archive.Part{{}, {store(t, u, 2)}, {short, store(t, u, 2)}} {
		if o, err := u.Complete(t.Context(), parts); err == nil {
			t.Errorf("completed: %+v", o)
		}
	}
	b.limits.Object = 10 * testPart
	if _, err := u.Put(t.Context(), 11, body([]byte("x"))); !errors.Is(err, unix.EFBIG) {
		t.Errorf("storing what no file has room for: %v", err)
	}
	store(t, u, 10)
}

// TestDistrusted has no parts any more, whatever the page cache says.
func TestDistrusted(t *testing.T) {
	b := open(t, t.TempDir())
	u := begin(t, b, "o")
	one := store(t, u, 1)
	if err := u.(*upload).distrust(); err != nil {
		t.Fatal(err)
	}
	if parts, err := u.Parts(t.Context()); err != nil || len(parts) > 0 {
		t.Errorf("the parts are %+v (%v)", parts, err)
	}
	if _, err := u.Complete(t.Context(), []archive.Part{one}); !errors.Is(err, archive.ErrNoUpload) {
		t.Errorf("Complete: %v", err)
	}
	one = store(t, u, 1)
	if _, err := u.Complete(t.Context(), []archive.Part{one}); err != nil {
		t.Fatal(err)
	}
	holdsParts(t, b, "o", 1)
}

const storingEnv = "BUTTERSINK_DIR_TEST_STORING"

// storeUntilKilled is what the process does that is killed: it stores and replaces
// parts, and says which are there.
func storeUntilKilled(path string) {
	b, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	u, err := b.Begin(context.Background(), "d/o", archive.UploadOptions{PartSize: testPart})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		number := 1 + i%20
		if _, err := u.Put(context.Background(), number, body(partContent(number))); err != nil {
			panic(err)
		}
		fmt.Println(number)
	}
}

func TestKilled(t *testing.T) {
	for round := range 12 {
		top := t.TempDir()
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), storingEnv+"="+top)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := map[int]int{}
		for i := 0; i < 3+round*4; i++ {
			var number int
			if _, err := fmt.Fscan(out, &number); err != nil {
				t.Fatal(err)
			}
			said[number]++
		}
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = c.Wait()
		for _, line := range strings.Fields(string(rest)) {
			var number int
			if _, err := fmt.Sscan(line, &number); err == nil {
				said[number]++
			}
		}

		b := open(t, top)
		var u archive.Upload
		for un, err := range b.Uploads(t.Context(), "d/") {
			if err != nil {
				t.Fatal(err)
			}
			if u, err = b.Continue(t.Context(), un); err != nil {
				t.Fatal(err)
			}
		}
		if u == nil {
			t.Fatal("the upload is not listed")
		}
		parts, err := u.Parts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		there := map[int]archive.Part{}
		for _, p := range parts {
			there[p.Number] = p
		}
		missing := 0
		for number := range said {
			if _, ok := there[number]; !ok {
				missing++ // being replaced when it was killed
			}
		}
		if missing > 1 {
			t.Errorf("of the parts %v that were stored there are only %v", said, parts)
		}
		all := make([]archive.Part, 20)
		for i := range all {
			p, ok := there[i+1]
			if !ok {
				p = store(t, u, i+1)
			}
			all[i] = p
		}
		if _, err := u.Complete(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		holdsParts(t, b, "d/o", 20)
		tidy(t, top)
	}
}

// TestDamagedFolder changes anything in the folder of an upload. Whatever is
// reported as stored has to be what was stored.
func TestDamagedFolder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		top := t.TempDir()
		b := open(t, top)
		u := begin(t, b, "d/o")
		want := map[int]archive.Part{}
		n := rapid.IntRange(1, 4).Draw(r, "parts")
		for i := range n {
			want[i+1] = store(t, u, i+1)
		}
		for range rapid.IntRange(1, 3).Draw(r, "damages") {
			damage(r, filepath.Join(top, Folder, u.Unfinished().ID, rapid.SampledFrom([]string{describedIn, recordsIn, dataIn}).Draw(r, "file")))
		}
		again, err := Open(top, Options{})
		if err != nil {
			r.Fatal(err)
		}
		defer again.Close()
		for un, err := range again.Uploads(t.Context(), "") {
			if err != nil {
				r.Fatal(err)
			}
			if un != u.Unfinished() {
				r.Fatalf("%+v has become %+v", u.Unfinished(), un)
			}
			carried, err := again.Continue(t.Context(), un)
			if err != nil {
				r.Fatal(err)
			}
			parts, err := carried.Parts(t.Context())
			if errors.Is(err, archive.ErrNoUpload) {
				continue
			}
			if err != nil {
				r.Fatal(err)
			}
			all := make([]archive.Part, n)
			for _, p := range parts {
				if p != want[p.Number] {
					r.Fatalf("part %+v has become %+v", want[p.Number], p)
				}
				all[p.Number-1] = p
			}
			for i := range all {
				if all[i].Number == 0 {
					all[i] = store(t, carried, i+1)
				}
			}
			if _, err := carried.Complete(t.Context(), all); err != nil {
				r.Fatal(err)
			}
			holdsParts(t, b, "d/o", n)
		}
		if err := u.Abort(t.Context()); err != nil {
			r.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(top, Folder)); !errors.Is(err, os.ErrNotExist) {
			r.Fatalf("the folder is left: %v", err)
		}
	})
}

func damage(r *rapid.T, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return // removed
	}
	at := 0
	if len(raw) > 0 {
		at = rapid.IntRange(0, len(raw)-1).Draw(r, "at")
	}
	switch rapid.SampledFrom([]string{"flip", "cut", "zero", "grow", "remove"}).Draw(r, "how") {
	case "flip":
		if len(raw) > 0 {
			raw[at] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		}
	case "cut":
		raw = raw[:at]
	case "zero":
		clear(raw[at:])
	case "grow":
		raw = append(raw, raw[at:]...)
	case "remove":
		if err := os.Remove(path); err != nil {
			r.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		r.Fatal(err)
	}
}

// TestGarbage has things in our folder that are no uploads.
func TestGarbage(t *testing.T) {
	top := t.TempDir()
	b := open(t, top)
	u := begin(t, b, "o")
	long := time.Now().Add(-100 * time.Hour)
	made := func(path string, data string) string {
		t.Helper()
		path = filepath.Join(top, Folder, path)
		for _, err := range []error{os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(data), 0o600), os.Chtimes(path, long, long), os.Chtimes(filepath.Dir(path), long, long)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	const id = "0123456789abcdef0123456789abcde"
	old := []string{made(tempPrefix+"old", "x"), made(id+"0/"+describedIn, "x"), made(id+"1/"+recordsIn, "x")}
	kept := []string{made("notes.txt", "mine"), made(id+"2/"+dataIn, "x"), made("dir/"+dataIn, "x")}
	young := filepath.Join(top, Folder, tempPrefix+"young")
	if err := os.WriteFile(young, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for un, err := range b.Uploads(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, un.Key)
	}
	if len(keys) != 1 || keys[0] != "o" {
		t.Errorf("the uploads are %q", keys)
	}
	// The first write of a process clears up.
	put(t, open(t, top), "p", "x")
	for _, path := range old {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range append(kept, young) {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s is gone: %v", path, err)
		}
	}
	if _, err := u.Parts(t.Context()); err != nil {
		t.Errorf("the upload is gone: %v", err)
	}
}

func FuzzRecords(f *testing.F) {
	one := record{archive.Part{Number: 3, Size: 17, Tag: "d41d8cd98f00b204e9800998ecf8427e"}, 12345}
	f.Add([]byte(one.String() + "\n\n" + record{Part: archive.Part{Number: 3}}.String() + "\n"))
	f.Add([]byte("part 1 2 3 4 5\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, _, err := readRecords(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		for number, r := range all {
			if back, ok := parseRecord(r.String()); !ok || back != r || r.Number != number {
				t.Errorf("%+v is written as %q, and read as %+v", r, r, back)
			}
		}
	})
}

func FuzzDescription(f *testing.F) {
	raw, err := description{Version: descriptionVersion, Key: "a/b", PartSize: 5, Begun: time.Unix(1e9, 0).UTC()}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parseDescription(raw)
		if err == nil && (d.check() != d.Check || d.PartSize < 1) {
			t.Errorf("%q is taken for %+v", raw, d)
		}
	})
}
