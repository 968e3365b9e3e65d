package endurance

import (
	"os"
	"strings"
	"testing"
)

// An attempt is something that is wanted of a far directory, and the least mode in
// which that is allowed.
type attempt struct {
	name string
	mode string // r, a or w
	run  func(m *remote) *run
}

// attempts change nothing there in a mode that is too low.
var attempts = []attempt{
	{"list", "r", func(m *remote) *run { return m.run("list", "--json", m.url(m.to())) }},
	{"list partials", "r", func(m *remote) *run { return m.run("list", "--json", "-d", "-n", m.url(m.to())) }},
	{"dry run", "r", func(m *remote) *run { return m.run("sync", "-n", m.from(), m.url(m.to())) }},
	{"dry run of removal", "r", func(m *remote) *run { return m.run("sync", "-n", "-d", m.from(), m.url(m.to())) }},
	{"explain", "r", func(m *remote) *run { return m.run("explain", m.from()+"a1", m.url(m.to())) }},
	{"pull", "r", func(m *remote) *run {
		return m.run("sync", "--json", m.url(m.to()), m.src.Path("back")+"/")
	}},
	{"push", "a", func(m *remote) *run { return m.push() }},
	{"push with removal", "w", func(m *remote) *run { return m.push("-d") }},
	{"remove partials", "w", func(m *remote) *run { return m.run("list", "--json", "-d", m.url(m.to())) }},
}

// settled makes a scene whose far directory has one of two snapshots, one that
// the source has not, and something unfinished.
func settled(t *testing.T) *remote {
	t.Helper()
	m := apart(t)
	m.family("a", 2, 200_000)
	m.run("sync", "--json", m.from()+"a0", m.url(m.to())).fine()
	live := m.dst.Subvolume("live-z")
	m.dst.Snapshot(live, "snaps/zz", true)
	m.dst.Subvolume("snaps/old.part")
	if err := os.Mkdir(m.src.Path("back"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.dst.Sync()
	return m
}

// allowed runs everything against a far side that is restricted to a mode. What
// is allowed works; what is not fails, says why, and changes nothing.
func (m *remote) allowed(mode string, says ...string) {
	m.t.Helper()
	const order = "raw"
	for _, a := range attempts {
		before := fingerprint(m.t, m.dst)
		r := a.run(m)
		code := r.wait()
		after := fingerprint(m.t, m.dst)
		switch may := strings.Index(order, a.mode) <= strings.Index(order, mode); {
		case may && code != done:
			m.t.Errorf("mode %s: %s ends with %d:\n%s", mode, a.name, code, r.story())
		case !may && code != failed && code != partly:
			m.t.Errorf("mode %s: %s ends with %d:\n%s", mode, a.name, code, r.story())
		case !may:
			r.says(says...)
		}
		if (a.mode == "r" || strings.Index(order, a.mode) > strings.Index(order, mode)) && after != before {
			m.t.Errorf("mode %s: %s changes what is there:\n%s", mode, a.name, changes(before, after))
		}
	}
	m.deserted()
}

// served is the command line of a server.
func (m *remote) served(mode string) string {
	return "buttersink --server --mode " + mode + " " + m.to()
}

// TestSSHForcedModes: the line in authorized_keys decides what may be done,
// whatever the program at the other end asks for.
func TestSSHForcedModes(t *testing.T) {
	for _, mode := range []string{"r", "a", "w"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := settled(t)
			m.user.ForceCommand("sudo " + m.served(mode))
			m.allowed(mode, "mode")
		})
	}
}

// TestSSHSudoModes: the rules of sudo decide.
func TestSSHSudoModes(t *testing.T) {
	for _, mode := range []string{"r", "a"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := settled(t)
			var rules []string
			for _, allowed := range []string{"r", "a", "w"} {
				rules = append(rules, "ALL=(root) NOPASSWD: "+m.server.Bin+"/"+m.served(allowed))
				if allowed == mode {
					break
				}
			}
			m.user.Sudoers(rules...)
			m.allowed(mode, "sudo")
		})
	}
}

// TestSSHForcedDirectory: a far side that serves another directory than the one
// that is asked for says so, and nothing goes to the wrong place.
func TestSSHForcedDirectory(t *testing.T) {
	t.Parallel()
	m := settled(t)
	m.user.ForceCommand("sudo " + m.served("w"))
	if err := os.Mkdir(m.dst.Path("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, m.dst)
	for _, r := range []*run{
		m.run("sync", m.from(), m.url(m.dst.Path("other")+"/")),
		m.run("sync", "-d", m.from(), m.url(m.dst.Dir+"/")),
		m.run("list", m.url(m.dst.Path("other")+"/")),
	} {
		r.fails(failed, m.dst.Path("snaps"))
	}
	if after := fingerprint(t, m.dst); after != before {
		t.Errorf("something changes:\n%s", changes(before, after))
	}
	m.push().fine()
}

// TestSSHBareServer needs next to nothing at the far side: no environment, no
// home directory, no terminal and no /dev/log.
func TestSSHBareServer(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 300_000)
	if err := os.RemoveAll(m.user.Home); err != nil {
		t.Fatal(err)
	}
	m.user.ForceCommand("sudo env -i unshare --mount sh -c 'mount -t tmpfs none /root && " +
		"{ [ ! -e /dev/log ] || mount --bind /dev/null /dev/log; } && exec " + m.server.Bin + "/" + m.served("w") + "'")
	m.finish(pushing)
	m.push("-d").fine()
}
