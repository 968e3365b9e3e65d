package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// failed is what there is to tell of a run that has failed.
func failed() Report {
	begun := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	return Report{
		Event: Failure, Job: "home", Host: "nas", Begun: begun, Ended: begun.Add(time.Hour),
		Summary: "1 of 2 destinations failed", Details: []string{"/home -> nas: no route to host", ".", "From here on: ü"},
	}
}

// asked is a request that has come.
type asked struct{ Method, URI, Body, Agent string }

// service answers as it is told to, and keeps what it is asked.
type service struct {
	*httptest.Server
	mu  sync.Mutex
	got []asked
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, number int)) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got = append(s.got, asked{r.Method, r.RequestURI, string(body), r.UserAgent()})
		number := len(s.got)
		s.mu.Unlock()
		answer(w, r, number)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) requests() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

func TestPing(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, "OK") })
	target := Target{Name: "hc", Ping: s.URL + "/KEY/{job}?create=1"}
	begin := failed()
	begin.Event, begin.Summary, begin.Details, begin.Ended = Start, "", nil, time.Time{}
	well := failed()
	well.Event, well.Summary, well.Details = Success, "done", nil
	for _, r := range []Report{begin, well, failed()} {
		if err := Tell(t.Context(), target, r, nil); err != nil {
			t.Error(err)
		}
	}
	want := []asked{
		{"GET", "/KEY/home/start?create=1", "", "buttersink"},
		{"POST", "/KEY/home?create=1", "done\n", "buttersink"},
		{"POST", "/KEY/home/fail?create=1", "1 of 2 destinations failed\n/home -> nas: no route to host\n.\nFrom here on: ü\n", "buttersink"},
	}
	if diff := cmp.Diff(want, s.requests()); diff != "" {
		t.Error(diff)
	}
}

// TestPingLong cuts what services would not take, between two characters.
func TestPingLong(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	r := failed()
	r.Summary = "x" + strings.Repeat("ü", 100_000)
	if err := Tell(t.Context(), Target{Name: "hc", Ping: s.URL + "/KEY"}, r, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[0].Body; got != r.Summary[:longestPing-1] {
		t.Errorf("%d bytes, which end in %q", len(got), got[len(got)-4:])
	}
}

// TestPingAnswers tells again what may be a matter of time, and nothing else; nobody
// learns the URL from the error or from the log.
func TestPingAnswers(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() }
	status := func(codes ...int) func(http.ResponseWriter, *http.Request, int) {
		return func(w http.ResponseWriter, r *http.Request, number int) {
			w.WriteHeader(codes[min(number, len(codes))-1])
			fmt.Fprintf(w, "no luck\twith %s\x1b[2J and %s\nmore\n", r.URL.Path, "hunter2")
		}
	}
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, int)
		asked  int
		want   string // the error; empty for none
	}{
		{"any of 2xx", status(204), 1, ""},
		{"a broken service", status(500), 3, "asking for a URL at HOST: the answer is 500 Internal Server Error: no luck with *** [2J and ***"},
		{"a service that is broken for a while", status(503, 502, 200), 3, ""},
		{"too often", status(429, 200), 2, ""},
		{"a key that is wrong", status(404), 1, "asking for a URL at HOST: the answer is 404 Not Found: no luck with *** [2J and ***"},
		{"a key that is told to all", func(w http.ResponseWriter, _ *http.Request, _ int) {
			http.Error(w, "no KEY-is-known by that name", http.StatusNotFound)
		}, 1, "asking for a URL at HOST: the answer is 404 Not Found: no *** by that name"},
		{"nothing", hang, 0, "asking for a URL at HOST: there was no answer within "},
		{"a connection that is cut", func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }, 3, "asking for a URL at HOST: EOF"},
		{"a way on", func(w http.ResponseWriter, r *http.Request, number int) {
			if number == 1 {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
		}, 2, ""},
		{"no way on", func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, 15, "asking for a URL at HOST: it sends us on and on"},
		{"a way on to nowhere", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Location", "http://127.0.0.1:1/KEY/hunter2")
			w.WriteHeader(http.StatusFound)
		}, 3, "asking for a URL at HOST: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"very much", func(w http.ResponseWriter, _ *http.Request, _ int) {
			for range 1 << 12 {
				if _, err := w.Write(make([]byte, 1<<12)); err != nil {
					return
				}
			}
		}, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.answer)
			target := Target{Name: "hc", Ping: s.URL + "/KEY-is-known/{job}", Hide: []string{"hunter2"}, Timeout: 300 * time.Millisecond}
			if c.asked > 0 {
				target.Timeout = time.Minute
			}
			var logged strings.Builder
			p := &pinger{
				client: &http.Client{CheckRedirect: follow, Transport: &http.Transport{DisableKeepAlives: true}},
				pauses: []time.Duration{time.Millisecond, time.Millisecond}, log: slog.New(slog.NewTextHandler(&logged, nil)),
			}
			err := p.tell(t.Context(), target, failed())
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), strings.TrimPrefix(s.URL, "http://"), "HOST")
			}
			if c.asked == 0 { // how often depends on how fast this machine is
				if !strings.HasPrefix(got, c.want) || len(s.requests()) > 3 {
					t.Errorf("asked %d times: %s\nwant %s", len(s.requests()), got, c.want)
				}
			} else if got != c.want || len(s.requests()) != c.asked {
				t.Errorf("asked %d times, not %d: %s\nwant %s", len(s.requests()), c.asked, got, c.want)
			}
			if strings.Contains(logged.String()+got, "KEY") || strings.Contains(logged.String()+got, "hunter2") {
				t.Errorf("the URL is seen:\n%s\n%s", logged.String(), got)
			}
		})
	}
}

// TestPingTLS: a certificate that nobody trusts is no answer, and nothing is told
// again in the open.
func TestPingTLS(t *testing.T) {
	open := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	secure := httptest.NewUnstartedServer(http.RedirectHandler(open.URL, http.StatusFound))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	target := Target{Name: "hc", Ping: secure.URL + "/KEY", Timeout: time.Minute}
	for want, client := range map[string]*http.Client{
		"certificate":                       {CheckRedirect: follow, Transport: &http.Transport{}},
		"it sends us on from https to http": {CheckRedirect: follow, Transport: secure.Client().Transport},
	} {
		p := &pinger{client: client, log: slog.New(slog.DiscardHandler)}
		if err := p.tell(t.Context(), target, failed()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "KEY") {
			t.Errorf("%v, not %s", err, want)
		}
	}
	if got := open.requests(); len(got) > 0 {
		t.Errorf("it is told in the open: %+v", got)
	}
}

// TestCommand finds the report in every way that it is told.
func TestCommand(t *testing.T) {
	dir := place(t)
	name := script(t, dir, `cat >"$1/stdin"; env | grep ^BUTTERSINK_ | grep -v DETAILS | sort >"$1/env"; printf %s "$BUTTERSINK_DETAILS" >"$1/details"; echo hunter2 is heard`)
	r := failed()
	r.Details = append(r.Details, "the password is hunter2")
	var logged strings.Builder
	target := Target{Name: "chat", Command: []string{name, dir}, Hide: []string{"hunter2"}}
	if err := Tell(t.Context(), target, r, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
		t.Fatal(err)
	}
	r.Details[len(r.Details)-1] = "the password is ***"
	var got Report
	if err := json.Unmarshal([]byte(read(t, dir+"/stdin")), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
	want := "BUTTERSINK_BEGUN=2026-11-21T03:00:00Z\nBUTTERSINK_ENDED=2026-11-21T04:00:00Z\nBUTTERSINK_EVENT=failure\nBUTTERSINK_HOST=nas\nBUTTERSINK_JOB=home\nBUTTERSINK_MESSAGE=1 of 2 destinations failed\n"
	if diff := cmp.Diff(want, read(t, dir+"/env")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(strings.Join(r.Details, "\n"), read(t, dir+"/details")); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(logged.String(), "*** is heard") || !strings.Contains(logged.String(), "notice=chat") {
		t.Errorf("the log:\n%s", logged.String())
	}
}

// TestTellFailures: whoever is told badly is named, and nothing hangs.
func TestTellFailures(t *testing.T) {
	dir := place(t)
	for name, c := range map[string]struct {
		target Target
		want   string
	}{
		"nobody":      {Target{Name: "x"}, "telling x: it has neither a URL, nor addresses, nor a command"},
		"no URL":      {Target{Name: "x", Ping: "ftp://host/KEY"}, "telling x: its URL is none: want http://HOST/PATH or https://HOST/PATH"},
		"a bad URL":   {Target{Name: "x", Ping: "http://a b/KEY%zz"}, "telling x: its URL is none: want http://HOST/PATH or https://HOST/PATH"},
		"no program":  {Target{Name: "x", Command: []string{dir + "/no"}}, "telling x: running a program: DIR/no is not there: install it, or correct its path"},
		"it fails":    {Target{Name: "x", Command: []string{script(t, dir, "echo no such channel; exit 1")}}, "telling x: running DIR/program: it ended with status 1: no such channel"},
		"no address":  {Target{Name: "x", Mail: []string{"root", "a@b\nBcc: everybody@example.org"}}, `telling x: "a@b\nBcc: everybody@example.org" is no address for a mail`},
		"no sendmail": {Target{Name: "x", Mail: []string{"root"}, Sendmail: []string{dir + "/sendmail", "-t"}}, "telling x: running a program: DIR/sendmail is not there: install it, or correct its path"},
	} {
		err := Tell(t.Context(), c.target, failed(), nil)
		if err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != c.want {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
	hangs := script(t, place(t), "exec sleep 1000")
	err := Tell(t.Context(), Target{Name: "x", Command: []string{hangs}, Timeout: 200 * time.Millisecond}, failed(), nil)
	if err == nil || !strings.Contains(err.Error(), "it has not ended within 200ms") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, target := range []Target{{Name: "x", Command: []string{hangs}}, {Name: "x", Ping: "http://127.0.0.1:1/"}} {
		if err := Tell(ctx, target, failed(), nil); err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("after the end: %v", err)
		}
	}
}

// place is a directory for programs that only this user can change.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func script(t *testing.T, dir, text string) string {
	t.Helper()
	name := filepath.Join(dir, "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
