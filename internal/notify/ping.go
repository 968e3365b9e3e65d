package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// longestPing is how many bytes of the report a ping carries: what services of this
// kind keep of it.
const longestPing = 10_000

// shortestKey is from how many bytes on an element of the path is taken for a secret
// by itself: services have the key there.
const shortestKey = 8

// pinger asks for URLs.
type pinger struct {
	client *http.Client
	// pauses are made after each try but the last, which so are one more.
	pauses []time.Duration
	log    *slog.Logger
}

// statusError is an answer that is none.
type statusError struct {
	code int
	said string // the first line of it
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the answer is %d %s", e.code, http.StatusText(e.code))
	if e.said != "" {
		text += ": " + e.said
	}
	return text
}

// ping asks for the URL of an event.
func ping(ctx context.Context, t Target, r Report, log *slog.Logger) error {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: t.Timeout,
	}
	defer transport.CloseIdleConnections()
	p := &pinger{
		client: &http.Client{Transport: transport, CheckRedirect: follow},
		pauses: []time.Duration{time.Second, 3 * time.Second},
		log:    log,
	}
	return p.tell(ctx, t, r)
}

// errDowngrade is what is wrong with a redirection that gives a secret away.
var errDowngrade = errors.New("it sends us on from https to http")

// follow says which redirections are followed: some, but none that leaves TLS.
func follow(req *http.Request, via []*http.Request) error {
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errDowngrade
	}
	if len(via) >= 5 {
		return errors.New("it sends us on and on")
	}
	return nil
}

// tell tries until there is an answer.
func (p *pinger) tell(ctx context.Context, t Target, r Report) error {
	at, err := address(t.Ping, r)
	if err != nil {
		return err
	}
	body := ""
	if r.Summary != "" || len(r.Details) > 0 {
		body = cut(r.text(), longestPing)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.Timeout, fmt.Errorf("there was no answer within %v", t.Timeout))
	defer cancel()
	tries := len(p.pauses) + 1
	for try := 0; ; try++ {
		// What hangs leaves time for the next try.
		again, err := p.once(ctx, at, body, t.Timeout/time.Duration(tries))
		if err == nil {
			return nil
		}
		err = fmt.Errorf("asking for a URL at %s: %w", at.Host, hushed(err, t, at))
		if !again || try >= len(p.pauses) || ctx.Err() != nil {
			return err
		}
		p.log.Info("it is tried again", "error", err)
		select {
		case <-time.After(p.pauses[try]):
		case <-ctx.Done():
			return err
		}
	}
}

// address is the URL of an event.
func address(ping string, r Report) (*url.URL, error) {
	at, err := url.Parse(strings.ReplaceAll(ping, "{job}", url.PathEscape(r.Job)))
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("its URL is none: want http://HOST/PATH or https://HOST/PATH") // without showing it
	}
	switch r.Event {
	case Start:
		at = at.JoinPath("start")
	case Failure:
		at = at.JoinPath("fail")
	}
	return at, nil
}

// once tries once. Again is set if another try may help.
func (p *pinger) once(ctx context.Context, at *url.URL, body string, limit time.Duration) (again bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("there was no answer within %v", limit))
	defer cancel()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("User-Agent", "buttersink")
	if body != "" {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp, err := p.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return !errors.Is(err, errDowngrade), err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // an answer that was cut is one
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return false, nil
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	again = resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return again, &statusError{code: resp.StatusCode, said: cut(oneLine(first), 200)}
}

// hushed is an error without the URL, of which the path is a secret as a rule.
func hushed(err error, t Target, at *url.URL) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	secrets := append([]string{t.Ping, at.String(), at.RequestURI()}, t.Hide...)
	if at.Path != "/" {
		secrets = append(secrets, at.Path)
	}
	for _, part := range strings.Split(at.Path, "/") {
		if len(part) >= shortestKey {
			secrets = append(secrets, part)
		}
	}
	if text := err.Error(); Star(text, secrets) != text {
		return errors.New(Star(text, secrets))
	}
	return err
}

// cut is as much of a text as so many bytes hold.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
