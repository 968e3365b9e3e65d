package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// historyOptions are the flags of history.
type historyOptions struct {
	most int
	json bool
}

// newHistory returns the command that shows how jobs went.
func newHistory(env *Env) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history [flags] [JOB]",
		Short: "Show how jobs went",
		Long: `history shows the last runs of a job, or of all jobs, the newest first: when it
began, how it ended, how long it took, and what was transferred and removed; below
that, what became of each source and destination that did not go well, and what was
left for the next run as another one was at work at the place. Runs are in
the order in which they began, also where the clock was set back in between.

A run that is shown as killed has no end: the machine went off, or the program was
killed. The next run carries on what it has left.

The ledger keeps the last 10,000 runs, the last 100 of each job, and of each
destination the last success, however long ago that was. A source or destination
that neither the last 100 runs of its job nor those of 400 days were about is
forgotten. The configuration is not looked at: jobs that are not in it any more have
their history, too.

Before: you are who runs the jobs: the ledger can be read by nobody else.

After: nothing has changed.`,
		Example: `  buttersink history
  buttersink history -n 3 home
  buttersink history --json home`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd.CommandPath(), "want one job, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(runHistory(cmd.Context(), env, cmd.CommandPath(), &o, strings.Join(args, "")))
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.most, "number", "n", 20, "show the last `N` runs")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	return cmd
}

func runHistory(_ context.Context, env *Env, command string, o *historyOptions, job string) error {
	if o.most < 1 {
		return usagef(command, "want 1 run or more, not -n %d", o.most)
	}
	l, err := env.readLedger()
	if err != nil {
		return err
	}
	var runs []ledger.JobRun
	if l != nil {
		if runs, err = l.JobRuns(job, o.most); err != nil {
			return err
		}
	}
	if len(runs) == 0 && job != "" {
		return &exitError{code: exitFailed, err: fmt.Errorf("no run of a job %q is known here", job), hint: "'buttersink history' shows all that are known."}
	}
	words := endsOf(runs, func(job string) bool { return runner.Running(env.jobLocks(), job) })
	if o.json {
		out := newRecords(env.Stdout)
		for i, r := range runs {
			out.put(recordOfRun(r, words[i]))
		}
		return out.err
	}
	return printRuns(env.Stdout, runs, words)
}

// endsOf says how each run ended, in one word. Of one job, only the newest run can be
// the one that is going on.
func endsOf(runs []ledger.JobRun, running func(job string) bool) []string {
	var words []string
	seen := map[string]bool{}
	for _, r := range runs {
		switch {
		case r.Result != "":
			words = append(words, string(r.Result))
		case !seen[r.Job] && running(r.Job):
			words = append(words, "running")
		default:
			words = append(words, "killed")
		}
		seen[r.Job] = true
	}
	return words
}

// printRuns writes a table for people, with what did not go well below each run.
func printRuns(w io.Writer, runs []ledger.JobRun, words []string) error {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BEGAN\tJOB\tRESULT\tTOOK\tTRANSFERRED\tREMOVED")
	for i, r := range runs {
		transferred, removed, bytes := 0, 0, int64(0)
		for _, p := range r.Places {
			transferred, removed, bytes = transferred+p.Transferred, removed+p.Removed, bytes+p.Bytes
		}
		sent := "-"
		if transferred > 0 {
			sent = fmt.Sprintf("%d (%s)", transferred, meter.Size(snapshot.ExactSize(bytes)))
		}
		took := "-"
		if !r.Ended.IsZero() {
			took = "?" // the clock was set back
			if d := r.Ended.Sub(r.Begun); d >= 0 {
				took = meter.Duration(d)
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", r.Begun.Local().Format(time.DateTime), printable(r.Job), words[i], took, sent, removed)
	}
	table.Flush()
	i := -1 // the first line is the heading
	for line := range strings.Lines(b.String()) {
		text := strings.TrimRight(line, " \n") + "\n"
		if i >= 0 {
			text += troublesText(runs[i])
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		i++
	}
	return nil
}

// troublesText is what did not go well in a run, a line each. What the places say the
// run itself need not; the rest of its reasons come first.
func troublesText(r ledger.JobRun) (text string) {
	for why := range strings.SplitSeq(r.Message, "\n") {
		if why != "" && !slices.ContainsFunc(r.Places, func(p ledger.PlaceRun) bool { return tells(p, why) }) {
			text += "    " + printable(place.Redact(why)) + "\n"
		}
	}
	for _, p := range r.Places {
		line := placeText(p.Source, p.Destination) + ": " + string(p.Result)
		switch {
		case p.Result != ledger.Done:
		case p.Message == "":
			continue
		default:
			line = placeText(p.Source, p.Destination)
		}
		if p.Message != "" {
			line += ": " + p.Message
		}
		text += "    " + printable(place.Redact(line)) + "\n"
	}
	return text
}

// tells reports whether a reason of a run is told by what became of a place, which has
// failed: by the name of its source, or as a whole.
func tells(p ledger.PlaceRun, why string) bool {
	if p.Result == ledger.Done || p.Message == "" {
		return false
	}
	return strings.HasPrefix(why, p.Source+": ") || strings.Contains(why, p.Message)
}

// runRecord is what programs are told of a run.
type (
	runRecord struct {
		Event   string           `json:"event"` // "run"
		ID      int64            `json:"id"`
		Job     string           `json:"job"`
		Begun   time.Time        `json:"begun"`
		Ended   *time.Time       `json:"ended"`
		Result  string           `json:"result"` // "done", "failed", "interrupted", "running", "killed"
		Message string           `json:"message,omitempty"`
		Places  []placeRunRecord `json:"places"`
	}
	placeRunRecord struct {
		Source      string     `json:"source"`
		Destination string     `json:"destination"`
		Ended       *time.Time `json:"ended"`
		Result      string     `json:"result"`
		Message     string     `json:"message,omitempty"`
		Snapshot    string     `json:"snapshot,omitempty"`
		Transferred int        `json:"transferred"`
		Removed     int        `json:"removed"`
		Bytes       int64      `json:"bytes"`
		Outstanding *int       `json:"outstanding"`
		Chain       int        `json:"chain"`
	}
)

func recordOfRun(r ledger.JobRun, word string) runRecord {
	record := runRecord{
		Event: "run", ID: r.ID, Job: validText(r.Job), Begun: r.Begun, Ended: timeOrNull(r.Ended), Result: word,
		Message: validText(place.Redact(r.Message)), Places: []placeRunRecord{},
	}
	for _, p := range r.Places {
		one := placeRunRecord{
			Source: validText(place.Redact(p.Source)), Destination: validText(place.Redact(p.Destination)), Ended: timeOrNull(p.Ended), Result: string(p.Result),
			Message: validText(place.Redact(p.Message)), Snapshot: validText(p.Snapshot), Transferred: p.Transferred, Removed: p.Removed, Bytes: p.Bytes, Chain: p.Chain,
		}
		if p.Outstanding >= 0 {
			one.Outstanding = &p.Outstanding
		}
		record.Places = append(record.Places, one)
	}
	return record
}
