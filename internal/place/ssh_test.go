package place

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParseSSH: another machine is named as ssh and scp users expect it, and the
// path is taken as it was typed.
func TestParseSSH(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        Place
	}{
		{"ssh://h/a/b/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/a/b"}},
		{"ssh://h/a/b", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/a", Name: "b"}},
		{"ssh://h/a/b", true, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/a/b"}},
		{"ssh://h/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/"}},
		{"ssh://h/b", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/", Name: "b"}},
		{"ssh://h//a/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/a"}},
		{"ssh://h/a/../b/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/b"}},
		{"ssh://me@backup.example.org:2222/mnt/b/", true, Place{Scheme: "ssh", Machine: Machine{"me", "backup.example.org", 2222}, Dir: "/mnt/b"}},
		{"ssh://DOMAIN\\me@h/a/", true, Place{Scheme: "ssh", Machine: Machine{User: "DOMAIN\\me", Host: "h"}, Dir: "/a"}},
		{"ssh://me@here@h/a/", true, Place{Scheme: "ssh", Machine: Machine{User: "me@here", Host: "h"}, Dir: "/a"}},
		{"ssh://192.168.0.1:22/a/", true, Place{Scheme: "ssh", Machine: Machine{Host: "192.168.0.1", Port: 22}, Dir: "/a"}},
		{"ssh://[::1]/a/", true, Place{Scheme: "ssh", Machine: Machine{Host: "::1"}, Dir: "/a"}},
		{"ssh://me@[fe80::1%eth0]:2222/a/", true, Place{Scheme: "ssh", Machine: Machine{"me", "fe80::1%eth0", 2222}, Dir: "/a"}},
		{"ssh://my_alias/a/", true, Place{Scheme: "ssh", Machine: Machine{Host: "my_alias"}, Dir: "/a"}},
		{"ssh+btrfs://h/a/b", false, Place{Scheme: "ssh+btrfs", Machine: Machine{Host: "h"}, Dir: "/a", Name: "b"}},
		// Spaces, question marks and what looks escaped are part of the path.
		{"ssh://h/my snaps/%20?a=b'\"$x/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/my snaps/%20?a=b'\"$x"}},
		{"ssh://h/näme\n/", false, Place{Scheme: "ssh", Machine: Machine{Host: "h"}, Dir: "/näme\n"}},

		{"shell://cat >/x/$BUTTERSINK_NAME", true, Place{Scheme: "shell", Command: "cat >/x/$BUTTERSINK_NAME"}},
		{"shell://ssh h 'cat >/x://y'", true, Place{Scheme: "shell", Command: "ssh h 'cat >/x://y'"}},
	} {
		tt.want.Arg = tt.arg
		got, err := Parse(tt.arg, tt.destination)
		if err != nil {
			t.Errorf("%q: %v", tt.arg, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
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
		_, err := Parse(arg, true)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", arg, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the password is shown: %v", arg, err)
		}
	}
}

// TestFromRsync: what rsync's users type is understood where it can mean nothing else.
func TestFromRsync(t *testing.T) {
	for arg, want := range map[string]string{
		"host:/snaps/":     "ssh://host/snaps/",
		"me@host:snaps":    "ssh://me@host/snaps",
		"ssh:/host/snaps/": "ssh://host/snaps/",
		"host:":            "",
		":/snaps":          "",
		"host":             "",
		"/a/host:x":        "",
		"./host:x":         "",
		"ssh://host/x":     "",
	} {
		got, ok := FromRsync(arg)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", arg, got, ok, want)
		}
	}
}
