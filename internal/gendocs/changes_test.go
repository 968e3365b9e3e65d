package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func TestChangelog(t *testing.T) {
	dir := t.TempDir()
	if _, err := changelog(dir, "1.2.0", "A <a@b>", time.Unix(0, 0).UTC()); !errors.Is(err, errNoChanges) {
		t.Errorf("an empty directory: %v", err)
	}
	for name, text := range map[string]string{
		"b.md": "Fixed: something.\n\nIt was.\n",
		"a.md": "Added: a thing of which there is so much to be said that it does not go into one line.\n",
		"no":   "Nothing.\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := changelog(dir, "1.2.0", "A <a@b>", time.Unix(1795316471, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	want := `buttersink (1.2.0) unstable; urgency=medium

  * Added: a thing of which there is so much to be said that it does not go
    into one line.
  * Fixed: something.

 -- A <a@b>  Sun, 22 Nov 2026 03:01:11 +0000
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestEpoch(t *testing.T) {
	if when, err := epoch(""); err != nil || !when.IsZero() {
		t.Errorf("none: %v, %v", when, err)
	}
	if when, err := epoch("60"); err != nil || when.Unix() != 60 {
		t.Errorf("60: %v, %v", when, err)
	}
	if _, err := epoch("today"); err == nil {
		t.Error("a word is taken for a time")
	}
}
