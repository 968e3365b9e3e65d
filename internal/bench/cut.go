package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// cutPart pushes a snapshot to another machine twice: through a connection that
// holds, and, under another name, through one that is cut once when nine tenths
// of the bytes have gone. It prints which share of the bytes went again.
func cutPart(ctx context.Context, program, host, from, to string) error {
	address, err := addressOf(host)
	if err != nil {
		return err
	}
	push := func(cutAt int64) (sent int64, err error) {
		p, err := newCutter(address, cutAt)
		if err != nil {
			return 0, err
		}
		defer p.close()
		_, port, err := net.SplitHostPort(p.listener.Addr().String())
		if err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(ctx, program, "-qq", "--wire-compression", "never", from, "ssh://root@"+host+":"+port+to)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w\n%s", err, out)
		}
		if cutAt > 0 && !p.cut.Load() {
			return 0, errors.New("the connection was never cut")
		}
		return p.sent.Load(), nil
	}
	whole, err := push(0)
	if err != nil {
		return err
	}
	name := from[strings.LastIndexByte(from, '/')+1:]
	if err := tool("btrfs", "subvolume", "delete", "-c", to+name); err != nil {
		return err
	}
	broken, err := push(whole / 10 * 9)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d bytes, and %d with a cut\n", whole, broken)
	fmt.Printf("%.4f\n", max(0, float64(broken-whole)/float64(whole)))
	return nil
}

// addressOf returns where ssh connects to for a host.
func addressOf(host string) (string, error) {
	out, err := exec.Command("ssh", "-G", host).Output()
	if err != nil {
		return "", err
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[key] = value
	}
	return net.JoinHostPort(said["hostname"], said["port"]), nil
}

// A cutter passes connections on, counts what goes to the server, and cuts the
// one connection that brings the count to a number.
type cutter struct {
	listener net.Listener
	address  string
	at       int64 // 0 is never
	sent     atomic.Int64
	cut      atomic.Bool
	all      sync.WaitGroup
}

func newCutter(address string, at int64) (*cutter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cutter{listener: l, address: address, at: at}
	c.all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			c.all.Go(func() { c.pass(client) })
		}
	})
	return c, nil
}

func (c *cutter) close() {
	_ = c.listener.Close()
	c.all.Wait()
}

// pass passes one connection on.
func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.address)
	if err != nil {
		return
	}
	defer server.Close()
	c.all.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if c.at > 0 && c.sent.Load()+int64(n) >= c.at && c.cut.CompareAndSwap(false, true) {
			return
		}
		if _, failed := server.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
		c.sent.Add(int64(n))
	}
}
