package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// testEnv is an Env whose output goes into buffers.
func testEnv(t *testing.T, name string) (env *Env, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &Env{
		Args0: name, Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr,
		Width:      func() int { return 0 },
		Getenv:     func(string) string { return "" },
		Now:        time.Now,
		Interrupts: context.WithCancel,
		KeepAwake:  func(context.Context, string, *slog.Logger) func() { return func() {} },
	}, stdout, stderr
}

// checksumdir runs the command in a directory of its own, and returns that.
func checksumdir(t *testing.T, wantCode int, dirs ...string) (out, stderr string) {
	t.Helper()
	out = t.TempDir()
	t.Chdir(out)
	env, _, errs := testEnv(t, "checksumdir")
	if code := Main(dirs, env); code != wantCode {
		t.Fatalf("exit code %d, want %d; standard error:\n%s", code, wantCode, errs)
	}
	return out, errs.String()
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shell runs what people would type, with the standard tools.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return string(out)
}

// oddTree makes a tree of names and modes that are easy to get wrong.
func oddTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The order of these is where a walk and a sort disagree most easily.
	for _, d := range []string{"a", "a-b", "a/b", "deep/er/still", ".hidden", "with space", "back\\slash", "\xff\xfe"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{
		"a.c", "a/z", "a/b/c", "a0", "A", "deep/er/still/x", ".hidden/y", "with space/ z ", "  lead",
		"back\\slash/in", "back\\slash.txt", "carriage\rreturn", "tab\there", "esc\x1b[2Jape", "\xff\xfe/\x80", "naïve", "日本", "-n", "*", "'\"$(x)",
	} {
		must(os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644))
	}
	must(os.Symlink("a/z", filepath.Join(dir, "link")))
	must(os.Symlink("a", filepath.Join(dir, "link to a directory")))
	must(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(os.Link(filepath.Join(dir, "a/z"), filepath.Join(dir, "hard")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for name, mode := range map[string]os.FileMode{
		"s": 0o755 | os.ModeSetuid, "S": 0o644 | os.ModeSetuid, "g": 0o755 | os.ModeSetgid, "G": 0o604 | os.ModeSetgid,
		"t": 0o777 | os.ModeSticky, "T": 0o770 | os.ModeSticky, "none": 0,
	} {
		if mode == 0 && os.Geteuid() != 0 {
			continue // not even sha256sum could read it
		}
		must(os.WriteFile(filepath.Join(dir, "mode-"+name), nil, 0o600))
		must(os.Chmod(filepath.Join(dir, "mode-"+name), mode))
	}
	for name, at := range map[string]time.Time{
		"old": time.Unix(-1234567890, 123456789), "epoch": time.Unix(0, 0), "late": time.Date(2106, 2, 7, 6, 28, 16, 5, time.UTC),
	} {
		must(os.WriteFile(filepath.Join(dir, "time-"+name), nil, 0o600))
		must(os.Chtimes(filepath.Join(dir, "time-"+name), at, at))
	}
	if os.Geteuid() == 0 {
		must(os.Chown(filepath.Join(dir, "A"), 12345, 1234567))
		must(syscall.Mknod(filepath.Join(dir, "null"), syscall.S_IFCHR|0o666, 1<<8|3))
	}
	return dir
}

// The format of the three files is what ButterSink's users have kept for years;
// they compare old ones with new ones.
func TestChecksumdirAgreesWithTheTools(t *testing.T) {
	dir := oddTree(t)
	out, _ := checksumdir(t, 0, dir)

	wantLS := shell(t, dir, `find . -not -path . -printf '%M %n %4U %4G %TY-%Tm-%Td %TT %P\n' | sort --key 7`)
	if diff := cmp.Diff(strings.Split(wantLS, "\n"), strings.Split(readFile(t, out, "tree.ls"), "\n")); diff != "" {
		t.Errorf("tree.ls (-tools +checksumdir):\n%s", diff)
	}

	// With a line end in a name, find's lines are broken, but sha256sum's are not.
	if err := os.WriteFile(filepath.Join(dir, "line\nend\\"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ = checksumdir(t, 0, dir)
	wantFiles := shell(t, dir, `find . -type f -print0 | sort -z | xargs -0 sha256sum | sort --key 2`)
	if diff := cmp.Diff(strings.Split(wantFiles, "\n"), strings.Split(readFile(t, out, "tree.files"), "\n")); diff != "" {
		t.Errorf("tree.files (-tools +checksumdir):\n%s", diff)
	}
	if ls := readFile(t, out, "tree.ls"); !strings.Contains(ls, `line\nend\\`) || strings.Contains(ls, "line\nend") {
		t.Errorf("the name with a line end is not escaped in tree.ls:\n%s", ls)
	}
	if want := shell(t, out, `sha256sum tree.ls tree.files`); want != readFile(t, out, "tree.sha256sum") {
		t.Errorf("tree.sha256sum:\n%s\nwant:\n%s", readFile(t, out, "tree.sha256sum"), want)
	}
	shell(t, dir, "sha256sum --quiet -c "+filepath.Join(out, "tree.files"))
}

func TestChecksumdirOnRandomTrees(t *testing.T) {
	fs := btrfstest.New(t)
	dir := fs.Subvolume("live")
	tree := btrfstest.NewTree(t, dir, 7)
	tree.Fill()
	out, _ := checksumdir(t, 0, dir)
	names := func(s string) []string { return strings.Split(s, "\n") }
	wantFiles := shell(t, dir, `find . -type f -print0 | sort -z | xargs -0 sha256sum | sort --key 2`)
	if diff := cmp.Diff(names(wantFiles), names(readFile(t, out, "live.files"))); diff != "" {
		t.Errorf("live.files (-tools +checksumdir):\n%s", diff)
	}
	wantLS := shell(t, dir, `find . -not -path . -not -name '*
*' -printf '%M %n %4U %4G %TY-%Tm-%Td %TT %P\n' | sort --key 7`)
	var plain []string
	for _, line := range names(readFile(t, out, "live.ls")) {
		if !strings.HasPrefix(line, `\`) {
			plain = append(plain, line)
		}
	}
	if diff := cmp.Diff(names(wantLS), plain); diff != "" {
		t.Errorf("live.ls (-tools +checksumdir):\n%s", diff)
	}

	// A snapshot holds the same, whatever it is called.
	snap := fs.Snapshot("live", "snap", true)
	again, _ := checksumdir(t, 0, snap)
	for _, suffix := range []string{".ls", ".files"} {
		if readFile(t, out, "live"+suffix) != readFile(t, again, "snap"+suffix) {
			t.Errorf("%s differs between a subvolume and its snapshot", suffix)
		}
	}
}

// Whether something is mounted does not change a directory, so a mount point
// has no line of its own; what is mounted there is part of the tree.
func TestChecksumdirLeavesOutMountPoints(t *testing.T) {
	fs := btrfstest.New(t)
	dir := fs.Path("dir")
	point := filepath.Join(dir, "mount point")
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", point, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(point, 0); err != nil {
			t.Error(err)
		}
	})
	for _, f := range []string{filepath.Join(dir, "below"), filepath.Join(point, "inside")} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := checksumdir(t, 0, dir)
	var paths []string
	for line := range strings.Lines(readFile(t, out, "dir.ls")) {
		path := line[strings.LastIndex(line, ".")+len(".0123456789 "):]
		paths = append(paths, strings.TrimSuffix(path, "\n"))
	}
	if diff := cmp.Diff([]string{"below", "mount point/inside"}, paths); diff != "" {
		t.Errorf("entries (-want +got):\n%s\n%s", diff, readFile(t, out, "dir.ls"))
	}
}

func TestChecksumdirRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/same", "b/same", "a/same2"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"no arguments", "name at least one directory", nil},
		{"missing", "no such file or directory", []string{dir + "/missing"}},
		{"not a directory", "is not a directory", []string{file}},
		{"same names", "would both write same.ls", []string{dir + "/a/same", dir + "/b/same/"}},
		{"the root", "Can't output results into /. Please run from a different directory.\n", []string{"/"}},
		{"the current directory", "Can't output results into", []string{"."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr := checksumdir(t, 1, c.args...)
			if !strings.HasPrefix(stderr, "ERROR: ") || !strings.Contains(stderr, c.want) {
				t.Errorf("standard error %q, want %q in it", stderr, c.want)
			}
			if left, _ := os.ReadDir(out); len(left) > 0 {
				t.Errorf("it left %v behind", left)
			}
		})
	}
	t.Run("a directory above", func(t *testing.T) {
		t.Chdir(filepath.Join(dir, "a/same"))
		env, _, _ := testEnv(t, "checksumdir")
		if code := Main([]string{dir}, env); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
	})
	t.Run("a name that only begins the same", func(t *testing.T) {
		t.Chdir(filepath.Join(dir, "a/same2"))
		env, _, stderr := testEnv(t, "checksumdir")
		if code := Main([]string{"../same"}, env); code != 0 {
			t.Errorf("exit code %d, want 0: %s", code, stderr)
		}
	})
}

// A tree that cannot be read to its end leaves nothing that looks like its sum,
// and an older sum as it was.
func TestChecksumdirIsWholeOrNotAtAll(t *testing.T) {
	dir := oddTree(t)
	out := t.TempDir()
	t.Chdir(out)
	for _, name := range []string{"tree.ls", "tree.files", "tree.sha256sum"} {
		if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env, _, stderr := testEnv(t, "checksumdir")
	ctx, cancel := context.WithCancelCause(context.Background())
	env.Interrupts = func(context.Context) (context.Context, context.CancelFunc) {
		return &cancelLater{Context: ctx, cancel: func() { cancel(&interruptedError{syscall.SIGINT}) }, calls: 10}, func() {}
	}
	if code := Main([]string{dir}, env); code != exitInterrupted {
		t.Fatalf("exit code %d, want %d; %s", code, exitInterrupted, stderr)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if readFile(t, out, e.Name()) != "old" {
			t.Errorf("%s was written", e.Name())
		}
	}
	if len(entries) != 3 {
		t.Errorf("%d files are there, want the 3 old ones", len(entries))
	}
}

// cancelLater is a context that ends when it has been asked often enough.
type cancelLater struct {
	context.Context
	cancel func()
	calls  int
}

func (c *cancelLater) Err() error {
	if c.calls--; c.calls == 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// A file that turns into a fifo between two looks must not make it wait.
func TestSumOfAReplacedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Lstat("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = entry{path: "f", name: "f", dir: root, info: info}.sum(t.Context(), make([]byte, 10), nil)
	if !errors.Is(err, errReplaced) {
		t.Errorf("error %v, want %v", err, errReplaced)
	}
}
