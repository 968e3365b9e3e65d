package place

import "testing"

// TestID: two ways to write one place are one destination, and what is noted
// names it again.
func TestID(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"/bk", "/bk"},
		{"/bk//x/../", "/bk"},
		{"file:///bk/", "/bk"},
		{"btrfs:///bk/", "/bk"},
		{"/", "/"},
		{"ssh://me@Host.EXAMPLE:22/bk/", "ssh://me@host.example:22/bk"},
		{"ssh://host/", "ssh://host/"},
		{"ssh+btrfs://host/b k", "ssh://host/b k"},
		{"ssh://[FE80::1]/bk", "ssh://[fe80::1]/bk"},
		{"shell://cat >  x", "shell://cat >  x"},
		{"dir:///usb/x/", "dir:///usb/x"},
		{"s3://bucket/a//b/", "s3://bucket/a/b"},
		{"s3://bucket/", "s3://bucket/"},
		{"s3://bucket/a?storage-class=GLACIER", "s3://bucket/a"},
		{"s3://bucket/a?endpoint=http%3A%2F%2Fh%3A9000", "s3://bucket/a?endpoint=http%3A%2F%2Fh%3A9000"},
	} {
		p, err := Parse(c.arg, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.ID(); got != c.want {
			t.Errorf("%s is %s, want %s", c.arg, got, c.want)
		}
		again, err := Parse(c.want, true)
		if err != nil || again.ID() != c.want {
			t.Errorf("%s is read as %s, %v", c.want, again.ID(), err)
		}
	}
}

// TestIDsDiffer: two places are one only if they are.
func TestIDsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, arg := range []string{
		"/mnt/a", "dir:///mnt/a", "ssh://host/mnt/a", "ssh://other/mnt/a", "s3://bucket/", "s3://bucket/a", "s3://other/",
		"glacier://vault/", "glacier://other/", "glacier://vault/a", "glacier://vault/?region=eu-west-1", "shell://cat >/mnt/a",
	} {
		p, err := Parse(arg, true)
		if err != nil {
			t.Fatal(err)
		}
		id := p.ID()
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s are both %q", arg, other, id)
		}
		seen[id] = arg
		again, err := Parse(id, true)
		if err != nil || again.ID() != id {
			t.Errorf("%s: %q does not name it again: %q, %v", arg, id, again.ID(), err)
		}
	}
}

// TestOver: one name is two places where options of ssh lead it to two, and the same
// place as before where none does.
func TestOver(t *testing.T) {
	for name, c := range map[string]struct {
		arg     string
		options []string
		want    string
	}{
		"none":                {"ssh://me@Nas/b", nil, "ssh://me@nas/b"},
		"others":              {"ssh://nas/b", []string{"IdentityFile=/x", "StrictHostKeyChecking=no"}, "ssh://nas/b"},
		"a port":              {"ssh://nas/b", []string{"Port=2222"}, "ssh://nas:2222/b"},
		"the port of the URL": {"ssh://nas:22/b", []string{"Port=2222"}, "ssh://nas:22/b"},
		"a host":              {"ssh://me@nas/b", []string{"hostname=Ten.example"}, "ssh://me@ten.example/b"},
		"two":                 {"ssh+btrfs://nas/b", []string{"port=1", "HostName=fe80::1", "PORT=2"}, "ssh://[fe80::1]:1/b"},
		"what ssh fills in":   {"ssh://nas/b", []string{"HostName=%h.lan"}, "ssh://nas.lan/b"},
		"a sign of per cent":  {"ssh://nas/b", []string{"HostName=fe80::1%%eth0"}, "ssh://[fe80::1%eth0]/b"},
		"both signs":          {"ssh://nas/b", []string{"HostName=n%%h-%h"}, "ssh://n%h-nas/b"},
		"what ssh refuses":    {"ssh://nas/b", []string{"HostName=%p.lan"}, "ssh://nas/b"},
		"one at the end":      {"ssh://nas/b", []string{"HostName=lan%"}, "ssh://nas/b"},
		"no port":             {"ssh://nas/b", []string{"Port=x"}, "ssh://nas/b"},
		"not over ssh":        {"dir:///b", []string{"Port=2222"}, "dir:///b"},
	} {
		p, err := Parse(c.arg, true)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Over(c.options).ID(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
