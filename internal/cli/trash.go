package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// trashOptions are the flags of the trash commands.
type trashOptions struct {
	olderThan         ageFlag
	all, dryRun, json bool
	prices            string
	s3                s3Flags
}

// newTrash returns the commands about what has been removed from an archive.
func newTrash(env *Env) *cobra.Command {
	return newGroup("trash", "See, restore or delete what has been removed from an archive",
		`What "buttersink sync --delete" removes from an archive goes to its trash: below
"trash/" in the same bucket or directory, under its whole old name. What is in cold
storage cannot be moved, and stays where it is, with a mark beside it. It is listed
nowhere else, takes its space, and stays until "buttersink trash empty".`,
		newTrashList(env), newTrashRestore(env), newTrashEmpty(env))
}

// trashCommand returns a command about the trash, with the flags that all of them
// have.
func trashCommand(o *trashOptions, cmd *cobra.Command, run func(cmd *cobra.Command, url string, names []string) error) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(cmd.CommandPath(), "want an archive")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd, args[0], args[1:]) }
	f := cmd.Flags()
	f.Var(&o.olderThan, "older-than", "only what was removed more than `AGE` ago: 12h, 30d, 8w")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	s3FlagsOf(cmd, &o.s3)
	return cmd
}

func newTrashList(env *Env) *cobra.Command {
	var o trashOptions
	return trashCommand(&o, &cobra.Command{
		Use:   "list [flags] URL [NAME...]",
		Short: "List what is in the trash of an archive",
		Long: `trash list shows the streams in the trash of an archive, the oldest first: when it
was removed, the snapshot that it makes and the one that it starts from, and how
long it is. NAME is the path of a snapshot, or its last element.

Before: URL is an archive ("buttersink help urls"), and you may read there.

After: nothing has changed.`,
		Example: `  buttersink trash list s3://bucket/snaps/
  buttersink trash list --older-than 30d dir:///mnt/usb/snaps/
  buttersink trash list --json s3://bucket/snaps/ monday`,
	}, func(cmd *cobra.Command, url string, names []string) error {
		return env.untilReaderLeaves(o.run(cmd.Context(), env, cmd.CommandPath(), url, names, listTrash))
	})
}

func newTrashRestore(env *Env) *cobra.Command {
	var o trashOptions
	cmd := trashCommand(&o, &cobra.Command{
		Use:   "restore [flags] URL [NAME...]",
		Short: "Put back what is in the trash of an archive",
		Long: `trash restore puts streams from the trash of an archive back to where they were.
NAME is the path of a snapshot, or its last element; --all stands for everything.
What an increment starts from is put back too if it is in the trash as well.

Before: URL is an archive ("buttersink help urls"), and you may write there.

After: the snapshots are in the archive again, and not in the trash any more.
Nothing is overwritten: where another stream is in the place, the one in the trash
stays there, and the exit code is 6. A sync with --delete from a source that does
not have them removes them again.`,
		Example: `  buttersink trash restore -n --all s3://bucket/snaps/
  buttersink trash restore s3://bucket/snaps/ monday`,
	}, func(cmd *cobra.Command, url string, names []string) error {
		return o.run(cmd.Context(), env, cmd.CommandPath(), url, names, restoreTrash)
	})
	cmd.Flags().BoolVar(&o.all, "all", false, "everything in the trash")
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be put back, and do nothing")
	return cmd
}

func newTrashEmpty(env *Env) *cobra.Command {
	var o trashOptions
	cmd := trashCommand(&o, &cobra.Command{
		Use:   "empty [flags] URL [NAME...]",
		Short: "Delete what is in the trash of an archive for good",
		Long: `trash empty deletes streams in the trash of an archive for good, and asks for
nothing, so that a timer can call it: what was removed longer ago than --older-than
says, or everything with --all. NAME is the path of a snapshot, or its last element,
and restricts it to these. What goes is said before, and what that costs where a
storage class charges for a least time.

Before: URL is an archive ("buttersink help urls"), and you may delete there.

After: they are gone, except where the bucket itself keeps old versions. What is in
the archive has not changed.`,
		Example: `  buttersink trash empty -n --older-than 30d s3://bucket/snaps/
  buttersink trash empty --older-than 30d s3://bucket/snaps/
  buttersink trash empty --all dir:///mnt/usb/snaps/ monday`,
	}, func(cmd *cobra.Command, url string, names []string) error {
		return o.run(cmd.Context(), env, cmd.CommandPath(), url, names, emptyTrash)
	})
	cmd.Flags().BoolVar(&o.all, "all", false, "however long ago it was removed")
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be deleted, and do nothing")
	pricesFlag(cmd, &o.prices)
	return cmd
}

// ageFlag is a flag whose value is how long ago something was.
type ageFlag struct {
	age   time.Duration
	given string
}

func (f *ageFlag) String() string { return f.given }
func (f *ageFlag) Type() string   { return "AGE" }

// Set takes what was typed.
func (f *ageFlag) Set(text string) error {
	age, err := config.ParseAge(text)
	if err != nil {
		return err
	}
	f.age, f.given = age, text
	return nil
}

// trashVerb is what is done with the trash.
type trashVerb int

const (
	listTrash trashVerb = iota
	restoreTrash
	emptyTrash
)

// run does something with the trash of the archive that url names.
func (o *trashOptions) run(ctx context.Context, env *Env, command, url string, names []string, verb trashVerb) error {
	p, err := env.placeOf(command, url, false)
	if err != nil {
		return err
	}
	if p.Name != "" {
		names = append([]string{p.Name}, names...)
	}
	switch {
	case verb == restoreTrash && o.all && len(names) > 0:
		return usagef(command, "--all and the names of snapshots contradict each other")
	case verb == restoreTrash && !o.all && len(names) == 0 && o.olderThan.given == "":
		return usagef(command, "want the names of snapshots, or --all")
	case verb == emptyTrash && o.all && o.olderThan.given != "":
		return usagef(command, "--all and --older-than contradict each other")
	case verb == emptyTrash && !o.all && o.olderThan.given == "":
		return usagef(command, "want --older-than AGE, as in --older-than 30d, or --all")
	}
	prices, err := env.prices(o.prices)
	if err != nil {
		return err
	}
	st, err := env.openArchive(ctx, command, p, "what is removed there is gone", opening{s3: o.s3})
	if err != nil {
		return err
	}
	defer st.Close()
	view := &trashView{env: env, o: o, verb: verb, out: newRecords(env.Stdout)}
	options := job.TrashOptions{Names: names, DryRun: o.dryRun, Planned: view.planned, Forecast: view.forecast, Done: view.done}
	if o.olderThan.given != "" {
		options.Before = env.Now().Add(-o.olderThan.age)
	}
	engine := &job.Engine{Log: env.Log, Now: env.Now, Prices: prices}
	switch verb {
	case restoreTrash:
		err = engine.Restore(ctx, st.Store, options)
	case emptyTrash:
		err = engine.Empty(ctx, st.Store, options)
	default:
		var all []store.Trashed
		if all, err = engine.Trash(ctx, st.Store, options); err == nil {
			view.list(all)
		}
	}
	return errors.Join(explainTrash(err, st), view.out.err)
}

// explainTrash gives the errors of the engine their exit codes and hints.
func explainTrash(err error, st *opened) error {
	if _, ok := errors.AsType[*job.NotInTrashError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: fmt.Sprintf("'buttersink trash list %s' shows what is there.", shellWord(st.WithSlash()))}
	}
	e, ok := errors.AsType[*job.TrashError](err)
	if !ok {
		return err
	}
	x := &exitError{code: exitFailed, err: errors.Join(append([]error{e}, e.Failures...)...)}
	conflicts := 0
	for _, f := range e.Failures {
		if _, ok := errors.AsType[*store.ExistsError](f); ok {
			conflicts++
		}
	}
	switch {
	case conflicts == len(e.Failures):
		x.code = exitConflict
	case e.Done > 0:
		x.code = exitPartly
	}
	return x
}

// trashView shows people or machines what is in the trash, and what becomes of
// it.
type trashView struct {
	env  *Env
	o    *trashOptions
	verb trashVerb
	out  *records
}

// trashRecord is a stream in the trash.
type trashRecord struct {
	// Event is "trashed"; "would-restore", "restored", "not-restored";
	// "would-delete", "deleted" or "not-deleted".
	Event   string      `json:"event"`
	To      snapshot.ID `json:"to"`
	From    snapshot.ID `json:"from,omitzero"`
	Path    string      `json:"path"`
	Removed time.Time   `json:"removed,omitzero"`
	Bytes   *int64      `json:"bytes"`
	Handle  string      `json:"handle"`
	Error   string      `json:"error,omitempty"`
}

func (v *trashView) record(event string, t store.Trashed, err error) {
	v.out.put(trashRecord{
		Event: event, To: t.To, From: t.From, Path: validText(t.Path), Removed: t.When, Bytes: bytesOf(t.Size),
		Handle: validText(t.Handle), Error: errorText(err),
	})
}

// trashText is "ea7c...3ea1 a/monday from None (2.1 MiB)".
func trashText(t store.Trashed) string {
	from := "None"
	if !t.IsFull() {
		from = t.From.Short()
	}
	return fmt.Sprintf("%s %s from %s (%s)", t.To.Short(), t.Path, from, meter.Size(t.Size))
}

// list writes what is in the trash.
func (v *trashView) list(all []store.Trashed) {
	if v.o.json {
		for _, t := range all {
			v.record("trashed", t, nil)
		}
		return
	}
	out := bufio.NewWriterSize(v.env.Stdout, 64<<10)
	for _, t := range all {
		when := "unknown time       "
		if !t.When.IsZero() {
			when = t.When.Local().Format(time.DateTime)
		}
		io.WriteString(out, when+" "+printable(trashText(t))+"\n")
	}
	if len(all) > 0 {
		fmt.Fprintf(out, "TOTAL: %d diffs %s\n", len(all), meter.Size(totalOf(all)))
	}
	out.Flush() // env.Stdout keeps the error
}

func totalOf(all []store.Trashed) snapshot.Size {
	total := snapshot.ExactSize(0)
	for _, t := range all {
		total.Bytes += t.Size.Bytes
		total.Exact = total.Exact && t.Size.Known && t.Size.Exact
	}
	return total
}

// planned says what is going to happen.
func (v *trashView) planned(all []store.Trashed) {
	if v.o.json {
		return
	}
	what := map[trashVerb]string{restoreTrash: "Restore", emptyTrash: "Delete for good"}[v.verb]
	prefix := map[bool]string{true: "WOULD: ", false: ""}[v.o.dryRun]
	for _, t := range all {
		v.env.Log.Info(prefix + what + ": " + trashText(t))
	}
	v.env.Log.Info(fmt.Sprintf("%s%s: %d diffs %s in TOTAL", prefix, what, len(all), meter.Size(totalOf(all))))
}

// forecast says what removing for good costs.
func (v *trashView) forecast(e *job.Early) {
	if v.o.json {
		v.out.put(earlyRecord{Event: "forecast", Early: e})
		return
	}
	v.env.sayEarly(e)
}

// done tells programs what has become of a stream.
func (v *trashView) done(t store.Trashed, err error) {
	if !v.o.json {
		return
	}
	word := map[trashVerb]string{restoreTrash: "restore", emptyTrash: "delete"}[v.verb]
	switch {
	case err != nil:
		v.record("not-"+word+"d", t, err)
	case v.o.dryRun:
		v.record("would-"+word, t, nil)
	default:
		v.record(word+"d", t, nil)
	}
}
