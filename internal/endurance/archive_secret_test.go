package endurance

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

// plaintext is in every file of a source that nobody else may read.
const plaintext = "nobody else may read this sentence. "

// secretScene makes a scene of which every block can be told in a request.
func secretScene(t *testing.T) *scene {
	t.Helper()
	s := empty(t)
	live := s.src.Subvolume("live")
	for _, name := range []string{"a0", "a1"} {
		content := append(noise(name[1], 6<<20), strings.Repeat(plaintext, 30_000)...)
		if err := os.WriteFile(filepath.Join(live, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		s.snapshot(live, name)
	}
	return s
}

// leaks fails the test if anything plain of the scene was in a request.
func (w *watch) leaks(t *testing.T) {
	t.Helper()
	for _, r := range w.Requests() {
		for _, mark := range []string{plaintext, "btrfs-stream"} {
			if bytes.Contains(r.Body, []byte(mark)) {
				t.Errorf("%q goes out in a request %s of %s", mark, r.Op, r.Key)
			}
		}
	}
}

// TestArchiveRequiresEncryption: no plain byte goes to an archive that was made
// for encrypted streams only, whatever flags are forgotten. What the source has
// is the public key.
func TestArchiveRequiresEncryption(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	w := watched(t, d)
	w.KeepBodies()
	s := secretScene(t)
	d.run("init", "--require-encryption", d.url).fine()
	before := len(d.bucket.keys())
	for _, flags := range [][]string{nil, {"--compress=zstd"}} {
		if code := s.store(d, flags...).wait(); code == done {
			t.Error("it stores what is plain")
		}
	}
	w.leaks(t)
	if keys := append(d.bucket.keys(), d.bucket.unfinished()...); len(keys) != before {
		t.Errorf("these were made: %q", keys)
	}

	key := newAgeKey(t)
	d.sealed(key)
	away := key.file + ".elsewhere"
	if err := os.Rename(key.file, away); err != nil {
		t.Fatal(err)
	}
	s.store(d).fine()
	w.leaks(t)
	for _, o := range d.sound(s) {
		if o.form != ".zst.age" {
			t.Errorf("%s is not sealed", o)
		}
	}

	// Without the key, and with another one, nothing can be restored, and nothing
	// is left of the try.
	d.read = nil
	s.restore(d).unsuccessful("--identity")
	s.clean()
	d.read = []string{"--identity=" + newAgeKey(t).file}
	s.restore(d).unsuccessful("key")
	s.clean()
	d.read = []string{"--identity=" + away}
	s.restore(d).fine()
	s.complete()
}

// TestArchiveDirectoryRequiresEncryption does so with a directory: nothing plain
// comes to the disk, not for a moment.
func TestArchiveDirectoryRequiresEncryption(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := &depot{t: t, url: "dir://" + root + "/", bucket: dirBucket{t, root}, write: []string{"--part-size=5"}}
	d.run("init", "--require-encryption", d.url).fine()
	s := secretScene(t)
	if code := s.store(d).wait(); code == done {
		t.Error("it stores what is plain")
	}
	if keys := append(d.bucket.keys(), d.bucket.unfinished()...); len(keys) != 1 {
		t.Errorf("these were made: %q", keys)
	}
	d.sealed(newAgeKey(t))
	s.store(d).fine()
	d.sound(s)
	s.restore(d).fine()
	s.complete()
}
