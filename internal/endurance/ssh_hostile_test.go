package endurance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSSHHostile has the far side say all kinds of things that are not the
// protocol. Whatever it is, the program ends soon, says which machine it was, and
// changes nothing here.
func TestSSHHostile(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 300_000)
	greeting := `buttersink-protocol 1 {"program":"1.0","lowest":1,"highest":1}`
	for _, test := range []struct{ name, script string }{
		{"nothing", "exit 0"},
		{"nothing, and a status", "exit 3"},
		{"noise", "cat /dev/urandom"},
		{"zeros", "cat /dev/zero"},
		{"a line without an end", "tr '\\0' x </dev/zero"},
		{"lines without an end", "yes"},
		{"a greeting that is no JSON", "read -r line; echo 'buttersink-protocol 1 {{{{'; cat"},
		{"a greeting that is empty", "read -r line; echo 'buttersink-protocol 1 {}'; sleep 1"},
		{"a greeting, and the end", "read -r line; echo '" + greeting + "'"},
		{"a greeting, and noise", "read -r line; echo '" + greeting + "'; cat /dev/urandom"},
		{"a greeting, and zeros", "read -r line; echo '" + greeting + "'; cat /dev/zero"},
		{"a greeting, and 0xff", "read -r line; echo '" + greeting + "'; tr '\\0' '\\377' </dev/zero"},
		{"an echo", "cat"},
		{"a greeting, and an echo", "read -r line; echo '" + greeting + "'; cat"},
		{"a flood of messages", "yes 'there is something wrong with me' | head -c 8000000 >&2; exit 1"},
		{"escapes", `printf '\033]0;gotcha\007\033[2J\r\n' >&2; printf '\033[31mgotcha\n'; exit 1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m.server.Script("buttersink", "#!/bin/sh\n"+test.script+"\n")
			for _, r := range []*run{m.push(), m.pull(), m.run("list", m.url(m.to()))} {
				r.fails(failed, "127.0.0.1")
				if text := r.err.String(); len(text) > 1<<20 {
					t.Errorf("it says %d bytes", len(text))
				} else if strings.ContainsAny(text, "\x00\x1b\x07") {
					t.Errorf("it passes on to the terminal: %q", text)
				}
			}
			if len(m.dst.Subvolumes()) > 0 {
				t.Errorf("these were made: %q", m.dst.Subvolumes())
			}
		})
	}
	m.server.Install("buttersink", program)
	m.finish(pushing)
}

// TestSSHTurnedBits has a bit turned over in what the far side says. Wherever it is,
// nothing that is not whole is taken for a snapshot.
func TestSSHTurnedBits(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 200_000)
	flipper, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.server.Install("flip", flipper)
	m.server.Install("real", program)
	for i := range times(t, 3) {
		// In the greeting (behind the word that it is known by: a line without that is a
		// banner, and more is waited for), in the listing, and in the stream.
		at := []int64{24, 300, 5000}[i%3] + rand.N([]int64{100, 1000, 200_000}[i%3])
		m.server.Script("buttersink", fmt.Sprintf("#!/bin/sh\nreal \"$@\" | %s=%d flip\n", flipEnv, at))
		r := m.pull(often)
		code := r.wait()
		t.Logf("a bit at %d: it ends with %d, with %d retries", at, code, len(r.events("retry")))
		if code != done && code != failed && code != partly && code != conflict {
			t.Errorf("a bit at %d: it ends with %d:\n%s", at, code, r.story())
		}
		m.whole()
		if entries, err := filepath.Glob(m.to() + "*"); err != nil || code == done && len(entries) != 1 {
			t.Errorf("a bit at %d: %v, %v:\n%s", at, entries, err, r.story())
		}
		if code == done {
			m.complete()
		}
		m.empty()
	}
	m.server.Install("buttersink", program)
	m.finish(pulling)
}

// TestSSHHostileClient says all kinds of things to a server that are not the
// protocol. It ends with an error, and changes nothing.
func TestSSHHostileClient(t *testing.T) {
	t.Parallel()
	m := settled(t)
	before := fingerprint(t, m.dst)
	greeting := `printf 'buttersink-protocol 1 {"program":"x","lowest":1,"highest":1,"dir":"` + m.to() + `","mode":"w"}\n'; `
	for _, test := range []struct{ name, client string }{
		{"noise", "head -c 30000000 /dev/urandom"},
		{"zeros", "head -c 30000000 /dev/zero"},
		{"a line without an end", "tr '\\0' x </dev/zero | head -c 30000000"},
		{"no JSON", "echo 'buttersink-protocol 1 [[[['; sleep 1"},
		{"another protocol", "printf 'GET / HTTP/1.1\\r\\n\\r\\n'; sleep 1"},
		{"a greeting, and noise", greeting + "head -c 30000000 /dev/urandom"},
		{"a greeting, and zeros", greeting + "head -c 30000000 /dev/zero"},
		{"a greeting, and 0xff", greeting + "tr '\\0' '\\377' </dev/zero | head -c 30000000"},
		{"two greetings", greeting + greeting + "sleep 1"},
		{"half a greeting", "printf 'buttersink-proto'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said output
			cmd := exec.Command("sh", "-c", "("+test.client+") | "+m.server.Bin+"/"+m.served("w")+" | head -c 100000")
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait() // the status is that of head
			if !timer.Stop() {
				t.Fatalf("it hangs: %s", said.String())
			}
			if text := said.String(); strings.Contains(text, "goroutine ") || len(text) > 1<<16 || !strings.Contains(text, "ERROR") {
				t.Errorf("it says %q", text)
			}
			if after := fingerprint(t, m.dst); after != before {
				t.Errorf("something changes:\n%s", changes(before, after))
			}
		})
	}
}
