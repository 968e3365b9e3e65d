// Package internal_test holds the law of the house: who may import whom.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/buttersink/buttersink/internal/"

// rooms is the import table: each room, and which rooms of ours it may import.
// Changing it is a change of the design: do it on purpose, with docs/design.md,
// never to make a build pass.
var rooms = map[string]string{
	"snapshot":    "",
	"stream":      "",
	"btrfs":       "",
	"replay":      "stream btrfs",
	"compose":     "stream btrfs",
	"plan":        "snapshot",
	"schedule":    "",
	"outstanding": "",
	"config":      "schedule",
	"store":       "snapshot",
	"ledger":      "snapshot",
	// What storage costs: prices and estimates.
	"bill":            "",
	"store/local":     "store snapshot btrfs stream replay compose",
	"store/storetest": "store snapshot stream",
	"transfer":        "store snapshot plan stream ledger",
	"job":             "store snapshot plan transfer ledger schedule outstanding bill",
	"cli":             "*",

	"archive":            "store snapshot stream archive/seal",
	"archive/seal":       "",
	"archive/dir":        "archive store",
	"archive/s3":         "archive archive/reach store pace",
	"archive/buckettest": "archive store",
	// What it takes to reach services of AWS's kind.
	"archive/reach": "store pace",
	// Vaults of the original Glacier API, and what btrsend keeps in them.
	"archive/glacier":  "archive archive/reach store pace",
	"archive/btrsend":  "archive archive/glacier archive/seal store snapshot stream schedule",
	"ledger/btrsenddb": "",

	"store/ssh":      "store snapshot stream store/ssh/wire store/ssh/dial pace",
	"store/ssh/wire": "",
	"store/ssh/dial": "",
	"store/ssh/bare": "store snapshot stream store/ssh/dial pace",
	"store/pipe":     "store snapshot stream",

	// Jobs of a configuration: hooks, notices, how it went, how things stand.
	"hook":    "",
	"notify":  "hook",
	"runner":  "config hook notify ledger",
	"metrics": "runner",
	"systemd": "",

	// What an argument of the command line names, and how far a run is, in words.
	"place":           "",
	"meter":           "snapshot transfer",
	"meter/metertest": "plan snapshot transfer",

	// How fast bytes go, wherever they go over a network.
	"pace": "",

	// Sleep is kept off by asking the machine's login manager.
	"awake": "",

	// The test bench: no room may import it outside of tests.
	"btrfstest":   "",
	"s3test":      "",
	"glaciertest": "",
	"sshtest":     "s3test",
	// Only tests: the whole program on real file systems, and what it survives.
	"endurance": "",
	// The program that writes manual pages and completions.
	"gendocs": "cli",
	// The program behind `make bench`.
	"bench": "snapshot plan store store/local btrfs replay stream archive archive/seal archive/dir archive/s3",
}

// third says which rooms may use packages from outside. A prefix of an import
// path stands for all below it. What is not listed may not be used at all.
var third = map[string]string{
	"golang.org/x/sys/unix":                          "btrfs replay store/local ledger btrfstest archive/dir runner",
	"unsafe":                                         "btrfs",
	"github.com/klauspost/compress":                  "replay archive/seal store/ssh/wire",
	"golang.org/x/time/rate":                         "pace",
	"github.com/anchore/go-lzo":                      "replay",
	"modernc.org/sqlite":                             "ledger ledger/btrsenddb",
	"github.com/pelletier/go-toml/v2":                "bill config",
	"github.com/cenkalti/backoff/v5":                 "transfer",
	"github.com/spf13/cobra":                         "cli gendocs",
	"github.com/prometheus/client_golang/prometheus": "metrics",
	"github.com/prometheus/common/expfmt":            "metrics",
	"github.com/coreos/go-systemd/v22":               "systemd",
	"github.com/vbauerster/mpb/v8":                   "cli",
	"github.com/lmittmann/tint":                      "cli",
	"golang.org/x/term":                              "cli",
	"github.com/godbus/dbus/v5":                      "awake",
	"golang.org/x/crypto":                            "archive/seal",
	"filippo.io/age":                                 "archive/seal",
	"github.com/aws/aws-sdk-go-v2":                   "archive/s3 archive/glacier archive/reach s3test glaciertest",
	"github.com/aws/smithy-go":                       "archive/s3 archive/glacier archive/reach s3test glaciertest",

	"github.com/SaveTheRbtz/zstd-seekable-format-go/pkg": "archive/seal",
}

// benches are rooms for tests, which no other room may import.
var benches = []string{"btrfstest", "s3test", "glaciertest", "sshtest", "archive/buckettest", "store/storetest", "meter/metertest"}

// inTests may be imported by any room's tests.
var inTests = []string{
	"github.com/google/go-cmp", "pgregory.net/rapid", "go.uber.org/goleak",
	"github.com/rogpeppe/go-internal", "golang.org/x/sys/unix", "github.com/klauspost/compress",
	"github.com/prometheus/common/expfmt", "github.com/prometheus/client_model/go", "github.com/prometheus/common/model",
}

func TestLayout(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || filepath.Dir(file) == "." {
			return nil
		}
		room := filepath.ToSlash(filepath.Dir(file))
		seen[room] = true
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s: room %q is not in the table", file, room)
			return nil
		}
		checkImports(t, file, room, strings.Fields(allowed))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("room %q is in the table but not in the house", room)
		}
	}
}

func checkImports(t *testing.T, file, room string, allowed []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	test := strings.HasSuffix(file, "_test.go")
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: import %s: %v", file, spec.Path.Value, err)
			continue
		}
		if ours, ok := strings.CutPrefix(imported, module); ok {
			if test || ours == room || slices.Contains(allowed, ours) || slices.Contains(allowed, "*") && !slices.Contains(benches, ours) {
				continue
			}
			t.Errorf("%s: room %q may not import %q", file, room, ours)
			continue
		}
		if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") && imported != "unsafe" {
			continue // the standard library
		}
		if !thirdAllowed(imported, room) && !(test && slices.ContainsFunc(inTests, func(p string) bool { return below(imported, p) })) {
			t.Errorf("%s: room %q may not import %q", file, room, imported)
		}
	}
}

func thirdAllowed(imported, room string) bool {
	for prefix, in := range third {
		if below(imported, prefix) && slices.Contains(strings.Fields(in), room) {
			return true
		}
	}
	return false
}

func below(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

// TestFilesStaySmall holds the rule that a file is one idea.
func TestFilesStaySmall(t *testing.T) {
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(file) != ".go" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), "\n"); n > 600 {
			t.Errorf("%s has %d lines: split it by idea", file, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
