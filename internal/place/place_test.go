package place

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        Place
	}{
		{"/a/b/", false, Place{Dir: "/a/b"}},
		{"/a/b", false, Place{Dir: "/a", Name: "b"}},
		{"/a/b", true, Place{Dir: "/a/b"}},
		{"/a/b//", false, Place{Dir: "/a/b"}},
		{"/a//b", false, Place{Dir: "/a", Name: "b"}},
		{"//a/b/", false, Place{Dir: "/a/b"}},
		{"/", false, Place{Dir: "/"}},
		{"/b", false, Place{Dir: "/", Name: "b"}},
		{"a/b", false, Place{Dir: "a", Name: "b"}},
		{"b", false, Place{Dir: ".", Name: "b"}},
		{"b/", false, Place{Dir: "b"}},
		{".", false, Place{Dir: "."}},
		{"./", false, Place{Dir: "."}},
		{"..", false, Place{Dir: ".."}},
		{"/a/..", false, Place{Dir: "/"}},
		{"btrfs:///a/b/", false, Place{Dir: "/a/b"}},
		{"btrfs://a/b", false, Place{Dir: "a", Name: "b"}},
		{"file:///a/b/", true, Place{Dir: "/a/b"}},
		{"host:/path", false, Place{Dir: "host:", Name: "path"}},
		{"host:/path/", false, Place{Dir: "host:/path"}},
		{"/a/x://y/", false, Place{Dir: "/a/x:/y"}},
		{"://x", false, Place{Dir: ":", Name: "x"}},
		{"/a/näme mit\tallem/", false, Place{Dir: "/a/näme mit\tallem"}},
	} {
		got, err := Parse(tt.arg, tt.destination)
		tt.want.Arg = tt.arg
		tt.want.Scheme = "btrfs"
		if strings.HasPrefix(tt.arg, "file:") {
			tt.want.Scheme = "file"
		}
		if err != nil {
			t.Errorf("%q: %v", tt.arg, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q:\n%s", tt.arg, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for arg, want := range map[string]string{
		"":                                   "names no directory",
		"btrfs://":                           "names no directory",
		"http://example.com/x/":              `unknown scheme "http"`,
		"dir://":                             "names no directory: the current one is 'dir://./'",
		"s3://":                              "names no bucket",
		"s3:///prefix/":                      "names no bucket",
		"s3://me:pw@bucket/x/":               "credentials do not belong",
		"s3://me:p/pw@bucket/":               "credentials do not belong",
		"s3://buck et/x/":                    "a bucket has letters",
		"s3://bucket/a/../b/":                "'..' means nothing",
		"s3://bucket/..":                     "'..' means nothing",
		"s3://bucket/?sse=none&colour=pw":    `no option "colour": want endpoint, kms-key, path-style, region, sse, storage-class`,
		"s3://bucket/?sse=a&sse=b":           `"sse" is there twice`,
		"s3://bucket/a?b=c/d":                `no option "b"`,
		"s3://bucket/?sse=%zz":               "not escaped",
		"glacier://":                         "names no vault",
		"glacier:///a/":                      "names no vault",
		"glacier://me:pw@vault/":             "credentials do not belong",
		"glacier://a vault/":                 "a vault has letters",
		"glacier://vault/a/../b/":            "'..' means nothing in a vault",
		"glacier://vault/?sse=none":          `a Glacier URL has no option "sse": want account, database, endpoint, layout, region`,
		"glacier://vault/?layout=ours":       `the layout "ours" is not known`,
		"glacier://vault/?database=":         "the path of btrsend's database",
		"glacier://vault/a/?database=x":      "btrsend has no prefixes",
		"glacier://vault/a/b?layout=btrsend": "btrsend has no prefixes",
		"/a\x00b/":                           "NUL",
	} {
		_, err := Parse(arg, false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", arg, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the password is shown: %v", arg, err)
		}
	}
}

// TestParseArchive: archives are URLs, of which S3's may have options.
func TestParseArchive(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        Place
	}{
		{"dir:///a/b/", false, Place{Scheme: "dir", Dir: "/a/b"}},
		{"dir:///a/b", false, Place{Scheme: "dir", Dir: "/a", Name: "b"}},
		{"dir:///a/b", true, Place{Scheme: "dir", Dir: "/a/b"}},
		{"dir://a/b/", false, Place{Scheme: "dir", Dir: "a/b"}},
		{"dir://.", false, Place{Scheme: "dir", Dir: "."}},
		{"dir:///a/b?sse=none", false, Place{Scheme: "dir", Dir: "/a", Name: "b?sse=none"}},
		{"s3://bucket", false, Place{Scheme: "s3", Bucket: "bucket"}},
		{"s3://bucket", true, Place{Scheme: "s3", Bucket: "bucket"}},
		{"s3://bucket/", false, Place{Scheme: "s3", Bucket: "bucket"}},
		{"s3://bucket/snap", false, Place{Scheme: "s3", Bucket: "bucket", Name: "snap"}},
		{"s3://bucket/snap", true, Place{Scheme: "s3", Bucket: "bucket", Dir: "snap"}},
		{"s3://bucket/a/b/", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "a/b"}},
		{"s3://bucket/a/b", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "a", Name: "b"}},
		{"s3://bucket/a/b", true, Place{Scheme: "s3", Bucket: "bucket", Dir: "a/b"}},
		{"s3://bucket//a//b/", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "a/b"}},
		{"s3://bucket/a/.", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "a"}},
		{"s3://bucket/a/?storage-class=GLACIER", true, Place{
			Scheme: "s3", Bucket: "bucket", Dir: "a", Query: "?storage-class=GLACIER", Options: map[string]string{"storage-class": "GLACIER"},
		}},
		{"s3://bucket?region=eu-west-1&path-style=true", false, Place{
			Scheme: "s3", Bucket: "bucket", Query: "?region=eu-west-1&path-style=true", Options: map[string]string{"region": "eu-west-1", "path-style": "true"},
		}},
		{"s3://bucket/a/b?endpoint=http%3A%2F%2Fh:9000/&sse=", false, Place{
			Scheme: "s3", Bucket: "bucket", Dir: "a", Name: "b", Query: "?endpoint=http%3A%2F%2Fh:9000/&sse=",
			Options: map[string]string{"endpoint": "http://h:9000/", "sse": ""},
		}},
		{"s3://bucket/a/b?endpoint=http://h:9000&kms-key=arn:aws:kms:x:1:key/2", false, Place{
			Scheme: "s3", Bucket: "bucket", Dir: "a", Name: "b", Query: "?endpoint=http://h:9000&kms-key=arn:aws:kms:x:1:key/2",
			Options: map[string]string{"endpoint": "http://h:9000", "kms-key": "arn:aws:kms:x:1:key/2"},
		}},
		{"glacier://vault", false, Place{Scheme: "glacier", Bucket: "vault"}},
		{"glacier://vault/a/b/", false, Place{Scheme: "glacier", Bucket: "vault", Dir: "a/b"}},
		{"glacier://vault/a/b", false, Place{Scheme: "glacier", Bucket: "vault", Dir: "a", Name: "b"}},
		{"glacier://vault/a/b", true, Place{Scheme: "glacier", Bucket: "vault", Dir: "a/b"}},
		{"glacier://vault/a/?region=eu-west-1&account=1", true, Place{
			Scheme: "glacier", Bucket: "vault", Dir: "a", Query: "?region=eu-west-1&account=1", Options: map[string]string{"region": "eu-west-1", "account": "1"},
		}},
		{"glacier://vault/2014-01-07?database=/home/u/.btrsend.db", false, Place{
			Scheme: "glacier", Bucket: "vault", Name: "2014-01-07", Query: "?database=/home/u/.btrsend.db", Options: map[string]string{"database": "/home/u/.btrsend.db"},
		}},
		{"glacier://vault/?layout=btrsend", false, Place{
			Scheme: "glacier", Bucket: "vault", Query: "?layout=btrsend", Options: map[string]string{"layout": "btrsend"},
		}},
		// Names may have question marks.
		{"s3://bucket/what?/", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "what?"}},
		{"s3://bucket/what?", false, Place{Scheme: "s3", Bucket: "bucket", Name: "what?"}},
		{"s3://bucket/who?sse&what/", false, Place{Scheme: "s3", Bucket: "bucket", Dir: "who?sse&what"}},
		{"s3://bucket/a?b?sse=none", false, Place{Scheme: "s3", Bucket: "bucket", Name: "a?b", Query: "?sse=none", Options: map[string]string{"sse": "none"}}},
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

// TestWithin: what is typed in hints names the same place, options and all.
func TestWithin(t *testing.T) {
	for arg, want := range map[string][2]string{
		"/a/b/":               {"/a/b/x/y", "/a/b/"},
		".":                   {"./x/y", "./"},
		"/a/b":                {"/a/b", "/a/b/"},
		"dir:///a/":           {"dir:///a/x/y", "dir:///a/"},
		"s3://b/p/?sse=none":  {"s3://b/p/x/y?sse=none", "s3://b/p/?sse=none"},
		"s3://b?sse=none":     {"s3://b/x/y?sse=none", "s3://b/?sse=none"},
		"ssh://h/a/":          {"ssh://h/a/x/y", "ssh://h/a/"},
		"ssh://u@h:22/a":      {"ssh://u@h:22/a", "ssh://u@h:22/a/"},
		"s3://b/p/x?region=r": {"s3://b/p/x?region=r", "s3://b/p/x/?region=r"},
	} {
		p, err := Parse(arg, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{p.Within("x/y"), p.WithSlash()}; got != want {
			t.Errorf("%q: %q, want %q", arg, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/a/b/", false)
	f.Add("btrfs://a/b", true)
	f.Add("dir:///a/b", false)
	f.Add("ssh://u@h:22/a/b", false)
	f.Add("ssh+btrfs://[fe80::1%eth0]:22/a//../b/", true)
	f.Add("shell://cat >/dev/null", true)
	f.Add("s3://b/p/x?sse=none&region=%20", false)
	f.Add("s3://0/?0=/&", false)
	f.Fuzz(func(t *testing.T, arg string, destination bool) {
		p, err := Parse(arg, destination)
		if err != nil {
			return
		}
		if p.OverSSH() {
			// What is left reads as the same place again.
			again, err := Parse(p.Scheme+"://"+p.Machine.String()+p.Dir, true)
			if err != nil || again.Machine != p.Machine || again.Dir != p.Dir || !strings.HasPrefix(p.Dir, "/") || strings.HasPrefix(p.Machine.Host, "-") || strings.HasPrefix(p.Machine.User, "-") {
				t.Errorf("%q became %+v, and that %+v, %v", arg, p, again, err)
			}
		}
		if p.Dir == "" && p.Scheme != "s3" && p.Scheme != "shell" || strings.ContainsRune(p.Name, '/') || destination && p.Name != "" {
			t.Errorf("%q became %+v", arg, p)
		}
		if p.Scheme != "s3" || p.Query == "" && strings.ContainsRune(p.Dir, '?') { // which options could only follow
			return
		}
		// What is left leads nowhere else, and reads as the same place again.
		again, err := Parse("s3://"+p.Bucket+"/"+p.Dir+"/"+p.Query, true)
		if err != nil || again.Bucket != p.Bucket || again.Dir != p.Dir || strings.Contains("/"+p.Dir+"/", "/../") || strings.HasPrefix(p.Dir, "/") {
			t.Errorf("%q became %+v, and that %+v, %v", arg, p, again, err)
		}
	})
}
