package cli

import (
	"path/filepath"
	"testing"
)

// TestSourcesOfOneName: subvolumes that would be one at the destinations keep no other
// from being backed up, nor one that was there before.
func TestSourcesOfOneName(t *testing.T) {
	e := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
nested = true
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`)
	for _, name := range []string{"home/other", "home/a", "home/a/b"} {
		e.fs.Subvolume(name)
	}
	e.run(t, 0, "run")
	backups := func() int {
		all, err := filepath.Glob(e.fs.Path("backup/*-home-a-b/*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := backups(); n != 1 {
		t.Fatalf("%d backups", n)
	}
	e.fs.Subvolume("home/a-b") // which comes first
	for _, args := range [][]string{{"run"}, {"run"}} {
		says(t, e.run(t, 4, args...), "home/a-b: it would be ", "as "+e.fs.Path("home/a/b")+" is")
	}
	says(t, e.run(t, 3, "run", "-n"), "home/a-b: it would be ")
	if n := backups(); n != 3 {
		t.Errorf("%d backups of what was there before", n)
	}
	says(t, e.run(t, 4, "status"), "2 of 10 are late", "it would be")
	// A ledger that is lost knows neither: both wait for somebody to decide, and no other.
	e2 := newHomestead(t, `
[jobs.home]
sources = ["$FS/home"]
nested = true
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`)
	for _, name := range []string{"home/other", "home/a", "home/a/b", "home/a-b"} {
		e2.fs.Subvolume(name)
	}
	says(t, e2.run(t, 4, "run"), "home/a-b: it would be ", "home/a/b: it would be ")
	says(t, e2.run(t, 4, "status"), "4 of 10 are late")
}
