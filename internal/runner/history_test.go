package runner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/ledger"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// history fills a ledger with runs of a job, one a line:
//
//	-26h done: /home done, /home>nas failed (the disk is full)
//	-2h  failed (before: exit status 1)
//	-1h  killed: /home done
//	-1h  done: /home>nas done @-3h #there
//
// The first word is when it began, as told from noon; it ends a minute later. Behind @
// is of when the newest snapshot was, and behind # which place it was.
func history(t *testing.T, job, lines string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ending := func(text string) (ledger.Result, string) {
		word, message, _ := strings.Cut(text, " (")
		return ledger.Result(word), strings.TrimSuffix(message, ")")
	}
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		when, rest, _ := strings.Cut(line, " ")
		head, places, _ := strings.Cut(strings.TrimSpace(rest), ": /")
		ago, err := time.ParseDuration(when)
		if err != nil {
			t.Fatal(err)
		}
		begun := noon.Add(ago)
		id, err := l.BeginJob(job, begun)
		if err != nil {
			t.Fatal(err)
		}
		for p := range strings.SplitSeq("/"+places, ", ") {
			where, how, ok := strings.Cut(p, " ")
			if !ok {
				continue
			}
			source, destination, _ := strings.Cut(where, ">")
			how, place, _ := strings.Cut(how, " #")
			how, made, known := strings.Cut(how, " @")
			p := ledger.PlaceRun{Source: source, Destination: destination, Ended: begun.Add(time.Minute), Place: place}
			if known {
				ago, err := time.ParseDuration(made)
				if err != nil {
					t.Fatal(err)
				}
				p.AsOf = noon.Add(ago)
			}
			p.Result, p.Message = ending(how)
			if err := l.EndPlace(id, p); err != nil {
				t.Fatal(err)
			}
		}
		if result, message := ending(head); result != "killed" {
			if err := l.EndJob(id, ledger.Outcome{Result: result, Message: message, Ended: begun.Add(time.Minute)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// said is a status in lines.
func said(s *Status) (text string) {
	for _, j := range s.Jobs {
		text += j.Job + ":"
		if j.Running {
			text += " running"
		}
		if !j.NextDue.IsZero() {
			text += " next " + j.NextDue.Format("01-02 15:04")
		}
		if j.Trouble != "" {
			text += " (" + j.Trouble + ")"
		}
		text += "\n"
		for _, p := range j.Places {
			word := map[bool]string{true: "LATE", false: "fine"}[p.Late]
			if p.Failed {
				word += "!"
			}
			text += strings.TrimRight(fmt.Sprintf("%s %s>%s %s", word, p.Source, p.Destination, p.Why), " ") + "\n"
		}
	}
	return text
}
