package endurance

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSSHTwoAtOnce has two runs write to one far directory at the same time, or
// one over ssh and one of the far machine itself. The second ends with the exit
// code for that, says who is at work, and takes nothing away from the first.
func TestSSHTwoAtOnce(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 16<<20)
	there := func() *run { return m.push(often) }
	local := func() *run { return m.sync(often) }
	for _, test := range []struct {
		name          string
		first, second func() *run
	}{
		{"both over ssh", there, there},
		{"first here", local, there},
		{"first over ssh", there, local},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := test.first()
			m.checkpointed(first, 2)
			second := test.second()
			second.fails(locked, "locked by", "buttersink sync")
			first.fine()
			m.complete()
			m.deserted()
			m.empty()
		})
	}
}

// TestSSHReadersAtOnce has several read from one far directory at the same time,
// while another one writes to it.
func TestSSHReadersAtOnce(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 3, 4<<20)
	more := m.dst.Path("more")
	if err := os.Mkdir(more, 0o755); err != nil {
		t.Fatal(err)
	}
	writer := m.push(often)
	reader := m.run("sync", "--json", m.url(m.from()), more+"/")
	lists := []*run{m.run("list", m.url(m.to())), m.run("list", "--json", m.url(m.from()))}
	writer.fine()
	reader.fine()
	for i, r := range lists {
		if code := r.wait(); code != done && i == 1 {
			t.Errorf("a listing ends with %d:\n%s", code, r.story())
		}
	}
	for _, name := range m.names() {
		if diff := difference(t, m.src.Path("snaps/"+name), filepath.Join(more, name)); diff != "" {
			t.Errorf("%s differs:\n%s", name, diff)
		}
		m.dst.Delete("more/" + name)
	}
	m.complete()
	m.deserted()
}

// TestSSHThrough brings snapshots from one far machine to another. They go
// through here and are not kept here: nothing is ever in a file.
func TestSSHThrough(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 12<<20)
	two := reached(t, m.scene) // the same file systems, by way of another sshd
	temp := t.TempDir()
	m.env = []string{"TMPDIR=" + temp}
	through := func() *run {
		return m.run("sync", slices.Concat([]string{"--json", often}, []string{m.url(m.from()), two.url(m.to())})...)
	}
	// Both keys are offered to both, and both host keys are known to both.
	m.flags = both(t, m, two)

	r := through()
	m.checkpointed(r, 6)
	for spooled := 0; ; {
		if n := kept(t, temp) + kept(t, m.state); n > 4<<20 {
			t.Fatalf("%d bytes are kept here:\n%s", n, r.story())
		}
		if spooled++; spooled > 20 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.signal(syscall.SIGKILL)
	if code := r.wait(); code != killed {
		t.Fatalf("it is too fast: %d\n%s", code, r.story())
	}
	m.deserted()
	two.deserted()
	m.whole()
	held := m.held()
	through().fine().carriesOn(held)
	m.complete()

	// Either of them is cut off, and it goes on by itself.
	m.empty()
	for i, l := range []*link{m.link, two.link} {
		r := through()
		m.checkpointed(r, 4)
		l.drop()
		r.fine()
		if bytes, _ := r.resumed(); bytes < 1<<20 {
			t.Errorf("side %d: %d bytes are carried on from:\n%s", i, bytes, r.story())
		}
		m.complete()
		m.empty()
	}
	m.deserted()
	two.deserted()
}

// both returns flags with which two servers are reached. The options of ssh are
// the same for both sides.
func both(t *testing.T, a, b *remote) []string {
	t.Helper()
	known := filepath.Join(t.TempDir(), "known_hosts")
	text := "[127.0.0.1]:" + portOf(a) + " " + a.server.HostKey() + "\n[127.0.0.1]:" + portOf(b) + " " + b.server.HostKey() + "\n"
	if err := os.WriteFile(known, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, option := range append([]string{"IdentityFile=" + b.user.Key, "UserKnownHostsFile=" + known}, a.user.Options()...) {
		key, _, _ := strings.Cut(option, "=")
		if key != "HostKeyAlias" && !(key == "UserKnownHostsFile" && !strings.HasSuffix(option, known)) {
			flags = append(flags, "--ssh-opt="+option)
		}
	}
	return flags
}

func portOf(m *remote) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(m.url(""), m.scheme+"://"), ":")
	return port
}

// kept returns how many bytes the files below a directory have.
func kept(t *testing.T, dir string) (total int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}
