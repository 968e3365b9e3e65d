package cli

import (
	"path/filepath"
	"strings"
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
	backups := func() int { return e.count(t, "backup/*-home-a-b/*") }
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

// TestSourceWrittenOut: one that is written out stays, wherever in the list that is.
func TestSourceWrittenOut(t *testing.T) {
	for name, sources := range map[string]string{
		"before what it lies in": `["$FS/home/a-b", "$FS/home"]`,
		"behind what it lies in": `["$FS/home", "$FS/home/a-b"]`,
		"behind a pattern":       `["$FS/home", "$FS/home/a*", "$FS/home/a-b"]`,
	} {
		t.Run(name, func(t *testing.T) {
			e := newHomestead(t, `
[jobs.home]
sources = `+sources+`
nested = true
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`)
			for _, name := range []string{"home/a", "home/a/b", "home/a-b"} {
				e.fs.Subvolume(name)
			}
			said := e.run(t, 4, "run")
			says(t, said, "home/a/b: it would be ", "as "+e.fs.Path("home/a-b")+" is")
			if n := e.count(t, "backup/*-home-a-b/*"); n != 1 || strings.Contains(said, "home/a-b: it would be ") {
				t.Errorf("%d backups of what is written out\n%s", n, said)
			}
		})
	}
}

// count says how many paths match a pattern.
func (e *homestead) count(t *testing.T, pattern string) int {
	t.Helper()
	all, err := filepath.Glob(e.fs.Path(pattern))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestSourcesOfOneNameStay: without destinations a name is that of a directory of
// snapshots, or of nothing.
func TestSourcesOfOneNameStay(t *testing.T) {
	const config = `
[jobs.home]
sources = ["$FS/home"]
nested = true
`
	e := newHomestead(t, config)
	for _, name := range []string{"home/a", "home/a/b", "home/a-b"} {
		e.fs.Subvolume(name)
	}
	e.run(t, 0, "run")
	if both := e.count(t, "home/a/b/snapshot/*") + e.count(t, "home/a-b/snapshot/*"); both != 2 {
		t.Errorf("%d snapshots of both", both)
	}
	e = newHomestead(t, config+`snapshots = "$FS/snaps/{source}"`)
	for _, name := range []string{"home/a", "home/a/b"} {
		e.fs.Subvolume(name)
	}
	e.run(t, 0, "run")
	e.fs.Subvolume("home/a-b")
	said := e.run(t, 4, "run")
	says(t, said, "home/a-b: it would be ", "as "+e.fs.Path("home/a/b")+" is")
	if n := e.count(t, "snaps/*-home-a-b/*"); n != 2 || strings.Contains(said, "home/a/b: it would be ") {
		t.Errorf("%d snapshots of what was there before\n%s", n, said)
	}
}
