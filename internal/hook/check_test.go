package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheck has programs that are all right and such that are not; DIR stands for
// the directory that each case has for itself.
func TestCheck(t *testing.T) {
	program := func(t *testing.T, name string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		chmod(t, name, mode)
	}
	link := func(t *testing.T, target, name string) {
		t.Helper()
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		make  func(t *testing.T, dir string)
		check string // DIR/program if empty
		want  string // all of it; nothing if that is all right
	}{
		{name: "all right", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o755) }},
		{name: "only for us", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o700) }},
		{name: "in a directory for all", make: func(t *testing.T, dir string) {
			program(t, dir+"/shared/program", 0o755)
			chmod(t, dir+"/shared", 0o777|os.ModeSticky)
		}, check: "DIR/shared/program"},
		{name: "over links", make: func(t *testing.T, dir string) {
			program(t, dir+"/real/bin/thing", 0o755)
			link(t, "real", dir+"/alias")
			link(t, "../alias/bin/../bin/thing", dir+"/real/next")
			link(t, dir+"/alias/next", dir+"/program")
		}},
		{name: "a system's", make: func(*testing.T, string) {}, check: "/bin/sh"},
		{name: "nothing", make: func(*testing.T, string) {}, check: "-", want: "it names no program: want its full path, and its arguments"},
		{name: "relative", make: func(*testing.T, string) {}, check: "bin/program", want: "bin/program is no full path: want one that begins with /"},
		{name: "a NUL byte", make: func(*testing.T, string) {}, check: "/bin/a\x00b", want: `"/bin/a\x00b" has a NUL byte in it`},
		{name: "missing", make: func(*testing.T, string) {}, want: "DIR/program is not there: install it, or correct its path"},
		{name: "missing with its directory", make: func(*testing.T, string) {}, check: "DIR/no/program", want: "DIR/no/program is not there, since DIR/no is not: install it, or correct its path"},
		{
			name: "a broken link", make: func(t *testing.T, dir string) { link(t, "elsewhere", dir+"/program") },
			want: "DIR/program is not there, since DIR/elsewhere is not: install it, or correct its path",
		},
		{name: "a link to itself", make: func(t *testing.T, dir string) { link(t, "program", dir+"/program") }, want: "DIR/program leads over too many symbolic links"},
		{name: "a directory", make: func(t *testing.T, dir string) { program(t, dir+"/program/x", 0o755) }, want: "DIR/program is no file that can be run"},
		{name: "below a file", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o755) }, check: "DIR/program/x", want: "DIR/program is no directory"},
		{name: "a pipe", make: func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(dir+"/program", 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: "DIR/program is no file that can be run"},
		{name: "not executable", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o644) }, want: "DIR/program cannot be executed: chmod +x it"},
		{
			name: "its group may write", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o775) },
			want: "DIR/program can be written to by its group, who can change what is run: chmod go-w it",
		},
		{
			name: "others may write", make: func(t *testing.T, dir string) { program(t, dir+"/program", 0o757) },
			want: "DIR/program can be written to by others, who can change what is run: chmod go-w it",
		},
		{
			name: "all may write where it is", make: func(t *testing.T, dir string) {
				program(t, dir+"/open/bin/program", 0o755)
				chmod(t, dir+"/open", 0o777)
			},
			check: "DIR/open/bin/program",
			want:  "DIR/open can be written to by its group and others, who can change what is run: chmod go-w it",
		},
		{
			name: "all may write where a link leads", make: func(t *testing.T, dir string) {
				program(t, dir+"/open/thing", 0o755)
				chmod(t, dir+"/open", 0o777)
				link(t, "open/thing", dir+"/program")
			},
			want: "DIR/open can be written to by its group and others, who can change what is run: chmod go-w it",
		},
		{
			name: "all may write where a link is", make: func(t *testing.T, dir string) {
				program(t, dir+"/thing", 0o755)
				if err := os.Mkdir(dir+"/open", 0o700); err != nil {
					t.Fatal(err)
				}
				chmod(t, dir+"/open", 0o777)
				link(t, "../thing", dir+"/open/program")
			},
			check: "DIR/open/program",
			want:  "DIR/open can be written to by its group and others, who can change what is run: chmod go-w it",
		},
		{name: "somebody's", make: func(t *testing.T, dir string) {
			program(t, dir+"/program", 0o755)
			give(t, dir+"/program")
		}, want: "DIR/program belongs to user 12345, who can change what is run: chown it to root"},
		{name: "in somebody's directory", make: func(t *testing.T, dir string) {
			program(t, dir+"/theirs/program", 0o755)
			give(t, dir+"/theirs")
		}, check: "DIR/theirs/program", want: "DIR/theirs belongs to user 12345, who can change what is run: chown it to root"},
		{name: "somebody's link among all", make: func(t *testing.T, dir string) {
			program(t, dir+"/thing", 0o755)
			program(t, dir+"/shared/other", 0o755)
			chmod(t, dir+"/shared", 0o777|os.ModeSticky)
			link(t, "../thing", dir+"/shared/program")
			give(t, dir+"/shared/program")
		}, check: "DIR/shared/program", want: "DIR/shared/program belongs to user 12345, who can change what is run: chown it to root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := place(t)
			c.make(t, dir)
			argv := []string{strings.ReplaceAll(c.check, "DIR", dir), "an argument"}
			switch c.check {
			case "":
				argv[0] = dir + "/program"
			case "-":
				argv = nil
			}
			got := ""
			if err := Check(argv); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			}
			if got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if c.want == "" || c.check == "-" {
				return
			}
			if err := Run(t.Context(), Program{Argv: argv}); err == nil || !strings.Contains(err.Error(), "running a program: ") {
				t.Errorf("and it is run: %v", err)
			}
		})
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// give gives a file to somebody else, as only root can.
func give(t *testing.T, name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("BUTTERSINK_TEST_REAL") != "" {
			t.Fatal("only root can give files away")
		}
		t.Skip("only root can give files away")
	}
	if err := os.Lchown(name, 12345, 12345); err != nil {
		t.Fatal(fmt.Errorf("giving %s away: %w", name, err))
	}
}
