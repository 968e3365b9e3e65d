package endurance

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// TestSSHKills kills the program, its ssh, or the server at the far side, at
// random moments, until everything is there. Whoever dies, what had been held
// crosses the network no more, nobody stays behind, and nothing that looks whole
// is not.
func TestSSHKills(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		m.family("a", 2, 8<<20)
		m.family("b", 1, 300_000)
		began := time.Now()
		d.sync(m, often).fine()
		undisturbed := time.Since(began)
		m.complete()

		kills, carried := map[string]int{}, 0
		for want := times(t, 5); kills["program"]+kills["ssh"]+kills["server"] < want; {
			m.empty()
			for tries := 0; ; tries++ {
				held := m.held()
				r := d.sync(m, often)
				r.lives(undisturbed/5 + rand.N(undisturbed/2+undisturbed*time.Duration(tries)/20))
				victim := "program"
				switch rand.N(4) {
				case 0, 1:
					r.signal(syscall.SIGKILL)
				case 2:
					victim = "ssh"
					end(m.sshes(r))
				case 3:
					victim = "server"
					end(m.servers())
				}
				code := r.wait()
				m.deserted()
				if code != done && code != killed && !(victim != "program" && (code == failed || code == partly)) {
					t.Fatalf("after killing %s it ends with %d:\n%s", victim, code, r.story())
				}
				if _, n := r.resumed(); n > 0 {
					carried += n
				}
				kills[victim]++
				if code == done {
					r.carriesOn(held)
					m.complete()
					break
				}
				m.whole()
			}
		}
		t.Logf("killed: %v; %d streams carried on; undisturbed it takes %v", kills, carried, undisturbed.Round(time.Millisecond))
		if carried == 0 {
			t.Error("no stream was carried on")
		}
	})
}

// TestSSHVictims kills each of those who take part once some MiB have gone, and
// a run goes on by itself unless it was killed itself. What crosses the network
// for the second time is what was not held.
func TestSSHVictims(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		const ballast = 16 << 20
		m.family("a", 1, ballast)
		for _, victim := range []string{"program", "ssh", "server", "sudo"} {
			m.link.forget()
			r := d.sync(m, often)
			m.checkpointed(r, 8)
			switch victim {
			case "program":
				r.signal(syscall.SIGKILL)
			case "ssh":
				end(m.sshes(r))
			case "server":
				end(m.servers())
			case "sudo":
				end(m.server.Pids("sudo"))
			}
			code := r.wait()
			if victim != "program" && code != done {
				t.Errorf("without its %s it ends with %d:\n%s", victim, code, r.story())
			}
			if victim == "program" {
				if code != killed {
					t.Fatalf("it is too fast: %d\n%s", code, r.story())
				}
				m.deserted()
				m.whole()
				held := m.held()
				r = d.sync(m, often).fine()
				r.carriesOn(held)
			}
			if bytes, _ := r.resumed(); bytes < 4<<20 {
				t.Errorf("%s: %d bytes are carried on from:\n%s", victim, bytes, r.story())
			}
			// All of it once, and again at most what was under way.
			if crossed := d.way(m.link).bytes.Load(); crossed > ballast*3/2 {
				t.Errorf("%s: %d bytes cross the network for a stream of %d", victim, crossed, ballast)
			}
			m.complete()
			m.deserted()
			m.empty()
		}
	})
}

// TestSSHInterrupted ends the program by Ctrl-C, which a terminal sends to ssh
// as well. It says what there is, leaves what it can be carried on from, and
// nobody at the far side.
func TestSSHInterrupted(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		m.family("a", 2, 16<<20)
		for _, both := range []bool{false, true} {
			r := d.sync(m, often)
			m.checkpointed(r, 5)
			if both {
				for _, pid := range m.sshes(r) {
					_ = syscall.Kill(pid, syscall.SIGINT)
				}
			}
			r.signal(syscall.SIGINT)
			r.fails(interrupted, "of 2 snapshots are at the destination.")
			m.deserted()
			m.whole()
			held := m.held()
			if len(held) == 0 {
				t.Error("nothing is kept of what was there")
			}
			r = d.sync(m, often).fine()
			r.carriesOn(held)
			m.complete()
			m.empty()
		}
	})
}
