package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// pruneOptions are the flags of prune.
type pruneOptions struct {
	keep   keepRules
	prefix string
	others []string

	dryRun, force, wait, json, utc bool
	reclaim, makeWritable          bool
	staleAfter                     ageFlag
	prices                         string
	s3                             s3Flags
	ssh                            sshFlags
}

var pruneGroups = []flagGroup{
	{"Flags", []string{"dry-run", "for", "force", "help", "json", "prefix", "prices", "stale-after", "sync", "utc", "wait", "convert-rw"}},
	{"What is kept", []string{"keep", "keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly", "keep-within"}},
	sshGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style"}},
}

// newPrune returns the command that removes what is not due any more.
func newPrune(env *Env) *cobra.Command {
	o := &pruneOptions{}
	cmd := &cobra.Command{
		Use:   "prune [flags] STORE",
		Short: "Remove the snapshots that are not due any more",
		Long: `prune removes from STORE what its rules do not keep, and says of every snapshot
what becomes of it and why. It is what "buttersink backup" does at the end of a
run, for a place of its own: a btrfs directory, here or with ssh://, or an archive
("buttersink help urls"). -n only says it.

Rules are those of backup: each keeps the newest snapshot of each of the newest N
hours, days, weeks (from Monday), months or years that have any; what any rule
keeps stays. --keep has all of them at once:

  last:3,hourly:24,daily:7,weekly:5,yearly:all,min-age:2d,zone:Europe/Berlin

A series is the snapshots of one directory whose names are the same up to a date:
home-20261120-231455, home.20261120T2314, home-2026-11-20 and the like. Each is
judged by itself; --prefix names one and leaves the others alone. Without rules
all is kept. Never removed, whatever the rules say: the newest of a series; what
has no date in its name, or one in the future; what is held ("buttersink hold");
what a backup has begun to send and not finished; what a destination of a backup
needs for its next increment, until it has not been seen for --stale-after; what a
place given with --for shares with STORE last; in an archive, what a snapshot that
stays needs.

Before: STORE is there, on a mounted file system; it runs as root where btrfs is
concerned, or, with -w, as somebody who may remove subvolumes there.

After: what is said to be removed is gone; from an archive it has gone to the
trash ("buttersink trash"), and what emptying that at once would cost is said where
a storage class charges for a least time. More than half of a series at once takes
--force; without it nothing is removed, and the exit code is 6. If some could not be
removed it is 4.`,
		Example: `  buttersink prune -n --keep-daily 7 --keep-weekly 5 /mnt/bk/home/
  buttersink prune --keep last:3,daily:7,monthly:12 /mnt/bk/home/
  buttersink prune --keep-last 5 --for ssh://host/mnt/bk/ /home/snapshot/
  buttersink prune --json -n --keep daily:30 s3://bucket/home/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.ssh.spaced(cmd.CommandPath(), args...); err != nil {
				return err
			}
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one place with snapshots, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			err := runPrune(cmd.Context(), env, cmd.CommandPath(), o, args[0], cmd.Flags().Changed("prefix"))
			if o.dryRun {
				return env.untilReaderLeaves(err)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would become of each snapshot, and remove nothing")
	keepRulesOf(cmd, &o.keep)
	f.StringArrayVar(&o.others, "for", nil, "keep the newest snapshot that `STORE` has too; may be repeated")
	f.StringVarP(&o.prefix, "prefix", "p", "", "only the series whose names are this `PREFIX` and a date")
	f.Var(&o.staleAfter, "stale-after", "how long a destination that is not there keeps what it needs: an `AGE` (default 90d)")
	f.BoolVar(&o.force, "force", false, "remove more than half of a series at once")
	f.BoolVarP(&o.reclaim, "sync", "s", false, "wait until the space is free")
	f.BoolVarP(&o.makeWritable, "convert-rw", "w", false, "make snapshots writable before removing them, for who may not remove read-only ones")
	f.BoolVar(&o.wait, "wait", false, "wait while another run is at work, in place of ending with exit code 7")
	f.BoolVar(&o.utc, "utc", false, "dates in names are in UTC, and so are days, unless zone: in the rules says where these begin")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	pricesFlag(cmd, &o.prices)
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	groupFlags(cmd, pruneGroups)
	return cmd
}

func runPrune(ctx context.Context, env *Env, command string, o *pruneOptions, arg string, named bool) (err error) {
	view := &pruneView{env: env, o: o, out: newRecords(env.Stdout)}
	var report *job.PruneReport
	defer func() { view.result(report, err) }()
	rules, err := o.keep.rules(command)
	if err != nil {
		return err
	}
	p, err := env.placeOf(command, arg, true)
	if err != nil {
		return err
	}
	if p.Scheme == "shell" {
		return usagef(command, "what becomes of the streams that a command is given is its own affair: want a btrfs directory or an archive")
	}
	all := []site{p}
	for _, other := range o.others {
		q, err := env.placeOf(command, other, true)
		if err != nil {
			return err
		}
		all = append(all, q)
	}
	if err := o.fit(command, all); err != nil {
		return err
	}
	engine := &job.Engine{Log: env.Log, Now: env.Now}
	if engine.Prices, err = env.prices(o.prices); err != nil {
		return err
	}
	with := opening{s3: o.s3, ssh: o.ssh, mode: ssh.Write}
	with.local.MakeWritable, with.local.Rootless = o.makeWritable, true
	if o.dryRun {
		with.mode = ssh.Read
	} else {
		engine.Ledger = env.openLedger()
		with.ledger = engine.Ledger
	}
	st, err := env.open(ctx, command, p, with)
	if err != nil {
		return err
	}
	defer st.Close()
	view.archive = p.HasTrash()
	options := job.PruneOptions{
		Rules: in(rules, zoneOf(o.utc)), StaleAfter: o.staleAfter.age, Force: o.force, DryRun: o.dryRun,
		Reclaim: o.reclaim, Wait: o.wait, Who: strings.Join([]string{"buttersink prune", place.Redact(p.Arg)}, " "),
		Judged: view.judged, Forecast: view.forecast, Removed: view.removed,
	}
	if named {
		options.Prefix = &o.prefix
	}
	if o.utc {
		options.Zone = time.UTC
	}
	for _, q := range all[1:] {
		if q.Place, err = rooted(q.Place); err != nil {
			return err
		}
		other, err := env.open(ctx, command, q, opening{s3: o.s3, ssh: o.ssh, mode: ssh.Read})
		if err != nil {
			return fmt.Errorf("looking at what %s has: %w", place.Redact(q.Arg), err)
		}
		inv, err := other.List(ctx)
		if err = errors.Join(err, other.Close()); err != nil {
			return fmt.Errorf("looking at what %s has: %w", place.Redact(q.Arg), err)
		}
		reached := opening{s3: o.s3, ssh: o.ssh}.ofStore(q)
		q.Place = q.At(reached.s3.endpoint)
		options.For = append(options.For, job.Counterpart{ID: q.claimed(&syncOptions{ssh: reached.ssh}), Has: inv})
	}
	report, err = engine.Prune(ctx, st.Store, options)
	return explainPrune(err)
}

// fit says whether the flags about other machines and S3 have anything to say.
func (o *pruneOptions) fit(command string, all []site) error {
	if err := o.ssh.fit(command, all...); err != nil {
		return err
	}
	for _, p := range all {
		if p.Scheme == "s3" {
			return nil
		}
	}
	return o.s3.fit(command, all[0])
}

// forceHint says what to do where the rules would remove a lot.
const forceHint = "Nothing was removed there. 'buttersink prune -n' with the same rules says why each would go; if that is right, give --force once."

// tooMuch says what the rules would do, some of which may have to wait all the
// same.
func tooMuch(e *job.ForceError) error {
	series := ""
	if e.Series != "" {
		series = " " + e.Series + "…"
	}
	return fmt.Errorf("%s: the rules let go of %d of %d snapshots%s at once", e.Store, e.Going, e.Of, series)
}

// explainPrune gives the errors of retention their exit codes and hints.
func explainPrune(err error) error {
	if e, ok := errors.AsType[*job.ForceError](err); ok {
		return &exitError{code: exitConflict, err: tooMuch(e), hint: forceHint}
	}
	if e, ok := errors.AsType[*job.RemovalError](err); ok {
		return &exitError{code: exitPartly, err: errors.Join(append([]error{errors.New(e.Error())}, e.Failures...)...)}
	}
	return err
}

// verdictRecord is what becomes of a snapshot.
type verdictRecord struct {
	Event string      `json:"event"`           // "verdict"
	Place string      `json:"place,omitempty"` // of a backup: "source", or a destination
	ID    snapshot.ID `json:"id"`
	Path  string      `json:"path"`
	// Verdict is "keep", "remove" or "aside": the rules are not about it.
	Verdict string    `json:"verdict"`
	Time    time.Time `json:"time,omitzero"` // as its name says
	// Due is set where the rules alone would let it go.
	Due    bool   `json:"due"`
	Reason string `json:"reason"`
}

func recordOfVerdict(where string, j job.Verdict) verdictRecord {
	return verdictRecord{
		Event: "verdict", Place: validText(where), ID: j.Snapshot.ID, Path: validText(j.Snapshot.Path),
		Verdict: verdictWord(j), Time: j.Time, Due: j.Due, Reason: validText(j.Reason),
	}
}

func verdictWord(j job.Verdict) string {
	switch {
	case j.Aside:
		return "aside"
	case j.Keep:
		return "keep"
	}
	return "remove"
}

// pruneView shows people or machines what is removed.
type pruneView struct {
	env     *Env
	o       *pruneOptions
	out     *records
	archive bool
	going   int
}

// judged writes what becomes of each snapshot, and why.
func (v *pruneView) judged(all []job.Verdict) {
	for _, j := range all {
		if !j.Keep && !j.Aside {
			v.going++
		}
	}
	if v.o.json {
		for _, j := range all {
			v.out.put(recordOfVerdict("", j))
		}
		return
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SNAPSHOT\tVERDICT\tWHY")
	for _, j := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", printable(j.Snapshot.Path), verdictWord(j), printable(j.Reason))
	}
	table.Flush()
	io.WriteString(v.env.Stdout, b.String()) // which keeps the error
}

// forecast says what removing for good costs.
func (v *pruneView) forecast(e *job.Early) {
	if v.o.json {
		v.out.put(earlyRecord{Event: "forecast", Early: e})
		return
	}
	v.env.sayEarly(e)
}

func (v *pruneView) removed(s snapshot.Snapshot, err error) {
	switch {
	case v.o.json:
		v.out.put(removedRecord{Event: "removed", ID: s.ID, Path: validText(s.Path), Error: errorText(err)})
	case err == nil:
		v.env.Log.Info(fmt.Sprintf("%s %s", map[bool]string{true: "Trash", false: "Remove"}[v.archive], s.Path))
	}
}

// pruneResultRecord is the last record of a prune.
type pruneResultRecord struct {
	Event   string `json:"event"` // "result"
	OK      bool   `json:"ok"`
	Exit    int    `json:"exit"`
	DryRun  bool   `json:"dry_run"`
	Removed int    `json:"removed"`
	Kept    int    `json:"kept"`
	Error   string `json:"error,omitempty"`
}

func (v *pruneView) result(r *job.PruneReport, err error) {
	record := pruneResultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: v.o.dryRun, Error: errorText(err)}
	if r != nil {
		record.Removed, record.Kept = len(r.Removed), len(r.Verdicts)-len(r.Removed)
	}
	switch {
	case v.o.json:
		v.out.put(record)
	case err != nil || r == nil:
	case v.o.dryRun:
		v.env.Log.Info(fmt.Sprintf("WOULD: remove %d of %d", v.going, len(r.Verdicts)))
	default:
		v.env.Log.Info(fmt.Sprintf("Done: %d removed, %d kept", record.Removed, record.Kept))
	}
}
