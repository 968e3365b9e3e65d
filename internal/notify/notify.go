// Package notify tells people and services how a job went: by asking for a URL, by
// mail, or by a program of the user's.
//
//	err := notify.Tell(ctx, notify.Target{Name: "hc", Ping: "https://hc-ping.com/KEY/{job}"}, report, log)
//
// It knows how each way of telling works, and what it may say. It does not know what
// a job does, which events somebody wants to hear of, nor whether it matters that
// nobody could be told.
//
// # A ping
//
// The URL is asked for as it is after a success, with /start below its path when a
// job begins, and with /fail below it after a failure; "{job}" in it stands for the
// job. That is how https://healthchecks.io/docs/http_api/ has it. It is a GET as long
// as there is nothing to say, else a POST of the text, cut at 10 KB. Any status from
// 200 to 299 is an answer. What may be a matter of time (no connection, no answer,
// 408, 429, 5xx) is tried three times.
//
// # A mail
//
// One message of plain text (RFC 5322) is given to sendmail on its standard input,
// with the addresses in its head, from where sendmail -t takes them. It comes from the
// user of this process, by name only: sendmail knows the domain. Auto-Submitted (RFC
// 3834) keeps it from being answered by programs.
//
// # A command
//
// It finds the report as one JSON object on its standard input, and in these
// variables (see package hook for the rest of its surroundings):
//
//	BUTTERSINK_EVENT    start, success or failure
//	BUTTERSINK_JOB      the job
//	BUTTERSINK_HOST     this machine
//	BUTTERSINK_BEGUN    when the run has begun, as RFC 3339 has it
//	BUTTERSINK_ENDED    when it has ended; empty at the start
//	BUTTERSINK_MESSAGE  the summary
//	BUTTERSINK_DETAILS  the details, one a line
//
// # What may be relied on
//
//   - Tell returns within the target's time, and some seconds for what does not want
//     to end.
//   - Secrets of a target go nowhere but to whom they are meant for: they are starred
//     in what is told, in errors and in what programs print. The path of a ping's URL
//     is one.
//
// # Memory
//
// The report, some times over.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/hook"
)

// Event is what is told.
type Event string

const (
	// Start is told when a job begins.
	Start Event = "start"
	// Success is told when all of it was done.
	Success Event = "success"
	// Failure is told when some of it was not.
	Failure Event = "failure"
)

// Report is what there is to tell.
type Report struct {
	Event Event  `json:"event"`
	Job   string `json:"job"`
	Host  string `json:"host"`
	// Begun and Ended are of the run; it ends when the start is long over.
	Begun time.Time `json:"begun,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Summary is one line, and Details several.
	Summary string   `json:"summary"`
	Details []string `json:"details,omitempty"`
}

// Target is whom to tell; one of Ping, Mail and Command is set.
type Target struct {
	// Name is what people call it.
	Name string
	// Ping is the URL of a success, in which "{job}" stands for the job.
	Ping string
	// Mail are addresses, and Sendmail is the program that is given the message, with
	// its arguments; nil is the usual one.
	Mail     []string
	Sendmail []string
	// Command is a program with its arguments.
	Command []string
	// Timeout is how long all of it may take; 0 is Usual.
	Timeout time.Duration
	// Hide is starred wherever it would be shown.
	Hide []string
}

// Usual is how long telling may take unless one says otherwise.
const Usual = 30 * time.Second

// Tell tells one target. What its program prints goes to the log. Where ctx ends with
// a run that is interrupted, nobody hears of that: whoever wants them to calls it
// with one that does not (context.WithoutCancel).
func Tell(ctx context.Context, t Target, r Report, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("notice", t.Name)
	t.Timeout = cmp.Or(t.Timeout, Usual)
	r = r.starred(t.Hide)
	var err error
	switch {
	case t.Ping != "":
		err = ping(ctx, t, r, log)
	case len(t.Mail) > 0:
		err = mail(ctx, t, r, log)
	case len(t.Command) > 0:
		err = command(ctx, t, r, log)
	default:
		err = errors.New("it has neither a URL, nor addresses, nor a command")
	}
	if err != nil {
		return fmt.Errorf("telling %s: %w", t.Name, err)
	}
	return nil
}

// starred is a report without secrets.
func (r Report) starred(secrets []string) Report {
	r.Summary = Star(r.Summary, secrets)
	details := make([]string, 0, len(r.Details))
	for _, d := range r.Details {
		details = append(details, Star(d, secrets))
	}
	r.Details = details
	return r
}

// Star replaces secrets in a text, the longest first: where one begins as another
// does, no rest of it is left.
func Star(text string, secrets []string) string {
	secrets = slices.SortedStableFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

// text is the summary and the details as lines.
func (r Report) text() string {
	return strings.Join(append([]string{r.Summary}, r.Details...), "\n") + "\n"
}

// run runs a program that tells.
func run(ctx context.Context, t Target, argv []string, env []string, stdin []byte, log *slog.Logger) error {
	return hook.Run(ctx, hook.Program{Argv: argv, Env: env, Stdin: stdin, Timeout: t.Timeout, Log: log, Hide: t.Hide})
}
