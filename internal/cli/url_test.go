package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/store/local"
)

func TestParsePlace(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        place
	}{
		{"/a/b/", false, place{dir: "/a/b"}},
		{"/a/b", false, place{dir: "/a", name: "b"}},
		{"/a/b", true, place{dir: "/a/b"}},
		{"/a/b//", false, place{dir: "/a/b"}},
		{"/a//b", false, place{dir: "/a", name: "b"}},
		{"//a/b/", false, place{dir: "/a/b"}},
		{"/", false, place{dir: "/"}},
		{"/b", false, place{dir: "/", name: "b"}},
		{"a/b", false, place{dir: "a", name: "b"}},
		{"b", false, place{dir: ".", name: "b"}},
		{"b/", false, place{dir: "b"}},
		{".", false, place{dir: "."}},
		{"./", false, place{dir: "."}},
		{"..", false, place{dir: ".."}},
		{"/a/..", false, place{dir: "/"}},
		{"btrfs:///a/b/", false, place{dir: "/a/b"}},
		{"btrfs://a/b", false, place{dir: "a", name: "b"}},
		{"file:///a/b/", true, place{dir: "/a/b"}},
		{"host:/path", false, place{dir: "host:", name: "path"}},
		{"host:/path/", false, place{dir: "host:/path"}},
		{"/a/x://y/", false, place{dir: "/a/x:/y"}},
		{"://x", false, place{dir: ":", name: "x"}},
		{"/a/näme mit\tallem/", false, place{dir: "/a/näme mit\tallem"}},
	} {
		got, err := parsePlace(tt.arg, tt.destination)
		tt.want.arg = tt.arg
		tt.want.scheme = "btrfs"
		if strings.HasPrefix(tt.arg, "file:") {
			tt.want.scheme = "file"
		}
		if err != nil {
			t.Errorf("%q: %v", tt.arg, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(place{}, machine{})); diff != "" {
			t.Errorf("%q:\n%s", tt.arg, diff)
		}
	}
}

func TestParsePlaceRefuses(t *testing.T) {
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
		_, err := parsePlace(arg, false)
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
		want        place
	}{
		{"dir:///a/b/", false, place{scheme: "dir", dir: "/a/b"}},
		{"dir:///a/b", false, place{scheme: "dir", dir: "/a", name: "b"}},
		{"dir:///a/b", true, place{scheme: "dir", dir: "/a/b"}},
		{"dir://a/b/", false, place{scheme: "dir", dir: "a/b"}},
		{"dir://.", false, place{scheme: "dir", dir: "."}},
		{"dir:///a/b?sse=none", false, place{scheme: "dir", dir: "/a", name: "b?sse=none"}},
		{"s3://bucket", false, place{scheme: "s3", bucket: "bucket"}},
		{"s3://bucket", true, place{scheme: "s3", bucket: "bucket"}},
		{"s3://bucket/", false, place{scheme: "s3", bucket: "bucket"}},
		{"s3://bucket/snap", false, place{scheme: "s3", bucket: "bucket", name: "snap"}},
		{"s3://bucket/snap", true, place{scheme: "s3", bucket: "bucket", dir: "snap"}},
		{"s3://bucket/a/b/", false, place{scheme: "s3", bucket: "bucket", dir: "a/b"}},
		{"s3://bucket/a/b", false, place{scheme: "s3", bucket: "bucket", dir: "a", name: "b"}},
		{"s3://bucket/a/b", true, place{scheme: "s3", bucket: "bucket", dir: "a/b"}},
		{"s3://bucket//a//b/", false, place{scheme: "s3", bucket: "bucket", dir: "a/b"}},
		{"s3://bucket/a/.", false, place{scheme: "s3", bucket: "bucket", dir: "a"}},
		{"s3://bucket/a/?storage-class=GLACIER", true, place{
			scheme: "s3", bucket: "bucket", dir: "a", query: "?storage-class=GLACIER", options: map[string]string{"storage-class": "GLACIER"},
		}},
		{"s3://bucket?region=eu-west-1&path-style=true", false, place{
			scheme: "s3", bucket: "bucket", query: "?region=eu-west-1&path-style=true", options: map[string]string{"region": "eu-west-1", "path-style": "true"},
		}},
		{"s3://bucket/a/b?endpoint=http%3A%2F%2Fh:9000/&sse=", false, place{
			scheme: "s3", bucket: "bucket", dir: "a", name: "b", query: "?endpoint=http%3A%2F%2Fh:9000/&sse=",
			options: map[string]string{"endpoint": "http://h:9000/", "sse": ""},
		}},
		{"s3://bucket/a/b?endpoint=http://h:9000&kms-key=arn:aws:kms:x:1:key/2", false, place{
			scheme: "s3", bucket: "bucket", dir: "a", name: "b", query: "?endpoint=http://h:9000&kms-key=arn:aws:kms:x:1:key/2",
			options: map[string]string{"endpoint": "http://h:9000", "kms-key": "arn:aws:kms:x:1:key/2"},
		}},
		{"glacier://vault", false, place{scheme: "glacier", bucket: "vault"}},
		{"glacier://vault/a/b/", false, place{scheme: "glacier", bucket: "vault", dir: "a/b"}},
		{"glacier://vault/a/b", false, place{scheme: "glacier", bucket: "vault", dir: "a", name: "b"}},
		{"glacier://vault/a/b", true, place{scheme: "glacier", bucket: "vault", dir: "a/b"}},
		{"glacier://vault/a/?region=eu-west-1&account=1", true, place{
			scheme: "glacier", bucket: "vault", dir: "a", query: "?region=eu-west-1&account=1", options: map[string]string{"region": "eu-west-1", "account": "1"},
		}},
		{"glacier://vault/2014-01-07?database=/home/u/.btrsend.db", false, place{
			scheme: "glacier", bucket: "vault", name: "2014-01-07", query: "?database=/home/u/.btrsend.db", options: map[string]string{"database": "/home/u/.btrsend.db"},
		}},
		{"glacier://vault/?layout=btrsend", false, place{
			scheme: "glacier", bucket: "vault", query: "?layout=btrsend", options: map[string]string{"layout": "btrsend"},
		}},
		// Names may have question marks.
		{"s3://bucket/what?/", false, place{scheme: "s3", bucket: "bucket", dir: "what?"}},
		{"s3://bucket/what?", false, place{scheme: "s3", bucket: "bucket", name: "what?"}},
		{"s3://bucket/who?sse&what/", false, place{scheme: "s3", bucket: "bucket", dir: "who?sse&what"}},
		{"s3://bucket/a?b?sse=none", false, place{scheme: "s3", bucket: "bucket", name: "a?b", query: "?sse=none", options: map[string]string{"sse": "none"}}},
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

// TestForS3: what stands in the URL is more precise than a flag, and what cannot
// be is refused before anything is asked of a server.
func TestForS3(t *testing.T) {
	flags := opening{s3: s3Flags{endpoint: "https://flag"}, keep: keepFlags{class: "STANDARD_IA", sse: "AES256"}}
	for _, tt := range []struct {
		arg   string
		o     opening
		want  s3.Options
		wrong string
	}{
		{arg: "s3://b/", want: s3.Options{Bucket: "b"}},
		{arg: "s3://b/", o: flags, want: s3.Options{Bucket: "b", Endpoint: "https://flag", Class: "STANDARD_IA", SSE: "AES256"}},
		{
			arg: "s3://b/?endpoint=http://url&storage-class=GLACIER&sse=none&region=r&path-style=1", o: flags,
			want: s3.Options{Bucket: "b", Endpoint: "http://url", Class: "GLACIER", SSE: "none", Region: "r", PathStyle: true},
		},
		{arg: "s3://b/?kms-key=k", want: s3.Options{Bucket: "b", SSE: "aws:kms", KMSKey: "k"}},
		{arg: "s3://b/?path-style=false", o: opening{s3: s3Flags{pathStyle: true}}, want: s3.Options{Bucket: "b"}},
		{arg: "s3://b/?path-style=perhaps", wrong: "want true or false"},
		{arg: "s3://b/?storage-class=", wrong: "storage-class= in the URL is empty"},
		{arg: "s3://b/?endpoint=host:9000", want: s3.Options{Bucket: "b", Endpoint: "host:9000"}},
		{arg: "s3://b/?sse=rot13", wrong: `encryption "rot13" at the server is not known`},
		{arg: "s3://b/?sse=none&kms-key=k", wrong: "not with none"},
	} {
		p, err := parsePlace(tt.arg, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tt.o.forS3(p)
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "pw") {
				t.Errorf("%q: %v, want %q", tt.arg, err, tt.wrong)
			}
			continue
		}
		if err != nil || got.Getenv != nil || got.Log != nil {
			t.Errorf("%q: %v", tt.arg, err)
		}
		type plain struct {
			Bucket, Endpoint, Region, Class, SSE, KMSKey string
			PathStyle                                    bool
		}
		of := func(o s3.Options) plain {
			return plain{o.Bucket, o.Endpoint, o.Region, o.Class, o.SSE, o.KMSKey, o.PathStyle}
		}
		if diff := cmp.Diff(of(tt.want), of(got)); diff != "" {
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
		p, err := parsePlace(arg, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{p.within("x/y"), p.withSlash()}; got != want {
			t.Errorf("%q: %q, want %q", arg, got, want)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("/a/b/", false)
	f.Add("btrfs://a/b", true)
	f.Add("dir:///a/b", false)
	f.Add("ssh://u@h:22/a/b", false)
	f.Add("ssh+btrfs://[fe80::1%eth0]:22/a//../b/", true)
	f.Add("shell://cat >/dev/null", true)
	f.Add("s3://b/p/x?sse=none&region=%20", false)
	f.Add("s3://0/?0=/&", false)
	f.Fuzz(func(t *testing.T, arg string, destination bool) {
		p, err := parsePlace(arg, destination)
		if err != nil {
			return
		}
		if p.overSSH() {
			// What is left reads as the same place again.
			again, err := parsePlace(p.scheme+"://"+p.machine.String()+p.dir, true)
			if err != nil || again.machine != p.machine || again.dir != p.dir || !strings.HasPrefix(p.dir, "/") || strings.HasPrefix(p.host, "-") || strings.HasPrefix(p.user, "-") {
				t.Errorf("%q became %+v, and that %+v, %v", arg, p, again, err)
			}
		}
		if p.dir == "" && p.scheme != "s3" && p.scheme != "shell" || strings.ContainsRune(p.name, '/') || destination && p.name != "" {
			t.Errorf("%q became %+v", arg, p)
		}
		if p.scheme != "s3" || p.query == "" && strings.ContainsRune(p.dir, '?') { // which options could only follow
			return
		}
		// What is left leads nowhere else, and reads as the same place again.
		again, err := parsePlace("s3://"+p.bucket+"/"+p.dir+"/"+p.query, true)
		if err != nil || again.bucket != p.bucket || again.dir != p.dir || strings.Contains("/"+p.dir+"/", "/../") || strings.HasPrefix(p.dir, "/") {
			t.Errorf("%q became %+v, and that %+v, %v", arg, p, again, err)
		}
	})
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ arg, message, hint string }{
		{"host:/snaps/", "'host:/snaps' is not an existing directory", "on another machine, write 'ssh://host/snaps/'"},
		{"me@host:snaps/", "'me@host:snaps' is not an existing directory", "write 'ssh://me@host/snaps/', with the full path"},
		{"ssh:/host/snaps/", "'ssh:/host/snaps' is not an existing directory", "write 'ssh://host/snaps/', with the full path"},
		{"/dev/sda1/", "'/dev/sda1' is not an existing directory", "not a device"},
		{dir, "is not an existing directory", "Did you mean to type '" + dir + "/'?"},
	} {
		p, err := parsePlace(tt.arg, false)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := errors.AsType[*exitError](p.explain(local.ErrNotDirectory))
		if !ok || e.code != exitFailed || !strings.Contains(e.Error(), tt.message) || !strings.Contains(e.hint, tt.hint) {
			t.Errorf("%q: %v / %q", tt.arg, e, e.hint)
		}
	}
}

func TestNoSnapshots(t *testing.T) {
	writable := place{arg: "/d/live", dir: "/d", name: "live"}
	if got := writable.noSnapshots("a writable subvolume"); !strings.HasPrefix(got, "'/d/live' is a writable subvolume: make a snapshot") {
		t.Error(got)
	}
	for arg, want := range map[string]string{
		"/d/snap":  "'/d/snap' is not a snapshot.  Did you mean to type '/d/snap/'?",
		"/d/snap/": "'/d/snap/' does not contain any snapshots.  Did you mean to type '/d/snap'?",
		"/":        "'/' does not contain any snapshots.",
		".":        "'.' does not contain any snapshots.",

		"s3://b/":             "'s3://b/' does not contain any snapshots.",
		"s3://b/p/?sse=none":  "'s3://b/p/?sse=none' does not contain any snapshots.  'buttersink list s3://b/?sse=none' shows what is in the whole bucket.",
		"s3://b/p/x?sse=none": "'s3://b/p/x?sse=none' is not a snapshot.  Did you mean to type 's3://b/p/x/?sse=none'?",
	} {
		p, err := parsePlace(arg, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.noSnapshots(""); got != want {
			t.Errorf("%q: %s", arg, got)
		}
	}
}
