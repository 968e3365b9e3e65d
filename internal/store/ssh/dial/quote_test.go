package dial

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// hostile are words that one shell or another, or ssh, takes for something else.
var hostile = []string{
	"", " ", "a b", "  a  ", "\t", "a\nb", "\n", "'", "''", "a'b", `"`, `\`, `a\`, `\'`, `'\''`, `\\`, `$HOME`, "$(id)", "`id`", "${x}",
	"*", "?", "[a]", "{a,b}", "~", "~root", "a~", "!", "!!", "#", "#a", "a#b", "&", "&&", "|", ";", "a;b", "(", ")", "<", ">", ">x", "=", "=ls", "A=b",
	"%", "%1", "^", "-", "--", "-n", "-oProxyCommand=id", "--mode", "é", "ä ö", "日本", "\xff", "a\xffb", "\x01", "\x1b[31m", "\x7f", "\r", "\v",
	"/mnt/b/with space/", ":", "@", ",", "+", "if", "exec", "alias", "0", "1", "2>&1", "a:b", "\u00a0", "\u2028",
}

// shells are the shells that login shells may be, by name.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, words := range map[string][]string{
		"dash": {"dash"}, "bash": {"bash"}, "ash": {"busybox", "ash"}, "posix bash": {"bash", "--posix"}, "fish": {"fish"}, "zsh": {"zsh"}, "ksh": {"ksh"},
	} {
		if _, err := exec.LookPath(words[0]); err == nil {
			found[name] = words
		}
	}
	if len(found) == 0 {
		t.Fatal("there is no shell")
	}
	return found
}

// through has a shell write words, each before a NUL.
func through(t testing.TB, shell []string, words []string) []string {
	t.Helper()
	command, err := line(append([]string{"printf", `%s\0`}, words...))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", command)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q through %s: %v", command, shell, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func TestQuoteThroughShells(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(hostile, through(t, shell, hostile)); diff != "" {
				t.Errorf("what was said and what arrived:\n%s", diff)
			}
		})
	}
}

func TestQuoteAnyWord(t *testing.T) {
	word := rapid.OneOf(
		rapid.SampledFrom(hostile),
		rapid.StringOfN(rapid.RuneFrom([]rune(`ab '"\$!*~-=#`+"\n`")), 0, 12, -1),
		rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 20), func(b []byte) string { return string(b) }),
	)
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				words := rapid.SliceOfN(word, 1, 40).Draw(t, "words")
				got := strings.Split(strings.TrimSuffix(runLine(t, shell, words), "\x00"), "\x00")
				if diff := cmp.Diff(words, got); diff != "" {
					t.Fatalf("what was said and what arrived:\n%s", diff)
				}
			})
		})
	}
}

// runLine is through for rapid's T.
func runLine(t *rapid.T, shell []string, words []string) string {
	command, err := line(append([]string{"printf", `%s\0`}, words...))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", command)...).Output()
	if err != nil {
		t.Fatalf("%q through %s: %v", command, shell, err)
	}
	return string(out)
}

// TestQuoteLeavesAlone holds that the lines that people have in sudoers and
// authorized_keys are what arrives.
func TestQuoteLeavesAlone(t *testing.T) {
	for want, words := range map[string][]string{
		"buttersink --server --mode a /mnt/b/":               {"buttersink", "--server", "--mode", "a", "/mnt/b/"},
		"btrfs receive /mnt/b":                               {"btrfs", "receive", "/mnt/b"},
		"btrfs send -p /m/root20261120-231455 /m/x@1:2":      {"btrfs", "send", "-p", "/m/root20261120-231455", "/m/x@1:2"},
		"btrfs subvolume delete /m/a '/m/b c' '/m/it'\\''s'": {"btrfs", "subvolume", "delete", "/m/a", "/m/b c", "/m/it's"},
		"'-x' -y":                    {"-x", "-y"},
		"'A=b' ''":                   {"A=b", ""},
		`buttersink 'back'\\'slash'`: {"buttersink", `back\slash`},
	} {
		got, err := line(words)
		if err != nil || got != want {
			t.Errorf("%q becomes %s (%v), want %s", words, got, err, want)
		}
	}
	for _, words := range [][]string{nil, {"a\x00b"}} {
		if got, err := line(words); err == nil {
			t.Errorf("%q becomes %q", words, got)
		}
	}
}
