package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// requireShells skips the test where a shell is missing, or fails it where the
// tests have to be complete.
func requireShells(t *testing.T) {
	t.Helper()
	btrfstest.Require(t)
	for _, shell := range completionShells {
		if _, err := exec.LookPath(shell); err != nil {
			if os.Getenv(btrfstest.RealEnv) == "1" {
				t.Fatalf("%v; packaging/deps.sh installs it", err)
			}
			t.Skip(err)
		}
	}
}

// completionScene is a directory with everything that command lines can be about,
// and a program in it that is called buttersink.
func completionScene(t *testing.T) string {
	t.Helper()
	requireShells(t)
	dir := btrfstest.New(t).Dir
	bin := filepath.Join(dir, ".bin")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{
		".bin", ".hidden", "usb/my snaps/one", "usb/my snaps/other", "usb/ünï", "usb/it's \"$5\" `x` \\y",
		"2026:11:20 a=b@c/deep", "snaps", "arch/home",
	} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := `
[stores.usb]
url = "` + dir + `/usb"
[stores.arch]
url = "dir://` + dir + `/arch/"
[stores.nas]
url = "ssh://keeper@nas.invalid/srv/backup/"

[jobs.home]
sources = ["/home"]
  [[jobs.home.destinations]]
  store = "nas"
  path = "machines/home/"
[jobs.mail]
sources = ["/home/mail"]
  [[jobs.mail.destinations]]
  store = "usb"
`
	for name, text := range map[string]string{"config.toml": config, "key.pub": "", "usb/file": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(bin, "buttersink")); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "BUTTERSINK_STATE="+filepath.Join(dir, ".state"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	run("btrfs", "-q", "subvolume", "create", "live")
	run("btrfs", "-q", "subvolume", "snapshot", "-r", "live", "snaps/20261120-010000 (a)")
	run(filepath.Join(bin, "buttersink"), "init", "dir://arch/home/")
	run(filepath.Join(bin, "buttersink"), "-q", "snaps/", "dir://arch/home/")
	run("btrfs", "-q", "subvolume", "snapshot", "live", "snaps/live")
	return dir
}

// typist is a person at a shell on a terminal.
type typist struct {
	*pty
	dir string
}

// sit starts a shell in a directory, and has it read some commands. There is a
// command "words" in it that notes its arguments.
func sit(t *testing.T, dir, commands string, shell ...string) *typist {
	t.Helper()
	p := newPTY(t, 200, 50)
	cmd := exec.Command(shell[0], shell[1:]...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.tty, p.tty, p.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append(os.Environ(), "TERM=dumb", "LC_ALL=C.UTF-8", "HOME="+dir, "PATH="+filepath.Join(dir, ".bin")+":"+os.Getenv("PATH"),
		"BUTTERSINK_CONFIG="+filepath.Join(dir, "config.toml"), "BUTTERSINK_STATE="+filepath.Join(dir, ".state"))
	rc := "PS1='> '\nwords() { printf '%s\\n' \"$@\" > .words.new; mv .words.new .words; }\n"
	if shell[0] == "fish" {
		rc = "function words; printf '%s\\n' $argv > .words.new; mv .words.new .words; end\n"
	}
	rc += commands + "\nwords ready\n"
	if err := os.WriteFile(filepath.Join(dir, ".rc"), []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ty := &typist{p, dir}
	ty.keys(t, ". ./.rc\r")
	if got := ty.words(t); got != "ready" {
		t.Fatalf("%v: the shell says %q", shell, got)
	}
	return ty
}

func (ty *typist) keys(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(ty.keyboard, keys); err != nil {
		t.Fatal(err)
	}
}

// words are the arguments that were noted, with bars between them.
func (ty *typist) words(t *testing.T) string {
	t.Helper()
	name := filepath.Join(ty.dir, ".words")
	for range 1000 {
		text, err := os.ReadFile(name)
		if err == nil {
			os.Remove(name)
			return strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "|")
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nothing was noted; on the terminal is %q", ty.text())
	return ""
}

// completed is what becomes of a line: the words that the program would get.
func (ty *typist) completed(t *testing.T, line string) string {
	t.Helper()
	ty.keys(t, line+"\x01words \r") // Control-A is the beginning of the line
	return ty.words(t)
}

// typedLines are what is typed, a Tab key included, and what the program gets then. A
// bar is between words; after a blank at the end of a line another word begins.
var typedLines = []struct{ typed, want string }{
	{"buttersink expl\tx", "buttersink|explain|x"},
	{"buttersink trash re\tx", "buttersink|trash|restore|x"},
	{"buttersink help exi\tx", "buttersink|help|exit-codes|x"},
	{"buttersink sync --compr\tx", "buttersink|sync|--compress|x"},
	{"buttersink sync --compress=zst\t", "buttersink|sync|--compress=zstd"},
	{"buttersink sync --tier e\tx", "buttersink|sync|--tier|expedited|x"},
	{"buttersink sync --ssh-sudo=ne\tx", "buttersink|sync|--ssh-sudo=never|x"},
	{"buttersink backup -v war\tx", "buttersink|backup|-v|warning|x"},
	{"buttersink backup --source-keep last:3,mo\t6", "buttersink|backup|--source-keep|last:3,monthly:6"},
	{"buttersink sync --encrypt age:ke\tx", "buttersink|sync|--encrypt|age:key.pub|x"},
	{"buttersink sync --identity ke\tx", "buttersink|sync|--identity|key.pub|x"},
	{"buttersink sync --identity=ke\tx", "buttersink|sync|--identity=key.pub|x"},
	{"buttersink completion fi\tx", "buttersink|completion|fish|x"},

	{"buttersink run ma\tho\tx", "buttersink|run|mail|home|x"},
	{"buttersink -c config.toml history ma\tx", "buttersink|-c|config.toml|history|mail|x"},
	{"buttersink systemd install ho\tx", "buttersink|systemd|install|home|x"},
	{"buttersink run \"ma\tx", "buttersink|run|mail|x"},
	{"buttersink run 'ma\tx", "buttersink|run|mail|x"},
	{"buttersink -c no.toml run ma\t", "buttersink|-c|no.toml|run|ma"},

	{"buttersink list sto\tusb\tü\tx", "buttersink|list|store://usb/ünï/x"},
	{"buttersink list store:\tn\tma\tx", "buttersink|list|store://nas/machines/home/x"},
	{"buttersink list store://usb/my\to\t", "buttersink|list|store://usb/my snaps/o"},
	{"buttersink list store://usb/my\\ snaps/on\t", "buttersink|list|store://usb/my snaps/one/"},
	{"buttersink list store://usb/it\tx", "buttersink|list|store://usb/it's \"$5\" `x` \\y/x"},
	{"buttersink list store://usb/fi\tx", "buttersink|list|store://usb/fix"},
	{"buttersink verify store://arch/ho\t2\tx", "buttersink|verify|store://arch/home/20261120-010000 (a)|x"},
	{"buttersink verify dir://arch/home/2\tx", "buttersink|verify|dir://arch/home/20261120-010000 (a)|x"},
	{"buttersink verify sto\tx", "buttersink|verify|store://arch/x"},
	{"buttersink sync store://usb/ arch/\tx", "buttersink|sync|store://usb/|arch/home/x"},

	{"buttersink list us\tmy\tot\tx", "buttersink|list|usb/my snaps/other/x"},
	{"buttersink list 2026\td\tx", "buttersink|list|2026:11:20 a=b@c/deep/x"},
	{"buttersink list dir://2026:1\td\tx", "buttersink|list|dir://2026:11:20 a=b@c/deep/x"},
	{"buttersink list ~/us\tü\tx", ""},
	{"buttersink list .hi\tx", "buttersink|list|.hidden/x"},
	{"buttersink hold snaps/2\tx", "buttersink|hold|snaps/20261120-010000 (a)|x"},
	{"buttersink hold snaps/li\tx", "buttersink|hold|snaps/live/x"},
	{"buttersink list ssh://nas.invalid/sr\t", "buttersink|list|ssh://nas.invalid/sr"},
}

func (ty *typist) test(t *testing.T) {
	for _, l := range typedLines {
		want := l.want
		if want == "" {
			want = "buttersink|list|" + ty.dir + "/usb/ünï/x"
		}
		if got := ty.completed(t, l.typed); got != want {
			t.Errorf("%q: got\n  %s\nwant\n  %s", l.typed, got, want)
		}
	}
}

// TestBash types lines into a real bash, alone and with bash-completion.
func TestBash(t *testing.T) {
	t.Parallel()
	dir := completionScene(t)
	for name, before := range map[string]string{
		"alone":           "",
		"bash-completion": ". /usr/share/bash-completion/bash_completion\n",
	} {
		t.Run(name, func(t *testing.T) {
			ty := sit(t, dir, before+". <(buttersink completion bash)", "bash", "--norc", "--noprofile", "-i")
			ty.test(t)
			if before == "" {
				return
			}
			// The completion of sudo asks for that of the command behind it.
			if got, want := ty.completed(t, "sudo buttersink list store://usb/my\tot\tx"), "sudo|buttersink|list|store://usb/my snaps/other/x"; got != want {
				t.Errorf("behind sudo: got %s, want %s", got, want)
			}
		})
	}
}

// TestZsh types them into a real zsh.
func TestZsh(t *testing.T) {
	t.Parallel()
	dir := completionScene(t)
	const rc = `bindkey -e
autoload -Uz compinit; compinit -D -u
. <(buttersink completion zsh)`
	sit(t, dir, rc, "zsh", "-f", "-i").test(t)
}

// TestFish types them into a real fish.
func TestFish(t *testing.T) {
	t.Parallel()
	dir := completionScene(t)
	sit(t, dir, "buttersink completion fish | source", "fish", "--no-config", "-i").test(t)
}
