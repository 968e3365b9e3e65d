package cli

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/place"
)

// TestGroupedFlags: grouping neither loses a flag nor shows one twice, and leaves
// the help of other commands alone.
func TestGroupedFlags(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	root := program(env)
	flag := regexp.MustCompile(`(?m)^ +(?:-[a-zA-Z], )?--([a-z0-9-]+)`)
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		for _, member := range c.Commands() {
			check(member)
		}
		c.InitDefaultHelpFlag()
		seen := map[string]int{}
		for _, m := range flag.FindAllStringSubmatch(c.UsageString(), -1) {
			seen[m[1]]++
		}
		for _, m := range flag.FindAllStringSubmatch(c.LocalFlags().FlagUsages()+c.InheritedFlags().FlagUsages(), -1) {
			if seen[m[1]] != 1 {
				t.Errorf("%s --help shows --%s %d times", c.CommandPath(), m[1], seen[m[1]])
			}
		}
	}
	check(root)
	if text := root.UsageString(); !strings.Contains(text, "\nTo an archive (dir://, s3://):\n") {
		t.Errorf("the flags are not grouped:\n%s", text)
	}
	if env.Stderr.(interface{ Len() int }).Len() > 0 {
		t.Errorf("standard error: %s", env.Stderr)
	}
}

// TestFits: a flag that has no effect where it is given is refused before
// anything is begun, since somebody relies on it.
func TestFits(t *testing.T) {
	const btrfs, dir, s3 = "/a/", "dir:///b/", "s3://b/p/"
	for _, tt := range []struct {
		o        syncOptions
		from, to string
		wrong    string
	}{
		{syncOptions{}, btrfs, btrfs, ""},
		{syncOptions{}, btrfs, s3, ""},
		{syncOptions{}, dir, s3, ""},
		{syncOptions{encrypt: []string{"age:x"}, requireEncryption: true, compress: "zstd"}, btrfs, dir, ""},
		{syncOptions{encrypt: []string{"age:x"}}, btrfs, btrfs, "--encrypt"},
		{syncOptions{encrypt: []string{"age:x"}}, s3, btrfs, "--encrypt"},
		{syncOptions{compress: "zstd"}, btrfs, btrfs, "--compress"},
		{syncOptions{requireEncryption: true}, btrfs, btrfs, "--require-encryption"},
		{syncOptions{requireEncryption: true}, btrfs, s3, "--require-encryption goes with --encrypt"},
		{syncOptions{maxRestore: sizeFlag{bytes: 1, given: "1"}}, btrfs, btrfs, "--max-restore"},
		{syncOptions{maxChain: 3, partSize: 7}, btrfs, btrfs, ""}, // ButterSink's own
		{syncOptions{keep: keepFlags{class: "X"}}, btrfs, dir, "--storage-class"},
		{syncOptions{keep: keepFlags{sse: "X"}}, s3, dir, "--sse"},
		{syncOptions{keep: keepFlags{kmsKey: "X"}}, btrfs, btrfs, "--kms-key"},
		{syncOptions{keep: keepFlags{class: "X", sse: "none"}}, dir, s3, ""},
		{syncOptions{s3: s3Flags{endpoint: "X"}}, btrfs, dir, "--s3-endpoint"},
		{syncOptions{s3: s3Flags{pathStyle: true}}, dir, btrfs, "--s3-path-style"},
		{syncOptions{s3: s3Flags{endpoint: "X", pathStyle: true}}, s3, btrfs, ""},
		{syncOptions{identity: []string{"X"}}, btrfs, dir, "--identity"},
		{syncOptions{identity: []string{"X"}}, dir, btrfs, ""},
		{syncOptions{checkpoint: sizeFlag{given: "0"}}, btrfs, dir, "--checkpoint"},
		{syncOptions{checkpoint: sizeFlag{given: "0"}}, dir, btrfs, ""},
		{syncOptions{kernelSend: true}, dir, btrfs, "--kernel-send"},
		{syncOptions{decompress: true}, s3, btrfs, "--decompress"},
		{syncOptions{kernelSend: true, decompress: true}, btrfs, s3, ""},
	} {
		from, err := place.Parse(tt.from, false)
		if err != nil {
			t.Fatal(err)
		}
		to, err := place.Parse(tt.to, true)
		if err != nil {
			t.Fatal(err)
		}
		err = tt.o.fits("buttersink sync", site{Place: from}, site{Place: to})
		if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.wrong)) {
			t.Errorf("%+v, %s to %s: %v, want %q", tt.o, tt.from, tt.to, err, tt.wrong)
		}
		if err != nil && judge(err).code != exitUsage {
			t.Errorf("%v: exit code %d", err, judge(err).code)
		}
	}
}

func TestAgeFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0d": 0, "12h": 12 * time.Hour, "30d": 720 * time.Hour, "8w": 1344 * time.Hour, "36500d": 876000 * time.Hour,
	} {
		var f ageFlag
		if err := f.Set(text); err != nil || f.age != want || f.String() != text {
			t.Errorf("%q: %v, %v", text, f.age, err)
		}
	}
	for _, text := range []string{"", "30", "d", "-1d", "1.5d", "30 d", "30D", "1y", "5m", "1d12h", "9999999d", "999999w", "١d"} {
		var f ageFlag
		if err := f.Set(text); err == nil {
			t.Errorf("%q is taken for %v", text, f.age)
		}
	}
}

// TestKeysFromTheEnvironment: BUTTERSINK_IDENTITY is for machines that restore
// again and again; a flag takes its place.
func TestKeysFromTheEnvironment(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	env.Getenv = func(name string) string { return map[string]string{identityVariable: "/no/such/a::/no/such/b"}[name] }
	if _, err := env.keys(nil); err == nil || !strings.Contains(err.Error(), "/no/such/a") || judge(err).code != exitConfig {
		t.Errorf("keys of %s: %v", identityVariable, err)
	}
	if _, err := env.keys([]string{"/no/such/flag"}); err == nil || !strings.Contains(err.Error(), "/no/such/flag") {
		t.Errorf("keys of a flag: %v", err)
	}
	env.Getenv = func(string) string { return "" }
	if _, err := env.keys(nil); err != nil {
		t.Errorf("no keys: %v", err)
	}
}
