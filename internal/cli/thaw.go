package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
)

// thawOptions are the flags of thaw.
type thawOptions struct {
	thawFlags
	dryRun, json bool
	exclude      []string
	s3           s3Flags
}

// thawGroups order the flags in the help of thaw.
var thawGroups = []flagGroup{
	{"Flags", []string{"dry-run", "exclude", "help", "json"}},
	coldGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style"}},
}

// newThaw returns the command that asks cold storage for streams and fetches none.
func newThaw(env *Env) *cobra.Command {
	var o thawOptions
	cmd := &cobra.Command{
		Use:   "thaw [flags] STORE[/SNAPSHOT]",
		Short: "Ask cold storage for what restoring a snapshot takes",
		Long: `thaw asks for everything that restoring a snapshot takes, from its full stream on,
at once: what is kept in the storage classes GLACIER and DEEP_ARCHIVE of S3, or in a
vault, cannot be read before it has been asked for, and some time has passed. With a
slash at the end that is about all snapshots below it. Nothing is fetched: that is
what "buttersink sync" does, which also asks by itself, but only for what its
destination does not have.

--tier says how soon: bulk (up to two days, and the cheapest), standard (hours), or
expedited (minutes, where there is such a thing). --days says for how long the
readable copy stays, which is charged. -n asks for nothing, and says how things
stand, what each tier costs, by estimate, and how long it takes.

Before: STORE is an archive ("buttersink help urls"), and you may read there and ask
for copies (s3:RestoreObject, glacier:InitiateJob).

After: everything has been asked for once, however often this is run. As long as
anything cannot be read yet, it is listed with when it is due, and the exit code is
5; when all can be read, it is 0. If it costs more than --max-cost, nothing has been
asked for, and the exit code is 6.`,
		Example: `  buttersink thaw -n s3://bucket/snaps/monday   what it would cost
  buttersink thaw --tier standard --max-cost 25 s3://bucket/snaps/monday
  buttersink thaw --wait s3://bucket/snaps/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one archive, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runThaw(cmd.Context(), env, cmd.CommandPath(), &o, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be asked for and what that costs, and ask for nothing")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	thawFlagsOf(cmd, &o.thawFlags)
	s3FlagsOf(cmd, &o.s3)
	groupFlags(cmd, thawGroups)
	return cmd
}

func runThaw(ctx context.Context, env *Env, command string, o *thawOptions, arg string) (err error) {
	view := &thawView{env: env, o: o, out: newRecords(env.Stdout), pending: waitingView{env: env}}
	var report *job.ThawReport
	defer func() {
		view.result(report, err)
		err = errors.Join(err, view.out.err)
	}()
	if err := o.check(command); err != nil {
		return err
	}
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	prices, err := env.prices(o.prices)
	if err != nil {
		return err
	}
	p, err := env.placeOf(command, arg, false)
	if err != nil {
		return err
	}
	with := opening{s3: o.s3}
	if !o.dryRun || p.Scheme == "glacier" { // whose catalogue it has
		with.ledger = env.openLedger()
	}
	st, err := env.openArchive(ctx, command, p, "nothing is ever cold there", with)
	if err != nil {
		return err
	}
	defer st.Close()
	engine := &job.Engine{Log: env.Log, Now: env.Now, Prices: prices}
	report, err = engine.Thaw(ctx, st.Store, job.ThawOptions{
		Selection: job.Selection{Name: st.Name, Exclude: exclude}, DryRun: o.dryRun,
		Thaw: o.options(), Wait: o.wait, MaxCost: o.maxCost, Planned: view.planned, Waiting: view.waiting,
	})
	return explainSync(err, command, st, "", "")
}

// thawView shows people or machines what is asked for.
type thawView struct {
	env     *Env
	o       *thawOptions
	out     *records
	pending waitingView
}

func (v *thawView) planned(r *job.ThawReport) {
	if v.o.json {
		// Empty lists, not null, for whoever loops over them.
		record := thawPlanRecord{Event: "thaw", DryRun: v.o.dryRun, Source: validText(r.Source), Streams: []thawingRecord{}, Problems: []problemRecord{}, Restoring: r.Restoring, Excluded: r.Excluded}
		for i, t := range r.Thawings {
			one := recordOfThawing(t, time.Time{})
			one.Path = validText(r.Steps[i].Path)
			record.Streams = append(record.Streams, one)
		}
		for _, p := range r.Problems {
			record.Problems = append(record.Problems, problemRecord{ID: p.Snapshot.ID, Path: validText(p.Path), Why: validText(p.Why), Conflict: p.Conflict})
		}
		v.out.put(record)
		return
	}
	if r.Excluded > 0 {
		v.env.Log.Info(fmt.Sprintf("Excluded: %d snapshots", r.Excluded))
	}
	readable := len(r.Thawings) - len(frozenOf(r.Thawings))
	if readable > 0 {
		v.env.Log.Info(fmt.Sprintf("%s can be read now", plural(readable, "stream", "streams")))
	}
	v.env.sayCold(&v.o.thawFlags, r.Thawings, v.o.dryRun)
	v.env.sayRestoring(&v.o.thawFlags, "Estimate of reading it", r.Restoring, v.o.dryRun)
}

func (v *thawView) waiting(all []job.Waiting) {
	if v.o.json {
		emitWaiting(v.out.put, all)
		return
	}
	v.pending.waiting(all)
}

// result ends what was shown.
func (v *thawView) result(r *job.ThawReport, err error) {
	record := thawResultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: v.o.dryRun, Error: errorText(err)}
	if e, ok := errors.AsType[*job.PendingError](err); ok {
		record.Pending, record.Due = len(e.Waiting), e.Due()
	}
	if r != nil {
		record.Asked = r.Asked
		for _, t := range r.Thawings {
			if t.State == store.Readable {
				record.Readable++
			}
		}
	}
	if v.o.json {
		v.out.put(record)
		return
	}
	if err == nil && !v.o.dryRun {
		v.env.Log.Info(fmt.Sprintf("Done: %s can be read", plural(record.Readable, "stream", "streams")))
	}
}

type (
	// thawPlanRecord is what it takes to restore snapshots.
	thawPlanRecord struct {
		Event     string          `json:"event"` // "thaw"
		DryRun    bool            `json:"dry_run"`
		Source    string          `json:"source"`
		Streams   []thawingRecord `json:"streams"` // each after what it starts from
		Problems  []problemRecord `json:"problems"`
		Excluded  int             `json:"excluded"`
		Restoring *job.Restoring  `json:"restoring,omitempty"` // what it costs, about
	}
	// thawResultRecord is the last record of a thaw.
	thawResultRecord struct {
		Event    string    `json:"event"` // "result"
		OK       bool      `json:"ok"`
		Exit     int       `json:"exit"`
		DryRun   bool      `json:"dry_run"`
		Asked    int       `json:"asked"` // by this run
		Readable int       `json:"readable"`
		Pending  int       `json:"pending"`
		Due      time.Time `json:"due,omitzero"`
		Error    string    `json:"error,omitempty"`
	}
)
