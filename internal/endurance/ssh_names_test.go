package endurance

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestSSHOddNames: any name that a file system can have goes over ssh, through
// the shells on the way, and none of it is carried out.
func TestSSHOddNames(t *testing.T) {
	for _, scheme := range []string{"ssh", "ssh+btrfs"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			m := apart(t)
			m.scheme = scheme
			names, dirs := odd, oddDirs
			if scheme != "ssh" { // several connections for each
				names, dirs = nil, oddDirs[:2]
				for some := range slices.Chunk(odd, 5) {
					names = append(names, strings.Join(some, ""))
				}
			}
			oddly(t, m, names, dirs)
		})
	}
}

// odd are names that some shell, URL, message or format on the way could take
// for something else.
var odd = []string{
	"with space", " leading and trailing ", "quote's", `dou"ble`, "$(touch pwned)", "`touch pwned`", "a;touch pwned", "new\nline", "*", "?[a-z]",
	"-dash", "--", "%41%0A%", `back\slash`, `\`, "~", "#hash", "a&b|c>d<e", "ünï", "\xff\xfe", "tab\tbed", "$HOME", "!bang", "{a,b}", "a:b@c",
	"'\"'\"'", "\x1b[31mred", "\u202eback",
}

// oddDirs are names of directories, of the same kind.
var oddDirs = []string{"dir with space's", "$(touch pwned);\"*\"\n\xff", "-n", "%2e%2e", "ü"}

// oddly brings snapshots with some names there and back.
func oddly(t *testing.T, m *remote, odd, dirs []string) {
	t.Helper()
	live := m.src.Subvolume("live")
	for i, name := range odd {
		if err := os.WriteFile(live+"/file", []byte(strings.Repeat(name, 1000*(i+1))), 0o644); err != nil {
			t.Fatal(err)
		}
		m.snapshot(live, name)
	}
	m.push().fine()
	m.oddlyThere(m.to())
	// All of it again, with an odd directory at both ends, and back.
	for i, dir := range dirs {
		there, back := m.dst.Path(dir), m.src.Path(fmt.Sprintf("back%d", i))
		for _, d := range []string{there, back} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		m.run("sync", "--json", m.from()+odd[i], m.url(there+"/")).fine()
		m.run("sync", "--json", m.url(there+"/"), back+"/").fine()
		if diff := difference(t, m.src.Path("snaps/"+odd[i]), back+"/"+odd[i]); diff != "" {
			t.Errorf("%q in %q differs:\n%s", odd[i], dir, diff)
		}
	}
	for _, fs := range []*btrfstest.FS{m.src, m.dst} {
		out, err := exec.Command("find", fs.Dir, m.user.Home, "-name", "pwned").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("a name is carried out: %v, %s", err, out)
		}
	}
}

// oddlyThere fails the test unless all snapshots are in a directory.
func (m *remote) oddlyThere(dir string) {
	m.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := m.wanted[e.Name()]; !ok && !m.sizes(e) {
			m.t.Errorf("what is %q?", e.Name())
		}
	}
	for name := range m.wanted {
		m.compare(name)
	}
}
