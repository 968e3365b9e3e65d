package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// UsualSendmail is what is given a mail unless one says otherwise: it takes the
// addresses from the head, and a line with a dot for a line with a dot.
func UsualSendmail() []string { return []string{"/usr/sbin/sendmail", "-i", "-t"} }

// mail gives a message to sendmail.
func mail(ctx context.Context, t Target, r Report, log *slog.Logger) error {
	text, err := message(t.Mail, r, time.Now())
	if err != nil {
		return err
	}
	argv := t.Sendmail
	if len(argv) == 0 {
		argv = UsualSendmail()
	}
	return run(ctx, t, argv, nil, text, log)
}

// message writes a mail.
func message(to []string, r Report, now time.Time) ([]byte, error) {
	for _, address := range to {
		if oneLine(address) != address || strings.TrimSpace(address) == "" {
			return nil, fmt.Errorf("%q is no address for a mail", address)
		}
	}
	if len(to) == 0 {
		return nil, errors.New("a mail needs an address")
	}
	var b bytes.Buffer
	head := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	head("From", sender())
	head("To", strings.Join(to, ",\n "))
	head("Subject", mime.QEncoding.Encode("utf-8", oneLine(subject(r))))
	head("Date", now.Format(time.RFC1123Z))
	head("Auto-Submitted", "auto-generated")
	head("MIME-Version", "1.0")
	head("Content-Type", "text/plain; charset=utf-8")
	head("Content-Transfer-Encoding", "quoted-printable")
	b.WriteByte('\n')
	body := quotedprintable.NewWriter(&b)
	fmt.Fprint(body, strings.ToValidUTF8(r.text(), "\uFFFD"))
	if !r.Begun.IsZero() {
		fmt.Fprintf(body, "\nIt began at %s.\n", r.Begun.Format(time.RFC1123Z))
	}
	if !r.Ended.IsZero() {
		fmt.Fprintf(body, "It ended at %s.\n", r.Ended.Format(time.RFC1123Z))
	}
	if err := body.Close(); err != nil {
		return nil, fmt.Errorf("writing the mail: %w", err)
	}
	// Programs want lines to end as they do here, and see to those of SMTP.
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")), nil
}

// sender is whom a mail comes from, as cron has it.
func sender() string {
	name := "root"
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		name = oneLine(u.Username)
	}
	return name + " (buttersink)"
}

func subject(r Report) string {
	what := map[Event]string{Start: "begins", Success: "is done", Failure: "has FAILED"}[r.Event]
	return fmt.Sprintf("buttersink on %s: %s %s", r.Host, r.Job, what)
}

// oneLine is a text in which nothing ends a line, or moves what reads it.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == unicode.ReplacementChar {
			return ' '
		}
		return c
	}, text)
}
