package endurance

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestSSHCutAt90 breaks the connection once, after nine tenths of a stream. The
// run goes on by itself, and little of the stream crosses the network again.
func TestSSHCutAt90(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		const ballast = 48 << 20
		m.family("a", 1, ballast)
		way := d.way(m.link)
		way.cut.Store(ballast * 9 / 10)
		r := d.sync(m, often).fine()
		m.complete()
		if n := m.link.connections(); n < 2 {
			t.Fatalf("the connection was not cut:\n%s", r.story())
		}
		if crossed := way.bytes.Load(); crossed > ballast*115/100 {
			t.Errorf("%d bytes cross the network for a stream of %d:\n%s", crossed, ballast, r.story())
		} else {
			t.Logf("%d bytes for a stream of %d", crossed, ballast)
		}
		m.deserted()
	})
}

// TestSSHCuts breaks every connection at random moments: while it is made, while
// snapshots are listed and measured, and in the middle of streams. A run goes on
// by itself or fails with everything kept, and the last one completes it.
func TestSSHCuts(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		m.family("a", 3, 6<<20)
		began := time.Now()
		d.sync(m, often).fine()
		undisturbed := time.Since(began)
		m.complete()
		ended := map[int]int{}
		for range times(t, 3) {
			m.empty()
			r := d.sync(m, often)
			for range 4 {
				r.lives(rand.N(undisturbed))
				m.link.drop()
			}
			code := r.wait()
			ended[code]++
			m.deserted()
			switch code {
			case done:
			case failed, partly:
				t.Logf("it fails:\n%s", r.story())
				m.whole()
				held := m.held()
				d.sync(m, often).fine().carriesOn(held)
			default:
				t.Fatalf("it ends with %d:\n%s", code, r.story())
			}
			m.complete()
		}
		t.Logf("by exit code: %v", ended)
	})
}

// TestSSHStalls: a network lets nothing through any more and closes nothing; a
// far side stands still, which neither TCP nor ssh can tell. The heartbeat ends
// both, and a run goes on by itself when things are well again. They wait together.
func TestSSHStalls(t *testing.T) {
	t.Parallel()
	const ballast = 24 << 20
	var pushed, pulled, frozen *remote
	for _, m := range []**remote{&pushed, &pulled, &frozen} {
		*m = apart(t)
		(*m).family("a", 1, ballast)
	}
	push := pushed.push(often)
	pushed.checkpointed(push, 4)
	pushed.link.stall()
	pull := pulled.pull(often)
	pulled.checkpointed(pull, 4)
	pulled.link.stall()
	freeze := frozen.push(often)
	frozen.checkpointed(freeze, 4)
	stopped := frozen.servers()
	for _, pid := range stopped {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if len(stopped) == 0 {
		t.Fatalf("nobody serves:\n%s", freeze.story())
	}

	for _, r := range []*run{push, pull, freeze} {
		if !r.await(`"event":"retry"`, 1) {
			t.Errorf("it ends:\n%s", r.story())
		}
	}
	pushed.link.heal()
	pulled.link.heal()
	end(stopped)                    // so long it has the lock
	end(frozen.server.Pids("sudo")) // which stops with what it has started
	for _, side := range []struct {
		m *remote
		r *run
	}{{pushed, push}, {pulled, pull}, {frozen, freeze}} {
		side.r.fine()
		if bytes, _ := side.r.resumed(); bytes < 1<<20 {
			t.Errorf("%d bytes are carried on from:\n%s", bytes, side.r.story())
		}
		side.m.complete()
		side.m.deserted()
	}
}

// TestSSHSlow: a link that is slow is no fault, and --limit makes it slow.
func TestSSHSlow(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		m.family("a", 1, 3<<20)
		began := time.Now()
		r := d.sync(m, "--limit=1MiB/s").fine()
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("3 MiB take %v at 1 MiB/s:\n%s", took, r.story())
		}
		if strings.Contains(r.out.String(), `"event":"retry"`) {
			t.Errorf("something is tried again:\n%s", r.story())
		}
		m.complete()
	})
}

// lossyEnv is set in a process that has a network of its own.
const lossyEnv = "BUTTERSINK_ENDURANCE_LOSSY"

// TestSSHLossy has a network that loses two packets of a hundred and is bounded
// to 100 Mbit/s. That is slow, and no fault.
func TestSSHLossy(t *testing.T) {
	btrfstest.Require(t)
	if os.Getenv(lossyEnv) == "" {
		t.Parallel()
		// All that is set in it goes with the last process that is in it.
		cmd := exec.Command("unshare", "--net", "--", "sh", "-ec", `
			ip link set lo mtu 1500 up
			tc qdisc add dev lo root tbf rate 100mbit burst 256kb latency 100ms
			iptables -A INPUT -i lo -p tcp -m statistic --mode random --probability 0.02 -j DROP
			exec "$0" -test.run '^TestSSHLossy$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), lossyEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var out output
		cmd.Stdout, cmd.Stderr = &out, &out
		err := onKeptThread(cmd.Start)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, &out)
		}
		return
	}
	for _, d := range directions {
		m := apart(t)
		m.family("a", 2, 3<<20)
		r := d.sync(m).fine()
		if strings.Contains(r.out.String(), `"event":"retry"`) {
			t.Errorf("something is tried again:\n%s", r.story())
		}
		m.complete()
	}
}
