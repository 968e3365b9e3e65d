package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNamesOfCommands: what a command is called says nothing of its arguments, and
// two of them are told apart.
func TestNamesOfCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	text := `[jobs.x]
sources = ["/x"]
[[jobs.x.destinations]]
url = "shell://KEY=secret curl -u me:secret -T - https://example.org"
[[jobs.x.destinations]]
url = "shell://curl -u me:secret -T - https://example.net"
[[jobs.x.destinations]]
url = "/mnt/x"
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, Checks{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range f.Jobs[0].Destinations {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"shell://curl", "shell://curl (2)", "/mnt/x"}, names); diff != "" {
		t.Error(diff)
	}
}
