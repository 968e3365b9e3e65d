package notify

import (
	"bufio"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// post is an SMTP server (RFC 5321) that takes one mail, and says how its sender
// and receivers were named.
type post struct {
	from string
	to   []string
	text string
	err  error
}

func takeMail(l net.Listener) (p post) {
	c, err := l.Accept()
	if err != nil {
		return post{err: err}
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	say := func(line string) { fmt.Fprint(c, line+"\r\n") }
	say("220 test ESMTP")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			p.err = err
			return p
		}
		line = strings.TrimRight(line, "\r\n")
		switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); verb {
		case "MAIL":
			p.from = line
			say("250 OK")
		case "RCPT":
			p.to = append(p.to, line[strings.IndexByte(line, '<')+1:strings.IndexByte(line, '>')])
			say("250 OK")
		case "DATA":
			say("354 go on")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					p.err = err
					return p
				}
				if line == ".\r\n" {
					break
				}
				p.text += strings.TrimPrefix(line, ".")
			}
			say("250 OK")
		case "QUIT":
			say("221 bye")
			return p
		default:
			say("250 OK")
		}
	}
}

// TestMail has a real sendmail send a mail to a real server.
func TestMail(t *testing.T) {
	msmtp, err := exec.LookPath("msmtp")
	if err != nil {
		if os.Getenv("BUTTERSINK_TEST_REAL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := make(chan post, 1)
	go func() { taken <- takeMail(l) }()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	r := failed()
	r.Summary = "1 of 2 destinations failed für immer: " + strings.Repeat("a long line ", 200)
	err = Tell(t.Context(), Target{
		Name: "admin", Mail: []string{"root@example.org", "Ops <ops@example.org>"},
		Sendmail: []string{msmtp, "--file=/dev/null", "--host=" + host, "--port=" + port, "--from=backup@example.org", "--auth=off", "--tls=off", "--domain=test", "-i", "-t"},
	}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := <-taken
	if p.err != nil {
		t.Fatal(p.err)
	}
	if got := strings.Join(p.to, " "); got != "root@example.org ops@example.org" {
		t.Errorf("it went to %s", got)
	}
	for line := range strings.SplitSeq(p.text, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a line of a mail has %d bytes", len(line))
		}
	}
	head, body := parse(t, p.text)
	if head.Get("Subject") != "buttersink on nas: home has FAILED" || head.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("the head is %v", head)
	}
	want := strings.Join(append([]string{r.Summary}, r.Details...), "\n") +
		"\n\nIt began at Sat, 21 Nov 2026 03:00:00 +0000.\nIt ended at Sat, 21 Nov 2026 04:00:00 +0000.\n"
	if body != want {
		t.Errorf("the text is\n%s\nwant\n%s", body, want)
	}
}

// TestMailScript gives a mail to a program of the user's.
func TestMailScript(t *testing.T) {
	dir := place(t)
	name := script(t, dir, `cat >"$1"; echo "$2" >>"$1"; test "$2" = -t`)
	r := failed()
	r.Job, r.Host, r.Event, r.Details = "ho\r\nBcc: everybody@example.org\r\nme", "näs", Success, nil
	if err := Tell(t.Context(), Target{Name: "x", Mail: []string{"root"}, Sendmail: []string{name, dir + "/mail", "-t"}}, r, nil); err != nil {
		t.Fatal(err)
	}
	head, body := parse(t, read(t, dir+"/mail"))
	subject, err := new(mime.WordDecoder).DecodeHeader(head.Get("Subject"))
	if err != nil || subject != "buttersink on näs: ho  Bcc: everybody@example.org  me is done" || head.Get("Bcc") != "" || head.Get("To") != "root" {
		t.Errorf("%q, %v, %v", subject, err, head)
	}
	if !strings.HasPrefix(body, r.Summary+"\n\nIt began at") || !strings.HasSuffix(body, "\n-t\n") {
		t.Errorf("the text is\n%s", body)
	}
	if from := head.Get("From"); !strings.HasSuffix(from, " (buttersink)") || strings.HasPrefix(from, " ") {
		t.Errorf("it comes from %q", from)
	}
}

func parse(t *testing.T, text string) (netmail.Header, string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, strings.ReplaceAll(string(body), "\r\n", "\n")
}
