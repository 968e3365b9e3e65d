package s3test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Direction is which way bytes go through a Proxy.
type Direction string

// The directions, as toxiproxy calls them.
const (
	Up   Direction = "upstream"   // from the program to the server
	Down Direction = "downstream" // from the server to the program
)

// Proxy is a way to a server on which connections break. What is set stays, for
// connections there are and those to come, until Heal.
type Proxy struct {
	Endpoint string // "http://" and Addr, to be used in place of the server's
	Addr     string // "127.0.0.1:23456"
	Port     int

	t   testing.TB
	api string
	n   int
}

// Proxy starts a proxy before the server, until the test ends.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	return ProxyTo(t, strings.TrimPrefix(s.Endpoint, "http://"))
}

// ProxyTo starts a proxy before whatever listens, or will listen, on an address
// of this machine ("127.0.0.1:22"), until the test ends. It calls Require.
func ProxyTo(t testing.TB, addr string) *Proxy {
	t.Helper()
	Require(t)
	program, err := serverProgram("toxiproxy")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(freePort(t))
	process, err := spawn(program, "-host", "127.0.0.1", "-port", port, "-proxy-metrics")
	if err != nil {
		t.Fatalf("starting toxiproxy: %v", err)
	}
	t.Cleanup(process.kill)
	p := &Proxy{t: t, api: "http://" + net.JoinHostPort("127.0.0.1", port)}
	err = process.ready(func(ctx context.Context) error { return p.call(ctx, "GET", "/version", nil, nil) })
	if err != nil {
		t.Fatalf("starting toxiproxy: %v", err)
	}
	var made struct{ Listen string }
	p.must("POST", "/proxies", map[string]any{
		"name": "way", "listen": "127.0.0.1:0", "upstream": addr, "enabled": true,
	}, &made)
	p.Addr, p.Endpoint = made.Listen, "http://"+made.Listen
	_, number, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if p.Port, err = strconv.Atoi(number); err != nil {
		t.Fatal(err)
	}
	return p
}

// Cut breaks each connection after so many bytes in a direction, the headers
// among them. With fewer than 30 bytes down it cuts in what the server says
// before a body is sent ("100 Continue") and not in the reply.
func (p *Proxy) Cut(after int64, d Direction) { p.CutSome(after, d, 1) }

// CutSome is Cut for a share of the connections, from 0 to 1.
func (p *Proxy) CutSome(after int64, d Direction, share float64) {
	p.t.Helper()
	p.toxic("limit_data", d, share, map[string]any{"bytes": after})
}

// Reset breaks every connection at once with a TCP reset.
func (p *Proxy) Reset() {
	p.t.Helper()
	p.toxic("reset_peer", Down, 1, map[string]any{"timeout": 0})
}

// Stall lets nothing through any more, and closes nothing.
func (p *Proxy) Stall() {
	p.t.Helper()
	for _, d := range []Direction{Up, Down} {
		p.toxic("timeout", d, 1, map[string]any{"timeout": 0})
	}
}

// Slow bounds each connection, both ways, to so many bytes a second, of which
// there are no fewer than 1024.
func (p *Proxy) Slow(bytes int64) {
	p.t.Helper()
	for _, d := range []Direction{Up, Down} {
		p.toxic("bandwidth", d, 1, map[string]any{"rate": max(1, bytes/1024)})
	}
}

// Latency delays what is sent, each way, so that a round trip takes so much longer;
// of whole milliseconds, and an even number.
func (p *Proxy) Latency(roundTrip time.Duration) {
	p.t.Helper()
	for _, d := range []Direction{Up, Down} {
		p.toxic("latency", d, 1, map[string]any{"latency": roundTrip.Milliseconds() / 2})
	}
}

// Bytes is how much has gone through in a direction, in all connections that have
// ended: the last of them may be added a moment later.
func (p *Proxy) Bytes(d Direction) int64 {
	p.t.Helper()
	ctx, cancel := soon()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", p.api+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatalf("asking toxiproxy: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("asking toxiproxy: %v", err)
	}
	var sum float64
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "toxiproxy_proxy_sent_bytes_total{") || !strings.Contains(line, `direction="`+string(d)+`"`) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			p.t.Fatalf("reading what toxiproxy counts: %v", err)
		}
		sum += n
	}
	return int64(sum)
}

// Drop breaks all connections there are, and lets new ones through.
func (p *Proxy) Drop() {
	p.t.Helper()
	p.must("POST", "/proxies/way", map[string]any{"enabled": false}, nil)
	p.must("POST", "/proxies/way", map[string]any{"enabled": true}, nil)
}

// Heal takes away all trouble.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.must("POST", "/reset", map[string]any{}, nil)
}

func (p *Proxy) toxic(kind string, d Direction, share float64, attributes map[string]any) {
	p.t.Helper()
	p.n++
	p.must("POST", "/proxies/way/toxics", map[string]any{
		"name": kind + strconv.Itoa(p.n), "type": kind, "stream": string(d), "toxicity": share, "attributes": attributes,
	}, nil)
}

func (p *Proxy) must(method, path string, in, out any) {
	p.t.Helper()
	ctx, cancel := soon()
	defer cancel()
	if err := p.call(ctx, method, path, in, out); err != nil {
		p.t.Fatalf("telling toxiproxy %s %s: %v", method, path, err)
	}
}

func (p *Proxy) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, p.api+path, &body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
