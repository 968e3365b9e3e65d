package endurance

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/sshtest"
)

// rename has the record of unfinished transfers name a destination as the old
// program does when it goes there by ssh.
func (s *legacy) rename(from, to string) {
	s.t.Helper()
	text, err := os.ReadFile(s.record())
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), `"`+from+`"`) {
		s.t.Fatalf("nothing for %s is noted: %s", from, text)
	}
	if err := os.WriteFile(s.record(), []byte(strings.ReplaceAll(string(text), `"`+from+`"`, `"`+to+`"`)), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// away puts a legacy's file systems behind an sshd, on a machine with buttersink or
// without.
func (s *legacy) away(installed bool) *remote {
	s.t.Helper()
	m := reached(s.t, newScene(s.t, s.src, s.dst))
	if !installed {
		m.server.Uninstall("buttersink")
		user := m.server.User(sshtest.Shell("/bin/dash"))
		user.Sudoers("ALL=(root) NOPASSWD: ALL")
		m.as(user)
	}
	s.state = m.state
	return m
}

// TestBackupOldFar finishes what the old program was cut off in on another
// machine, found by the name in its record; by the program there, and by nothing
// but btrfs and a shell.
func TestBackupOldFar(t *testing.T) {
	for _, name := range []string{"buttersink", "btrfs and sh"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLegacy(t)
			s.before(s.b)
			s.before(s.b)
			s.cut[s.b] = 60_000
			s.before(s.b)
			m := s.away(name == "buttersink")
			s.rename(s.b, m.url(s.b))
			left := s.list(s.b)[2]
			was := s.dst.Show(s.b + "/" + left)["UUID"]
			flags := slices.Concat([]string{"--ssh-sudo"}, m.flags)

			s.now(slices.Concat(flags, []string{"-S", "-n", "10", "--locked-dests", s.source})...).fine()
			if there := s.whole(s.b, 1); len(there) != 3 {
				t.Errorf("there are %q", there)
			}
			if is := s.dst.Show(s.b + "/" + left)["UUID"]; is == was {
				t.Errorf("%s is still what was left", left)
			}
			s.noted("{}")
			s.work()
			s.now(slices.Concat(flags, []string{"-N", "2", "-n", "3", "--force", s.source, m.url(s.b)})...).fine()
			if here, there := s.list(s.folder()), s.whole(s.b, 0); len(here) != 2 || len(there) != 3 {
				t.Errorf("there are %q here, and %q", here, there)
			}
			s.noted("{}")
		})
	}
}

// TestBackupOldPulled carries on a subvolume of another machine, and its record
// there.
func TestBackupOldPulled(t *testing.T) {
	for _, name := range []string{"buttersink", "btrfs and sh"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLegacy(t)
			s.before(s.b)
			s.before(s.b)
			s.cut[s.b] = 60_000
			s.before(s.b)
			m := s.away(name == "buttersink")
			s.work()
			s.now(slices.Concat([]string{"--ssh-sudo", "-N", "3"}, m.flags, []string{m.url(s.source), s.b})...).fine()
			s.noted("{}")
			if here, there := s.list(s.folder()), s.whole(s.b, 1); len(here) != 3 || len(there) != 4 {
				t.Errorf("there are %q at the source, and %q", here, there)
			}
		})
	}
}
