package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/metrics"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
)

// statusOptions are the flags of status.
type statusOptions struct {
	maxAge   ageFlag
	textfile string
	json     bool
}

// newStatus returns the command that answers how things stand with jobs.
func newStatus(env *Env) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [flags] [JOB...]",
		Short: "Show how jobs stand: last success, what is missing, what is due next",
		Long: `status answers how things stand with the jobs of the configuration, or with those
that are named: for each source and each of its destinations, when it last
succeeded, how many snapshots were missing there after the last run, how many
streams the newest one depends on in an archive, when the job is due again, and
what is wrong. It asks no destination; all it knows is in the configuration, and in
the ledger, into which "buttersink run" writes.

A place is late if its last success is older than --max-age; else than the job's
"max-age"; else than its "every" and a quarter of it, but at least two hours more.
Where nothing says how old it may be, it is late if the last run did not succeed
there, or if the success is more than twice as old as the times between the last
runs were (26 hours at least, and 8 days if there was one day only): what starts the
job has stopped. It is late in any case if it never succeeded, also while its first
run goes on, and if the last success is in the future: then the clock was set back,
and nobody knows how old it is. A run that failed while the last success is young
enough is shown, and is not late. What succeeded where the configuration had a
destination before does not count. Where the last run was cut short, a pattern and
an outer source have a line of their own: there may be subvolumes that no run has
come to.

A subvolume that a pattern or "nested" found once and finds no more is shown as
gone. It is late when its last success is too old, and forgotten thirty days later,
or at once where "exclude" names it. A source at which runs have left something to
remove to the next one for 30 days is late, too: what is at work there for so long
may hang.

Where others make the snapshots ("snapshot = false"), the newest one may be no older
than the last success: runs that find nothing new for ever back up nothing. Where
the job makes them, and makes none as "only-if-changed" says, nothing has changed,
and the last run counts.

With -q, only what is late is shown, a place in a line.

With --textfile, the same is written for Prometheus too, as node_exporter reads it.
"textfile" in the configuration has "buttersink run" do that after each job.

Before: the configuration is right ("buttersink config check"), and you are who runs
the jobs: the ledger can be read by nobody else.

After: nothing has changed, but for the file of --textfile. The exit code is 0 if
nothing is late, 4 if something is, 1 if everything is, and 3 if the configuration
is wrong.`,
		Example: `  buttersink status
  buttersink status --max-age 26h home     for monitoring, by the exit code
  buttersink status --json
  buttersink status --textfile /var/lib/prometheus/node-exporter/buttersink.prom`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(runStatus(cmd.Context(), env, cmd.CommandPath(), &o, args))
		},
	}
	f := cmd.Flags()
	f.Var(&o.maxAge, "max-age", "how old the last success may be, of all jobs: `AGE` is 26h, 2d, 8w")
	f.StringVar(&o.textfile, "textfile", "", "write it for Prometheus to `FILE`, named *.prom, too")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	return cmd
}

func runStatus(_ context.Context, env *Env, command string, o *statusOptions, names []string) error {
	if o.maxAge.given != "" && o.maxAge.age == 0 {
		return usagef(command, "--max-age 0 is no age: everything would be late")
	}
	f, err := env.loadConfig()
	if err != nil {
		return err
	}
	jobs, err := jobsOf(command, f, names)
	if err != nil {
		return err
	}
	l, err := env.readLedger()
	if err != nil {
		return err
	}
	locks := env.jobLocks()
	all, err := runner.Look(f, l, env.Now(), o.maxAge.age, func(name string) bool { return runner.Running(locks, name) })
	if err != nil {
		return err
	}
	s := &runner.Status{At: all.At}
	for _, j := range all.Jobs {
		if slices.ContainsFunc(jobs, func(asked *config.Job) bool { return asked.Name == j.Job }) {
			s.Jobs = append(s.Jobs, j)
		}
	}
	end := explainStatus(s)
	if o.json {
		err = recordStatus(newRecords(env.Stdout), s, judge(end).code)
	} else if env.quiet > 0 {
		err = printLate(env.Stdout, s)
	} else {
		err = printStatus(env.Stdout, s)
	}
	if o.textfile != "" {
		err = errors.Join(err, metrics.Write(o.textfile, all)) // or the others would be gone from it
	}
	return errors.Join(err, end)
}

// readLedger opens the ledger of what has been done here, to be read; nil if there is
// none. One that is there and cannot be read is an error: nobody is told that nothing
// ever ran.
func (env *Env) readLedger() (*ledger.Ledger, error) {
	dir := env.stateDir()
	if dir == "" {
		return nil, errors.New("looking for the ledger: no directory for it is known; set BUTTERSINK_STATE")
	}
	path := filepath.Join(dir, ledgerFile)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		whose := ""
		if os.Geteuid() != 0 && env.Getenv("BUTTERSINK_STATE") == "" {
			whose = "; that of root is read by root only"
		}
		env.Log.Info("Nothing ever ran, as far as " + dir + " knows" + whose)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking for the ledger: %w", err)
	}
	l, err := ledger.Open(path)
	if err != nil {
		return nil, err
	}
	env.closers = append(env.closers, l)
	return l, nil
}

// explainStatus is what status ends with.
func explainStatus(s *runner.Status) error {
	late, all := s.Late()
	switch late {
	case 0:
		return nil
	case all:
		return &exitError{code: exitFailed, err: fmt.Errorf("everything is late (%d of %d)", late, all)}
	}
	return &exitError{code: exitPartly, err: fmt.Errorf("%d of %d are late", late, all)}
}

// printStatus writes a table for people, with what is wrong below the lines that it
// is about.
func printStatus(w io.Writer, s *runner.Status) error {
	var b strings.Builder
	var notes [][]string // below each line of the table
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tPLACE\tLAST SUCCESS\tAGE\tMISSING\tCHAIN\tNEXT DUE\tSTATE")
	notes = append(notes, nil)
	for i := range s.Jobs {
		j := &s.Jobs[i]
		for k := range j.Places {
			p := &j.Places[k]
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Job, printable(place.Redact(placeText(p.Source, p.Destination))),
				successText(p), ageText(p), missingText(p), chainText(p), whenText(j.NextDue), stateText(p))
			notes = append(notes, nil)
			if p.Why != "" {
				notes[len(notes)-1] = []string{p.Why}
			}
		}
		last := &notes[len(notes)-1]
		if j.Trouble != "" && len(j.Places) > 0 && !told(j) {
			*last = append(*last, j.Job+": "+j.Trouble)
		}
		if j.Running {
			*last = append(*last, j.Job+": a run is going on"+sinceText(j.Last))
		}
	}
	table.Flush()
	i := 0
	for line := range strings.Lines(b.String()) {
		text := strings.TrimRight(line, " \n") + "\n"
		for _, n := range notes[i] {
			text += "    " + printable(place.Redact(n)) + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		i++
	}
	return nil
}

// printLate writes only what is late, a place in a line, for who wants to hear of
// nothing else.
func printLate(w io.Writer, s *runner.Status) error {
	for _, j := range s.Jobs {
		for _, p := range j.Places {
			if !p.Late {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s: %s: %s\n", j.Job, printable(place.Redact(placeText(p.Source, p.Destination))), printable(place.Redact(p.Why))); err != nil {
				return err
			}
		}
	}
	return nil
}

// told tells whether what was wrong with the last run of a job is said of one of its
// places.
func told(j *runner.JobStatus) bool {
	for _, p := range j.Places {
		if p.Failed {
			return true
		}
	}
	return false
}

// placeText is "/home", or "/home -> nas/home/".
func placeText(source, destination string) string {
	if destination == "" {
		return source
	}
	return source + " -> " + destination
}

func successText(p *runner.PlaceStatus) string {
	if p.Success == nil {
		return "never"
	}
	return whenText(p.Success.Ended)
}

// whenText is a time as clocks show it here, or a dash.
func whenText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func ageText(p *runner.PlaceStatus) string {
	switch {
	case p.Success == nil:
		return "-"
	case p.Age >= 72*time.Hour:
		return fmt.Sprintf("%d d", int64(p.Age/(24*time.Hour)))
	}
	return meter.Span(max(p.Age, 0))
}

func missingText(p *runner.PlaceStatus) string {
	if p.Destination == "" || p.Try == nil || p.Try.Outstanding < 0 {
		return "-"
	}
	return fmt.Sprint(p.Try.Outstanding)
}

func chainText(p *runner.PlaceStatus) string {
	if p.Try == nil || p.Try.Chain == 0 {
		return "-"
	}
	return fmt.Sprint(p.Try.Chain)
}

func stateText(p *runner.PlaceStatus) string {
	switch {
	case p.Late:
		return "LATE"
	case p.Gone:
		return "gone"
	case p.Failed:
		return "failed"
	}
	return "fine"
}

func sinceText(last *ledger.JobRun) string {
	if last == nil || !last.Ended.IsZero() {
		return ""
	}
	return ", since " + whenText(last.Begun)
}

// jobStatusRecord and placeStatusRecord are what programs are told of a job and its
// places. Times are null where there is none.
type (
	jobStatusRecord struct {
		Event   string     `json:"event"` // "job"
		Job     string     `json:"job"`
		Running bool       `json:"running"`
		Begun   *time.Time `json:"last_begun"`
		Ended   *time.Time `json:"last_ended"`
		Result  string     `json:"last_result"` // "done", "failed", "interrupted"; "" if it is not known
		NextDue *time.Time `json:"next_due"`
		Trouble string     `json:"trouble,omitempty"`
	}
	placeStatusRecord struct {
		Event       string     `json:"event"` // "place"
		Job         string     `json:"job"`
		Source      string     `json:"source"`
		Destination string     `json:"destination"` // "" for the snapshots at the source
		Success     *time.Time `json:"last_success"`
		Age         *int64     `json:"age"`                      // of that, in seconds
		Limit       *int64     `json:"limit"`                    // of the age, in seconds
		Usual       bool       `json:"limit_is_usual,omitempty"` // nothing says so but how often the job ran
		Moved       bool       `json:"moved,omitempty"`          // it was another place at the last run
		AsOf        *time.Time `json:"newest_snapshot"`          // when it was made; null if that is not known
		Try         *time.Time `json:"last_try"`
		TryResult   string     `json:"last_try_result"`
		Snapshot    string     `json:"snapshot,omitempty"` // the newest one there
		Outstanding *int       `json:"outstanding"`        // null if it is not known
		Chain       int        `json:"chain"`
		Bytes       int64      `json:"bytes"`          // that the last try transferred
		Gone        bool       `json:"gone,omitempty"` // the source is not found any more
		Failed      bool       `json:"failed"`
		Late        bool       `json:"late"`
		Why         string     `json:"why,omitempty"`
	}
	statusRecord struct {
		Event string    `json:"event"` // "result"
		OK    bool      `json:"ok"`
		Exit  int       `json:"exit"`
		At    time.Time `json:"at"`
		Late  int       `json:"late"`
		All   int       `json:"all"`
	}
)

func recordStatus(out *records, s *runner.Status, exit int) error {
	for i := range s.Jobs {
		j := &s.Jobs[i]
		r := jobStatusRecord{Event: "job", Job: j.Job, Running: j.Running, NextDue: timeOrNull(j.NextDue), Trouble: validText(place.Redact(j.Trouble))}
		if j.Last != nil {
			r.Begun, r.Ended, r.Result = timeOrNull(j.Last.Begun), timeOrNull(j.Last.Ended), string(j.Last.Result)
		}
		out.put(r)
		for k := range j.Places {
			out.put(recordOfPlaceStatus(j.Job, &j.Places[k]))
		}
	}
	late, all := s.Late()
	out.put(statusRecord{Event: "result", OK: late == 0, Exit: exit, At: s.At.UTC(), Late: late, All: all})
	return out.err
}

func recordOfPlaceStatus(job string, p *runner.PlaceStatus) placeStatusRecord {
	r := placeStatusRecord{
		Event: "place", Job: job, Source: validText(place.Redact(p.Source)), Destination: validText(place.Redact(p.Destination)),
		Usual: p.Usual, Moved: p.Moved, Gone: p.Gone, Failed: p.Failed, Late: p.Late, Why: validText(place.Redact(p.Why)),
	}
	if p.Success != nil {
		age := int64(p.Age / time.Second)
		r.Success, r.Age, r.AsOf = timeOrNull(p.Success.Ended), &age, timeOrNull(p.Success.AsOf)
	}
	if p.Limit > 0 {
		limit := int64(p.Limit / time.Second)
		r.Limit = &limit
	}
	if t := p.Try; t != nil {
		r.Try, r.TryResult, r.Snapshot, r.Chain, r.Bytes = timeOrNull(t.Ended), string(t.Result), validText(t.Snapshot), t.Chain, t.Bytes
		if t.Outstanding >= 0 {
			r.Outstanding = &t.Outstanding
		}
	}
	return r
}

// timeOrNull is a time for JSON.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
