package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestParseSSH: another machine is named as ssh and scp users expect it, and the
// path is taken as it was typed.
func TestParseSSH(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        place
	}{
		{"ssh://h/a/b/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/a/b"}},
		{"ssh://h/a/b", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/a", name: "b"}},
		{"ssh://h/a/b", true, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/a/b"}},
		{"ssh://h/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/"}},
		{"ssh://h/b", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/", name: "b"}},
		{"ssh://h//a/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/a"}},
		{"ssh://h/a/../b/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/b"}},
		{"ssh://me@backup.example.org:2222/mnt/b/", true, place{scheme: "ssh", machine: machine{"me", "backup.example.org", 2222}, dir: "/mnt/b"}},
		{"ssh://DOMAIN\\me@h/a/", true, place{scheme: "ssh", machine: machine{user: "DOMAIN\\me", host: "h"}, dir: "/a"}},
		{"ssh://me@here@h/a/", true, place{scheme: "ssh", machine: machine{user: "me@here", host: "h"}, dir: "/a"}},
		{"ssh://192.168.0.1:22/a/", true, place{scheme: "ssh", machine: machine{host: "192.168.0.1", port: 22}, dir: "/a"}},
		{"ssh://[::1]/a/", true, place{scheme: "ssh", machine: machine{host: "::1"}, dir: "/a"}},
		{"ssh://me@[fe80::1%eth0]:2222/a/", true, place{scheme: "ssh", machine: machine{"me", "fe80::1%eth0", 2222}, dir: "/a"}},
		{"ssh://my_alias/a/", true, place{scheme: "ssh", machine: machine{host: "my_alias"}, dir: "/a"}},
		{"ssh+btrfs://h/a/b", false, place{scheme: "ssh+btrfs", machine: machine{host: "h"}, dir: "/a", name: "b"}},
		// Spaces, question marks and what looks escaped are part of the path.
		{"ssh://h/my snaps/%20?a=b'\"$x/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/my snaps/%20?a=b'\"$x"}},
		{"ssh://h/näme\n/", false, place{scheme: "ssh", machine: machine{host: "h"}, dir: "/näme\n"}},

		{"shell://cat >/x/$BUTTERSINK_NAME", true, place{scheme: "shell", command: "cat >/x/$BUTTERSINK_NAME"}},
		{"shell://ssh h 'cat >/x://y'", true, place{scheme: "shell", command: "ssh h 'cat >/x://y'"}},
	} {
		tt.want.arg = tt.arg
		got, err := parsePlace(tt.arg, tt.destination)
		if err != nil {
			t.Errorf("%q: %v", tt.arg, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(place{}, machine{})); diff != "" {
			t.Errorf("%q:\n%s", tt.arg, diff)
		}
	}
}

// TestParseSSHRefuses: what ssh, or a shell in its configuration, could take for
// something else than a name never reaches it.
func TestParseSSHRefuses(t *testing.T) {
	for arg, want := range map[string]string{
		"ssh://":                     "names no machine",
		"ssh:///a/":                  "names no machine",
		"ssh://me@/a/":               "names no machine",
		"ssh://h":                    "names no directory: want its full path there, as in ssh://h/mnt/snaps/",
		"ssh+btrfs://me@h:22":        "as in ssh+btrfs://me@h:22/mnt/snaps/",
		"ssh://@h/a/":                "empty user name",
		"ssh://u:pw@h/a/":            "a password does not belong",
		"ssh://-oProxyCommand=x/a/":  "is no name of a machine",
		"ssh://-l@h/a/":              "the user name",
		"ssh://a b@h/a/":             "the user name",
		"ssh://`id`@h/a/":            "the user name",
		"ssh://h;id/a/":              "is no name of a machine",
		"ssh://$(id)/a/":             "is no name of a machine",
		"ssh://h h/a/":               "is no name of a machine",
		"ssh://./a/":                 "is no name of a machine",
		"ssh://h:/a/":                "want a number as the port",
		"ssh://h:0/a/":               "is no port",
		"ssh://h:65536/a/":           "is no port",
		"ssh://h:+1/a/":              "want a number as the port",
		"ssh://h:ssh/a/":             "want a number as the port",
		"ssh://::1/a/":               "in brackets",
		"ssh://fe80::1:22/a/":        "in brackets",
		"ssh://[::1/a/":              "']' is missing",
		"ssh://[::1]22/a/":           "want nothing or a port",
		"ssh://[h]/a/":               "is no IPv6 address",
		"ssh://[1.2.3.4]/a/":         "is no IPv6 address",
		"ssh://[fe80::1%eth0;id]/a/": "is no name of a machine",
		"ssh://h/a\x00b/":            "NUL",
		"shell://":                   "names no command",
		"shell:// \t":                "names no command",
		"scp://h/a/":                 `unknown scheme "scp"`,
	} {
		_, err := parsePlace(arg, true)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", arg, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the password is shown: %v", arg, err)
		}
	}
}

// TestSplitWords: a command line is cut as a POSIX shell cuts it.
func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"ssh":                        {"ssh"},
		"  ssh -F  conf\t-v\n":       {"ssh", "-F", "conf", "-v"},
		`ssh -F 'my conf' "a b"c\ d`: {"ssh", "-F", "my conf", "a bc d"},
		`a '' ""`:                    {"a", "", ""},
		`"\$x\y\"\\" '\n'`:           {`$x\y"\`, `\n`},
		"a\\\nb \"c\\\nd\"":          {"ab", "cd"},
		"$HOME *;|":                  {"$HOME", "*;|"},
		"":                           nil,
	} {
		got, err := splitWords(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`'`, `"`, `a "b\"`, `a\`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// TestSplitWordsUndoesQuoting: words that are quoted for a shell come back.
func TestSplitWordsUndoesQuoting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "words")
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, shellWord(w))
		}
		got, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(got, words) {
			t.Fatalf("%q became %q, %v", words, got, err)
		}
	})
}

// TestSSHFlags: values that mean nothing are refused where they are typed.
func TestSSHFlags(t *testing.T) {
	var sudo sudoFlag
	var command wordsFlag
	var rate rateFlag
	var wire wireFlag
	for _, good := range []struct {
		flag  interface{ Set(string) error }
		value string
	}{
		{&sudo, "auto"},
		{&sudo, "always"},
		{&sudo, "never"},
		{&command, "ssh -v"},
		{&rate, "20MiB/s"},
		{&rate, "500K"},
		{&rate, "1.5 MB/s"},
		{&wire, "auto"},
		{&wire, "never"},
	} {
		if err := good.flag.Set(good.value); err != nil {
			t.Errorf("%T %q: %v", good.flag, good.value, err)
		}
	}
	if rate.bytes != 1_500_000 || rate.given != "1.5 MB/s" {
		t.Errorf("the rate: %+v", rate)
	}
	for _, bad := range []struct {
		flag  interface{ Set(string) error }
		value string
	}{
		{&sudo, ""},
		{&sudo, "yes"},
		{&command, ""},
		{&command, "'"},
		{&command, "'' x"},
		{&rate, ""},
		{&rate, "fast"},
		{&rate, "20M/h"},
		{&rate, "/s"},
		{&rate, "0"},
		{&rate, "1023"},
		{&wire, "always"},
	} {
		if err := bad.flag.Set(bad.value); err == nil {
			t.Errorf("%T takes %q", bad.flag, bad.value)
		}
	}
}

// TestSSHFit: a flag about other machines that has no effect is refused.
func TestSSHFit(t *testing.T) {
	const here, there, bare, s3 = "/a/", "ssh://h/b/", "ssh+btrfs://h/b/", "s3://b/p/"
	fits := func(args []string, check func(...place) error) error {
		var places []place
		for _, arg := range args {
			p, err := parsePlace(arg, true)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, p)
		}
		return check(places...)
	}
	for _, tt := range []struct {
		o     sshFlags
		args  []string
		wrong string
	}{
		{sshFlags{}, []string{here, here}, ""},
		{sshFlags{sudo: sudoFlag{sudoNever}, program: "x", options: []string{"A=b"}, command: wordsFlag{text: "ssh"}}, []string{here, there}, ""},
		{sshFlags{sudo: sudoFlag{sudoNever}}, []string{bare, s3}, ""},
		{sshFlags{sudo: sudoFlag{sudoAuto}}, []string{here, s3}, "--ssh-sudo is only for ssh://"},
		{sshFlags{options: []string{"A=b"}}, []string{here}, "--ssh-opt is only for"},
		{sshFlags{command: wordsFlag{text: "ssh"}}, []string{here}, "--ssh-command is only for"},
		{sshFlags{program: "x"}, []string{here}, "--ssh-program is only for"},
		{sshFlags{program: "x"}, []string{here, bare}, "no buttersink is run there"},
		{sshFlags{options: []string{"Port"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"-v=1"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"=1"}}, []string{there}, "want KEY=VALUE"},
		{sshFlags{options: []string{"A=b\nC=d"}}, []string{there}, "want KEY=VALUE"},
	} {
		err := fits(tt.args, func(p ...place) error { return tt.o.fit("buttersink", p...) })
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%+v on %q: %v, want %q", tt.o, tt.args, err, tt.wrong)
		}
	}
	for _, tt := range []struct {
		o     wireFlags
		args  []string
		wrong string
	}{
		{wireFlags{}, []string{here, here}, ""},
		{wireFlags{compression: wireFlag{true}, limit: rateFlag{1, "1"}}, []string{there, here}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{here, s3}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{bare, here}, ""},
		{wireFlags{limit: rateFlag{1, "1"}}, []string{here, here}, "--limit is only for"},
		{wireFlags{compression: wireFlag{true}}, []string{here, bare}, "--wire-compression is only for ssh://"},
	} {
		err := fits(tt.args, func(p ...place) error { return tt.o.fit("buttersink", p...) })
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%+v on %q: %v, want %q", tt.o, tt.args, err, tt.wrong)
		}
	}
}
