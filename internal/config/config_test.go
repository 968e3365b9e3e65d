package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/config"
)

// tree writes files below a new directory, and makes it the working directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return dir
}

func TestArguments(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		args  []string
		want  []string
	}{
		"no files": {
			args: []string{"backup", "-N", "3", "/home", "", "a@b"},
			want: []string{"backup", "-N", "3", "/home", "", "a@b"},
		},
		"as users write them": {
			files: map[string]string{
				"a.conf":     "# c\n@sub/b.conf\n-p   my prefix with  spaces\n/source with space\n",
				"sub/b.conf": "  -N\t7  \n\n   # not this\n@../c.conf\nshell://cat > \"a b\"\n",
				"c.conf":     "-v debug",
			},
			args: []string{"-q", "@a.conf", "/bk"},
			want: []string{
				"-q", "-N", "7", "-v", "debug", `shell://cat > "a b"`,
				"-p", "my prefix with  spaces", "/source with space", "/bk",
			},
		},
		"no comments at the end": {
			files: map[string]string{"f": "-S # x\n"},
			args:  []string{"@f"},
			want:  []string{"-S", "# x"},
		},
		"a value after an equals sign is split like any": {
			files: map[string]string{"f": "--opt=a b\n--opt a=b\n"},
			args:  []string{"@f"},
			want:  []string{"--opt=a", "b", "--opt", "a=b"},
		},
		"blanks before an option do not make it an argument": {
			files: map[string]string{"f": "\t-S\n \t \n\u00a0-T\u3000\n\x1f-p\x1f x\n"},
			args:  []string{"@f"},
			want:  []string{"-S", "-T", "-p", "x"},
		},
		"a value may name a file, beside the one that it is in": {
			files: map[string]string{"d/f": "-p @g\n", "d/g": "one\ntwo\n"},
			args:  []string{"@d/f"},
			want:  []string{"-p", "one", "two"},
		},
		"after two dashes, too": {
			files: map[string]string{"f": "x"},
			args:  []string{"--", "@f"},
			want:  []string{"--", "x"},
		},
		"the same file twice, side by side": {
			files: map[string]string{"f": "@g\n@g\n", "g": "x"},
			args:  []string{"@f", "@f"},
			want:  []string{"x", "x", "x", "x"},
		},
		"an empty file": {
			files: map[string]string{"f": ""},
			args:  []string{"a", "@f", "b"},
			want:  []string{"a", "b"},
		},
		"ends of lines": {
			files: map[string]string{"f": "a\r\nb\rc\u2028d\u0085e\x0cf"},
			args:  []string{"@f"},
			want:  []string{"a", "b", "c", "d", "e", "f"},
		},
		"names that are not UTF-8": {
			files: map[string]string{"f": "/caf\xe9\x85 x\n"},
			args:  []string{"@f"},
			want:  []string{"/caf\xe9\x85 x"},
		},
		"an at sign in the middle": {
			files: map[string]string{"f": "ssh://me@host/bk\n-p a@b\n"},
			args:  []string{"@f", "root@host"},
			want:  []string{"ssh://me@host/bk", "-p", "a@b", "root@host"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree(t, c.files)
			got, err := config.Arguments(c.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAbsoluteNames(t *testing.T) {
	dir := tree(t, map[string]string{"sub/g": "x"})
	if err := os.WriteFile("f", []byte("@"+dir+"/sub/../sub/g\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := config.Arguments([]string{"@" + dir + "/f"})
	if diff := cmp.Diff([]string{"x"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestPipe reads what the shell makes of <(command).
func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("-N 3\n/home\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got, err := config.Arguments([]string{fmt.Sprintf("@/proc/self/fd/%d", r.Fd())})
	if diff := cmp.Diff([]string{"-N", "3", "/home"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestLoops(t *testing.T) {
	tree(t, map[string]string{
		"start": "@d/a\n",
		"d/a":   "-S\n@b\n",
		"d/b":   "@../d/../d/a",
		"self":  "@self",
	})
	if err := os.Symlink("self", "other"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("through", []byte("@link"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("through", "link"); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string][]string{
		"@start":   {"d/a", "d/b", "d/a"},
		"@self":    {"self", "self"},
		"@other":   {"other", "self"},
		"@through": {"through", "link"},
	} {
		_, err := config.Arguments([]string{"x", arg})
		if err == nil || !strings.Contains(err.Error(), " in a loop: "+strings.Join(want, " -> ")+"; ") {
			t.Errorf("%s: got %v, want %q", arg, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	tree(t, map[string]string{
		"names":  "-S\n@missing.conf\n",
		"alone":  "@\n",
		"d/f":    "x",
		"binary": "a\x00b",
		"long":   strings.Repeat("x", 1<<20+1),
		"many":   strings.Repeat("x\n", 100_001),
		"bomb":   strings.Repeat("@empty\n", 1001),
		"empty":  "",
	})
	for arg, want := range map[string]string{
		"@missing": "reading the argument file missing: no such file or directory",
		"@names":   "reading the argument file missing.conf, which names names: no such file or directory",
		"@":        `there is no name after "@"`,
		"@alone":   "reading the argument file ., which alone names: is a directory",
		"@d":       "reading the argument file d: is a directory",
		"@binary":  "reading the argument file binary: it is not text",
		"@long":    "reading the argument file long: it is longer than 1048576 bytes",
		"@many":    "more than 100000 arguments",
		"@bomb":    "more than 1000 of them",
	} {
		args, err := config.Arguments([]string{arg})
		if err == nil || args != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", arg, err, want)
		}
	}
}

// TestGrowth: files that name each other twice would be a million arguments.
func TestGrowth(t *testing.T) {
	files := map[string]string{"f20": "x"}
	for i := range 20 {
		next := fmt.Sprintf("@f%d\n", i+1)
		files[fmt.Sprintf("f%d", i)] = next + next
	}
	tree(t, files)
	if _, err := config.Arguments([]string{"@f0"}); err == nil {
		t.Error("it was read")
	}
}
