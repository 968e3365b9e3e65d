package endurance

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// A depot is an archive as a test sees it: a URL for the program, and its bucket
// to look into and to meddle with, past the program.
type depot struct {
	t      *testing.T
	url    string
	prefix string // of the keys, with a slash behind it, or empty
	env    []string
	bucket bucket
	write  []string // the flags of whoever writes
	read   []string // the flags of whoever reads
}

// A bucket is what an archive is in, looked at with other tools than the
// program's.
type bucket interface {
	keys() []string
	size(key string) int64
	get(key string) []byte
	put(key string, data []byte)
	remove(key string)
	// unfinished returns what uploads there are that are not complete, by their
	// keys where these can be known.
	unfinished() []string
}

// s3Depot makes an empty archive below a prefix in a bucket of its own.
func s3Depot(t *testing.T, server *s3test.Server) *depot {
	t.Helper()
	b := s3Bucket{t, server, server.Bucket(t)}
	return &depot{t: t, url: "s3://" + b.name + "/pre/fix/", prefix: "pre/fix/", env: server.Env(), bucket: b, write: []string{"--part-size=5"}}
}

type s3Bucket struct {
	t      *testing.T
	server *s3test.Server
	name   string
}

func (b s3Bucket) keys() []string              { return b.server.Keys(b.t, b.name) }
func (b s3Bucket) get(key string) []byte       { return b.server.Get(b.t, b.name, key) }
func (b s3Bucket) put(key string, data []byte) { b.server.Put(b.t, b.name, key, data) }
func (b s3Bucket) remove(key string)           { b.server.Delete(b.t, b.name, key) }
func (b s3Bucket) unfinished() []string        { return b.server.Unfinished(b.t, b.name) }
func (b s3Bucket) size(key string) int64 {
	return sizeOf(b.t, filepath.Join(b.server.Dir, b.name, key))
}

// dirDepot makes an empty archive in a directory, which has to be there.
func dirDepot(t *testing.T, path string) *depot {
	t.Helper()
	d := &depot{t: t, url: "dir://" + path + "/", bucket: dirBucket{t, path}, write: []string{"--part-size=5"}}
	d.run("init", d.url).fine()
	return d
}

// tempDepot makes an empty archive in a directory that goes with the test.
func tempDepot(t *testing.T) *depot {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return dirDepot(t, path)
}

type dirBucket struct {
	t    *testing.T
	root string
}

func (b dirBucket) path(key string) string { return filepath.Join(b.root, key) }

// walk tells of every file that is an object, or of every one that is none.
func (b dirBucket) walk(objects bool) []string {
	b.t.Helper()
	var keys []string
	err := filepath.WalkDir(b.root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		key, err := filepath.Rel(b.root, path)
		if hidden := strings.HasPrefix(key, uploadsOfDir); err == nil && hidden != objects {
			keys = append(keys, key)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}

// uploadsOfDir is where an archive in a directory keeps what is not complete.
const uploadsOfDir = ".buttersink-uploads/"

func (b dirBucket) keys() []string        { return b.walk(true) }
func (b dirBucket) size(key string) int64 { return sizeOf(b.t, b.path(key)) }

// unfinished are uploads that have data. What else a run that died has left in
// that folder goes a day later.
func (b dirBucket) unfinished() []string {
	return slices.DeleteFunc(b.walk(false), func(key string) bool { return !strings.HasSuffix(key, "/data") })
}

func (b dirBucket) get(key string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.path(key))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func (b dirBucket) put(key string, data []byte) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(key)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(key), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b dirBucket) remove(key string) {
	b.t.Helper()
	if err := os.Remove(b.path(key)); err != nil {
		b.t.Fatal(err)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// everywhere runs a test for an archive in S3 and for one in a directory, at
// the same time as others.
func everywhere(t *testing.T, test func(*testing.T, *depot)) {
	t.Helper()
	t.Parallel()
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		test(t, s3Depot(t, s3test.Start(t)))
	})
	t.Run("dir", func(t *testing.T) {
		t.Parallel()
		test(t, tempDepot(t))
	})
}

// An ageKey is a pair of keys, the private one in a file.
type ageKey struct{ file, recipient string }

// newAgeKey makes a pair with Debian's own tool.
func newAgeKey(t *testing.T) ageKey {
	t.Helper()
	key := ageKey{file: filepath.Join(t.TempDir(), "key.txt")}
	btrfstest.Program(t, "age")
	if err := tool(btrfstest.Program(t, "age-keygen"), "-o", key.file); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(key.file, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(key.file)
	if err != nil {
		t.Fatal(err)
	}
	key.recipient = regexp.MustCompile(`age1[0-9a-z]+`).FindString(string(text))
	return key
}

// sealed has everything that is written compressed and encrypted from now on.
func (d *depot) sealed(key ageKey) {
	d.write = append(slices.Clone(d.write), "--compress=zstd", "--encrypt=age:"+key.recipient)
	d.read = []string{"--identity=" + key.file}
}

// run runs the program with the archive's environment and a state directory of
// its own.
func (d *depot) run(args ...string) *run {
	d.t.Helper()
	return startWith(d.t, filepath.Join(d.t.TempDir(), "state"), d.env, args...)
}

// fine fails the test unless the run ends well, and returns it.
func (r *run) fine() *run {
	r.t.Helper()
	if code := r.wait(); code != done {
		r.t.Fatalf("%q ends with %d:\n%s", r.cmd.Args[1:], code, r.story())
	}
	return r
}

// store starts a sync of the scene's source to an archive.
func (s *scene) store(d *depot, flags ...string) *run {
	s.t.Helper()
	return s.storeFrom(s.from(), d, flags...)
}

// storeFrom starts a sync of a directory, or of one snapshot, to an archive.
func (s *scene) storeFrom(from string, d *depot, flags ...string) *run {
	s.t.Helper()
	return startWith(s.t, s.state, d.env, slices.Concat([]string{"--json"}, d.write, flags, []string{from, d.url})...)
}

// restore starts a sync of an archive to the scene's destination.
func (s *scene) restore(d *depot, flags ...string) *run {
	s.t.Helper()
	return s.restoreTo(d, "", s.to(), flags...)
}

// restoreTo starts a sync of an archive, or of one snapshot of it, to a
// directory.
func (s *scene) restoreTo(d *depot, name, to string, flags ...string) *run {
	s.t.Helper()
	return startWith(s.t, s.state+"-restoring", d.env, slices.Concat([]string{"--json"}, d.read, flags, []string{d.url + name, to})...)
}

// arrived fails the test unless a subvolume is what another file system's
// snapshot is.
func arrived(t *testing.T, fs *btrfstest.FS, path string, want original) {
	t.Helper()
	if show := fs.Show(fs.Path(path)); show["Received UUID"] != want.uuid || show["Flags"] != "readonly" {
		t.Errorf("%s looks like %v; the original is %s", path, show, want.uuid)
	}
	if btrfstest.Digest(t, fs.Path(path)) != want.digest {
		t.Errorf("%s is not what %s was", path, want.uuid)
	}
}

// object is a stream in a bucket, by its key.
type object struct {
	key, path, to, from, form string
	size                      int64
}

func (o object) String() string { return o.key }

// streamKey is the layout of docs/format.md.
var streamKey = regexp.MustCompile(`^(.+)/([0-9a-f-]{36})_([0-9a-f-]{36}|None)((?:\.zst)?(?:\.age|\.gpg)?)$`)

// objects returns the streams below the prefix, by their keys.
func (d *depot) objects() []object {
	d.t.Helper()
	var all []object
	for _, key := range d.bucket.keys() {
		below, ok := strings.CutPrefix(key, d.prefix)
		if m := streamKey.FindStringSubmatch(below); ok && m != nil && !strings.HasPrefix(key, "trash/") {
			all = append(all, object{key: key, path: m[1], to: m[2], from: m[3], form: m[4], size: d.bucket.size(key)})
		}
	}
	return all
}

// has reports whether there is an object with a key.
func (d *depot) has(key string) bool {
	d.t.Helper()
	return slices.Contains(d.bucket.keys(), key)
}

// description is a manifest, as far as the tests compare it.
type description struct {
	To, From, Path, Key string
	Plain               struct {
		Bytes  int64
		SHA256 string
	}
	Object struct {
		Bytes  int64
		SHA256 string
	}
}

// sound fails the test unless the archive has every wanted snapshot, each edge
// once, with parents that are there, described as they are, and nothing
// unfinished. It returns the streams.
func (d *depot) sound(s *scene) []object {
	d.t.Helper()
	ids, edges, there := map[string]string{}, map[[2]string]string{}, map[string]bool{}
	for name, want := range s.wanted {
		ids[name] = want.uuid
	}
	all := d.objects()
	for _, o := range all {
		there[o.to] = true
		if ids[o.path] != o.to {
			d.t.Errorf("%s is at the path of another snapshot", o)
		}
		if twin := edges[[2]string{o.to, o.from}]; twin != "" {
			d.t.Errorf("%s and %s are the same edge", o, twin)
		}
		edges[[2]string{o.to, o.from}] = o.key
		d.described(o)
	}
	for name, id := range ids {
		if !there[id] {
			d.t.Errorf("%s is not in the archive", name)
		}
	}
	for _, o := range all {
		if o.from != "None" && !there[o.from] {
			d.t.Errorf("the parent of %s is not there", o)
		}
	}
	if left := d.bucket.unfinished(); len(left) > 0 {
		d.t.Errorf("left unfinished: %q", left)
	}
	return all
}

// described fails the test unless an object has a manifest that is true.
func (d *depot) described(o object) {
	d.t.Helper()
	if !d.has(o.key + ".json") {
		d.t.Errorf("%s has no manifest", o)
		return
	}
	var m description
	if err := json.Unmarshal(d.bucket.get(o.key+".json"), &m); err != nil {
		d.t.Errorf("the manifest of %s: %v", o, err)
		return
	}
	data := d.bucket.get(o.key)
	sum := sha256.Sum256(data)
	if m.Object.Bytes != o.size || int64(len(data)) != o.size || m.Object.SHA256 != hex.EncodeToString(sum[:]) {
		d.t.Errorf("%s has %d bytes, and is not what its manifest says: %+v", o, o.size, m)
	}
	if o.form == "" && (m.Plain.Bytes != m.Object.Bytes || m.Plain.SHA256 != m.Object.SHA256) {
		d.t.Errorf("%s is plain, and its manifest says otherwise: %+v", o, m)
	}
}

// pipe runs a shell pipeline that fails if any part of it does.
func pipe(t *testing.T, script string, args ...string) {
	t.Helper()
	bash := btrfstest.Program(t, "bash")
	out, err := exec.Command(bash, append([]string{"-euo", "pipefail", "-c", script, "pipe"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
}

// save writes an object into a file.
func (d *depot) save(key string) string {
	d.t.Helper()
	file := filepath.Join(d.t.TempDir(), fmt.Sprintf("object-%x", sha256.Sum256([]byte(key)))[:20])
	if err := os.WriteFile(file, d.bucket.get(key), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return file
}
