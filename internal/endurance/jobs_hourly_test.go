package endurance

import (
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/local"
)

// TestJobsHourly makes snapshots with several jobs at once, some of which are killed,
// while a job sends from the same directory, which is stopped and then killed. Nobody waits for
// the transfer; names are in the order of the snapshots; what is to be removed is put
// off, and done without being asked when the transfer has gone, but for what it has not
// finished; and in the end all is there.
func TestJobsHourly(t *testing.T) {
	btrfstest.Require(t)
	src, dst := btrfstest.New(t, btrfstest.Size(512<<20)), btrfstest.New(t, btrfstest.Size(512<<20))
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	home := src.Subvolume("home")
	noise := make([]byte, 96<<20)
	rand.Read(noise)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(home, "noise"), noise, 0o600))
	snaps := filepath.Join(home, "snapshot")
	config := func() string {
		text := ""
		for _, job := range []string{"hourly", "other", "third"} {
			text += fmt.Sprintf("[jobs.%s]\nsources = [%q]\nprefix = \"home-\"\nutc = true\n", job, home)
			if job == "hourly" {
				text += "keep = \"last:3\"\n"
			}
		}
		text += fmt.Sprintf("[jobs.nightly]\nsources = [%q]\nprefix = \"home-\"\nutc = true\nsnapshot = false\n[[jobs.nightly.destinations]]\nurl = \"%s/\"\n", home, dst.Path(""))
		path := filepath.Join(dir, "config.toml")
		must(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	file := config()
	job := func(name string) *run { t.Helper(); return start(t, state, "-c", file, "run", name) }
	ends := func(r *run, code int) *run {
		t.Helper()
		if got := r.wait(); got != code {
			t.Fatalf("it ends with %d:\n%s", got, r.story())
		}
		return r
	}

	ends(job("hourly"), done)
	first := ordered(t, snaps)[0]
	nightly := job("nightly")
	for !strings.Contains(read(t, filepath.Join(snaps, ".outstanding_transfers")), first) {
		if nightly.gone() {
			t.Fatalf("nothing is sent:\n%s", nightly.story())
		}
		time.Sleep(time.Millisecond)
	}
	nightly.signal(syscall.SIGSTOP) // which makes it last for as long as it takes here
	if !strings.Contains(read(t, filepath.Join(snaps, ".outstanding_transfers")), first) {
		t.Fatal("the transfer is over already: there is too little to send")
	}
	made, kills := 1, 0
	for round := range 2 {
		a, b := job("other"), job("third")
		if round%2 == 1 {
			time.Sleep(time.Duration(mrand.IntN(300)) * time.Millisecond)
			b.signal(syscall.SIGKILL)
		}
		ends(a, done)
		made++
		if code := b.wait(); code == done {
			made++
		} else if code == killed {
			kills++
		} else {
			t.Fatalf("it ends with %d:\n%s", code, b.story())
		}
	}
	if n := len(ordered(t, snaps)); n < made || n > made+kills {
		t.Errorf("there are %d snapshots of %d runs and %d killed ones", n, made, kills)
	}
	ends(job("hourly"), done).says("no rule keeps", "buttersink run nightly")
	before := ordered(t, snaps)
	if second := job("nightly"); second.wait() != locked {
		t.Errorf("a second run of the job:\n%s", second.story())
	}
	for _, command := range []string{"history", "status"} {
		r := start(t, state, "-c", file, command)
		r.wait()
		if !strings.Contains(r.out.String(), "left for the next run to remove") {
			t.Errorf("%s does not show what is put off:\n%s", command, r.story())
		}
	}
	nightly.signal(syscall.SIGKILL)
	nightly.wait()

	ends(job("hourly"), done)
	after := ordered(t, snaps)
	if len(after) != 4 || after[0] != first || !slices.Equal(after[1:3], before[len(before)-2:]) {
		t.Errorf("of %v there are %v, want the unfinished and the last three", before, after)
	}
	ends(job("nightly"), done)
	if text := read(t, filepath.Join(snaps, ".outstanding_transfers")); strings.Contains(text, "home-") {
		t.Errorf("unfinished in the end: %s", text)
	}
	if there := ordered(t, dst.Path("")); !slices.Equal(there, after) {
		t.Errorf("sent are %v, want %v", there, after)
	}
	ends(job("hourly"), done)
	claimed, n := after[3], ordered(t, snaps)
	if len(n) != 3 || !slices.Contains(n, claimed) {
		t.Errorf("in the end there are %v, want three and with them %s, which the next increment starts from", n, claimed)
	}
}

// read is a file; nothing, if there is none.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// ordered are the names of the snapshots in a directory in the order of their names,
// which has to be that in which they were made, and fails if anything else is there.
func ordered(t *testing.T, dir string) (names []string) {
	t.Helper()
	s, err := local.Open(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inv, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(inv.Inside())
	slices.SortFunc(all, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	if !slices.IsSortedFunc(all, func(a, b snapshot.Snapshot) int { return int(a.Transid) - int(b.Transid) }) {
		t.Errorf("names are not in the order of the snapshots: %+v", all)
	}
	for _, s := range all {
		names = append(names, s.Path)
	}
	return names
}
