package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The names by which ssh knows this machine while the bench runs: over loopback,
// and over a link of 100 Mbit/s on which an answer takes 20 ms.
const (
	loop = "bench-loop"
	slow = "bench-slow"

	slowRate  = 12_500 // kilobytes a second, each way
	slowDelay = 10     // milliseconds, each way
)

// far is another machine: this one, behind a real sshd.
type far struct {
	dir  string
	port string // of sshd
}

// reach starts what a row needs of another machine, once, and writes its config.
func (b *bench) reach(r row) error {
	if r.config[0] != "" {
		if err := os.WriteFile(filepath.Join(b.dir, r.config[0]), []byte(r.config[1]), 0o600); err != nil {
			return err
		}
	}
	if !r.far || b.far != nil {
		return nil
	}
	f := &far{dir: filepath.Join(b.dir, "far")}
	if err := inTurn(func() error { return os.Mkdir(f.dir, 0o700) }, func() error { return f.serve(b) }); err != nil {
		return err
	}
	slowPort, err := f.slow(b)
	if err != nil {
		return err
	}
	if err := f.introduce(slowPort); err != nil {
		return err
	}
	b.far = f
	return tool("ssh", loop, "buttersink", "--version")
}

// serve starts an sshd that root may log in to with a key of the bench's, and
// that finds the program that is timed.
func (f *far) serve(b *bench) error {
	for _, key := range []string{"host", "id"} {
		if err := tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(f.dir, key)); err != nil {
			return err
		}
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return fmt.Errorf("%w (make deps installs it)", err)
	}
	if f.port, err = freePort(); err != nil {
		return err
	}
	config := fmt.Sprintf(`ListenAddress 127.0.0.1
Port %s
HostKey %s/host
PidFile none
AuthorizedKeysFile %s/id.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
SetEnv PATH=%s:/usr/sbin:/usr/bin:/sbin:/bin SHLVL=1 %s%s/state
`, f.port, f.dir, f.dir, filepath.Dir(b.program), stateEnv, f.dir)
	file := filepath.Join(f.dir, "sshd_config")
	err = errors.Join(os.WriteFile(file, []byte(config), 0o600), os.MkdirAll("/run/sshd", 0o755))
	if err != nil {
		return err
	}
	return background(b.ctx, net.JoinHostPort("127.0.0.1", f.port), sshd, "-D", "-f", file, "-E", filepath.Join(f.dir, "log"))
}

// slow starts toxiproxy in front of sshd.
func (f *far) slow(b *bench) (port string, err error) {
	program, err := filepath.Abs(b.o.toxiproxy)
	if err != nil {
		return "", err
	}
	if port, err = freePort(); err != nil {
		return "", err
	}
	control, err := freePort()
	if err != nil {
		return "", err
	}
	if err := background(b.ctx, net.JoinHostPort("127.0.0.1", control), program, "-host", "127.0.0.1", "-port", control); err != nil {
		return "", fmt.Errorf("%w (make servers makes it)", err)
	}
	post := func(path string, what map[string]any) error {
		body, err := json.Marshal(what)
		if err != nil {
			return err
		}
		answer, err := http.Post("http://127.0.0.1:"+control+path, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode >= 300 {
			return fmt.Errorf("toxiproxy: %s: %s", path, answer.Status)
		}
		return nil
	}
	err = post("/proxies", map[string]any{"name": "ssh", "listen": "127.0.0.1:" + port, "upstream": "127.0.0.1:" + f.port, "enabled": true})
	for _, way := range []string{"upstream", "downstream"} {
		// In this order: what is delayed is held in memory, which must not take in more
		// than the link carries meanwhile.
		for _, toxic := range []struct {
			kind, attribute string
			value           int
		}{{"bandwidth", "rate", slowRate}, {"latency", "latency", slowDelay}} {
			err = errors.Join(err, post("/proxies/ssh/toxics", map[string]any{
				"type": toxic.kind, "stream": way, "attributes": map[string]int{toxic.attribute: toxic.value},
			}))
		}
	}
	return port, err
}

// introduce has every ssh of the bench's mount namespace know the two names.
func (f *far) introduce(slowPort string) error {
	key, err := os.ReadFile(filepath.Join(f.dir, "host.pub"))
	if err != nil {
		return err
	}
	known := filepath.Join(f.dir, "known_hosts")
	if err := os.WriteFile(known, []byte("bench "+string(key)), 0o600); err != nil {
		return err
	}
	var text strings.Builder
	for name, port := range map[string]string{loop: f.port, slow: slowPort} {
		fmt.Fprintf(&text, "Host %s\n\tHostName 127.0.0.1\n\tPort %s\n\tUser root\n\tIdentityFile %s/id\n\tIdentitiesOnly yes\n\tIdentityAgent none\n"+
			"\tHostKeyAlias bench\n\tUserKnownHostsFile %s\n\tStrictHostKeyChecking yes\n", name, port, f.dir, known)
	}
	file := filepath.Join(f.dir, "ssh_config")
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		return err
	}
	return tool("mount", "--bind", file, "/etc/ssh/ssh_config")
}

// freePort returns a port of this machine that nobody uses.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// background starts a server, which ends with the bench, and waits until it
// answers at an address.
func background(ctx context.Context, address, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Since(begun) > 10*time.Second {
			return fmt.Errorf("waiting for %s: %w", program, err)
		}
	}
}
