package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/transfer"
)

// btrsendProgram is the name that the program may be called by, and the program
// whose place it takes.
const btrsendProgram = "btrsend"

// btrsendOptions are the flags of btrsend.
type btrsendOptions struct {
	vault, account, region, endpoint string
	database                         string
	recipients                       []string
	level, partSize                  int

	archive           string
	compress          string
	encrypt           []string
	requireEncryption bool
	s3                s3Flags

	days            []int
	chain, lifetime int

	dryRun, noHook, complete bool
	prices                   string
}

// btrsendGroups order the flags in its help.
var btrsendGroups = []flagGroup{
	{"When", []string{"chain", "complete", "days-of-month", "lifetime"}},
	{"Where: a vault of Glacier", []string{"vault", "region", "recipient", "level", "database", "account", "endpoint"}},
	{"Where: any other archive", []string{"archive", "compress", "encrypt", "require-encryption", "s3-endpoint", "s3-path-style"}},
	{"What is done and said", []string{"part-size", "dry-run", "prices", "no-post-hook", "quiet", "logfile", "help", "version"}},
}

// newBtrsend returns the command that takes the stream of a day's snapshot if the
// calendar wants one, under the name by which it is called.
func newBtrsend(env *Env, name string) *cobra.Command {
	usual := schedule.Btrsend()
	o := &btrsendOptions{}
	cmd := &cobra.Command{
		Use:   name + " [flags] DATE",
		Short: "Back up by a calendar of chains, to cold storage",
		Long: `btrsend says whether the snapshot of DATE is to be backed up, and takes its stream.
Called by that name, it takes the place of the program btrsend, between the scripts
around it and the vault: its database, its archives and its log are carried on.

It prints one line at most, and then reads a stream from its standard input:

  nothing        there is no backup today, and nothing is read
  c              the stream of the whole snapshot is wanted
  i 2014-01-07   the increment from the snapshot of that date

On the --days-of-month a backup is made, each an increment on the one before it,
until a chain has --chain of them; then a complete one begins the next chain. Any
day, if there is no backup at all, a complete one is made. A chain is deleted when
its last backup is --lifetime days old, but never the newest one, and no increment
is made on what is that old: so as long as backups are made there is always a whole
chain, and what is in it can be restored.

Backups go to --vault, compressed by gzip and encrypted by the user's own gpg for
--recipient, so that "gpg -d | gunzip | btrfs receive" restores them; what is there
is written down in --database. With --archive they go to any other archive, as
snapshots that are called by their dates; that keeps books itself.

What happens is in .btrsend.log, in the working directory. If there is a program
.btrsend-post-hook beside it, it is run at the end of every run.

Before: DATE is YYYY-MM-DD. The vault exists ("buttersink init glacier://VAULT/"
makes one), and so does the archive. It runs as the user to whom the working
directory belongs; root is not needed.

After: if a backup was asked for and the exit code is 0, it is stored as a whole,
the vault has confirmed its checksum, and it is in the database. A stream that is
empty, cut short, damaged, or another than was asked for is stored nowhere, and the
exit code is 1. It is 4 if all is done but something that was to go is still there,
and 7 if another run is at work.`,
		Example: `  buttersink btrsend --recipient me@example.org 2026-11-21
  buttersink btrsend --dry-run 2026-11-21            say what would be done
  buttersink btrsend --archive s3://bucket/home/ 2026-11-21
  ln -s buttersink btrsend                           and it is btrsend`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one date, YYYY-MM-DD; got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBtrsend(cmd.Context(), env, cmd, o, args[0])
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.days, "days-of-month", usual.Days, "make a backup on these `DAYS`, with commas between them")
	f.IntVar(&o.chain, "chain", usual.Length, "let a chain have `N` backups, the complete one included")
	f.BoolVar(&o.complete, "complete", false, "make a complete backup, on any day: where the snapshot is lost that an increment would start from")
	f.IntVar(&o.lifetime, "lifetime", usual.Lifetime, "delete a chain `DAYS` after its last backup, if there is a newer one")
	f.StringVar(&o.vault, "vault", "Backup", "keep them in this `VAULT`")
	f.StringVar(&o.region, "region", "us-east-1", "which is in this `REGION`")
	f.StringVar(&o.account, "account", "", "and belongs to this `ACCOUNT` (default: that of the keys)")
	f.StringVar(&o.endpoint, "endpoint", "", "reach Glacier at this `URL` ($AWS_ENDPOINT_URL_GLACIER)")
	f.StringArrayVarP(&o.recipients, "recipient", "r", nil, "encrypt for this `KEY`, as gpg takes it; may be repeated")
	f.IntVar(&o.level, "level", 4, "have gzip compress at this `LEVEL`, from 1 to 9")
	f.StringVar(&o.database, "database", ".btrsend.db", "what there is is written down in this `FILE`")
	f.StringVar(&o.archive, "archive", "", "keep them in the archive at `URL` in place of a vault: dir://, s3://, glacier://")
	f.StringVar(&o.compress, "compress", "", "compress streams with `zstd`, or zstd:LEVEL, from 1 to 19")
	f.StringArrayVar(&o.encrypt, "encrypt", nil, "encrypt streams for `RECIPIENT`: age:KEY, age:FILE, or gpg:KEY; may be repeated")
	f.BoolVar(&o.requireEncryption, "require-encryption", false, "store nothing that is not encrypted")
	s3FlagsOf(cmd, &o.s3)
	f.IntVar(&o.partSize, "part-size", 0, "upload in 10,000 parts of this many `MiB` at most (default 32; 100 with --archive)")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be done, and do nothing")
	pricesFlag(cmd, &o.prices)
	f.BoolVar(&o.noHook, "no-post-hook", false, "do not run .btrsend-post-hook")
	groupFlags(cmd, btrsendGroups)
	return cmd
}

// check says what is wrong with the values of the flags.
func (o *btrsendOptions) check(cmd *cobra.Command) error {
	command := cmd.CommandPath()
	if err := o.calendar().Check(); err != nil {
		return &usageError{command: command, err: err}
	}
	only, where := []string{"compress", "encrypt", "require-encryption", "s3-endpoint", "s3-path-style"}, "only for --archive"
	if o.archive != "" {
		only, where = []string{"vault", "region", "account", "endpoint", "recipient", "level", "database"}, "not for --archive, whose URL and own flags say such things"
	}
	for _, name := range only {
		if cmd.Flags().Lookup(name).Changed {
			return usagef(command, "--%s is %s", name, where)
		}
	}
	if o.partSize != 0 && (o.partSize < 1 || o.partSize > mostPart) {
		return usagef(command, "--part-size %d: want 1 MiB or more, and %d at most", o.partSize, mostPart)
	}
	switch {
	case o.archive != "" && o.requireEncryption && len(o.encrypt) == 0:
		return usagef(command, "--require-encryption goes with --encrypt, which says for whom")
	case o.archive != "":
		return nil
	case len(o.recipients) == 0 && !o.dryRun:
		return usagef(command, "want --recipient, the key that backups are encrypted for, as gpg takes it")
	case o.level < 1 || o.level > 9:
		return usagef(command, "--level %d: want 1 to 9", o.level)
	case o.database == "":
		return usagef(command, "--database is empty: want a file")
	}
	if err := place.CheckVault(o.vault); err != nil {
		return usagef(command, "--vault %q: %w", o.vault, err)
	}
	return nil
}

func (o *btrsendOptions) calendar() schedule.Calendar {
	return schedule.Calendar{Days: o.days, Length: o.chain, Lifetime: o.lifetime}
}

func runBtrsend(ctx context.Context, env *Env, cmd *cobra.Command, o *btrsendOptions, text string) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	if o.dryRun {
		date, err := schedule.ParseDate(text)
		if err != nil {
			return err
		}
		return o.foretell(ctx, env, cmd.CommandPath(), date)
	}
	diary, err := env.openDiary()
	if err != nil {
		return err
	}
	defer diary.close()
	date, err := schedule.ParseDate(text)
	if err != nil {
		diary.failed(err)
		return err
	}
	if err = o.run(ctx, env, cmd.CommandPath(), diary, date); err != nil {
		diary.failed(err)
	}
	if !o.noHook {
		diary.hook(ctx)
	}
	return err
}

// run makes the backup of a day.
func (o *btrsendOptions) run(ctx context.Context, env *Env, command string, diary *diary, date schedule.Date) (err error) {
	who := fmt.Sprintf("buttersink btrsend %s (%d)", date, os.Getpid())
	shelf, err := o.open(ctx, env, command, who)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shelf.close()) }()
	engine := &job.Engine{Log: env.Log, Now: env.Now, Ledger: shelf.ledger}
	release := func() {}
	defer func() { release() }()
	in := &metered{in: env.Stdin, diary: diary, now: env.Now}
	show := env.newProgress(false)
	defer show.close()
	report, err := engine.Calendar(ctx, shelf.Store, job.CalendarOptions{
		Rule: o.calendar(), Today: date, Complete: o.complete, In: in, From: "standard input", Who: who,
		Removed: func(b job.DatedBackup, err error) {
			if err != nil {
				diary.say("Warning: Couldn't delete backup for date %s from %s (arn = %s)", b.Date, o.service(), shelf.named(ctx, b.Backup))
				diary.warn(err.Error())
			}
		},
		Decided: func(d schedule.Decision) error {
			if !d.Create {
				return nil
			}
			if env.StdinIsTerminal {
				return errors.New("a backup is due, and nobody sends one: standard input is a terminal; --dry-run only says what would be asked for")
			}
			diary.say("Attempting to create backup for date %s with parent %s", date, d.Parent)
			if env.KeepAwake != nil {
				release = env.KeepAwake(ctx, "Sending a snapshot", env.Log)
			}
			in.begin()
			_, err := fmt.Fprintln(env.Stdout, protocolLine(d))
			return err
		},
		Event: func(e transfer.Event) {
			if show.bars != nil && e.Kind != transfer.Warning { // where nobody looks on, the log is all there is
				show.event(e)
			}
			switch e.Kind {
			case transfer.Stalled:
				diary.warn(fmt.Sprintf("nothing has moved for %s: %s", e.Wait.Round(time.Second), e.Error))
			case transfer.Warning:
				diary.warn(e.Error)
			}
		},
	})
	if report != nil && report.Made {
		diary.say("Successfully created backup, arn = %s", shelf.named(ctx, schedule.Backup{Date: date, Parent: report.Decision.Parent}))
	}
	return explainBtrsend(err, report)
}

// protocolLine is how the caller is told which stream is wanted.
func protocolLine(d schedule.Decision) string {
	if d.Parent.IsZero() {
		return "c"
	}
	return "i " + d.Parent.String()
}

// service is where backups are, as the log has always called it.
func (o *btrsendOptions) service() string {
	if o.archive != "" {
		return place.Redact(o.archive)
	}
	return "Glacier"
}

// foretell says what would be done.
func (o *btrsendOptions) foretell(ctx context.Context, env *Env, command string, date schedule.Date) error {
	prices, err := env.prices(o.prices)
	if err != nil {
		return err
	}
	shelf, err := o.open(ctx, env, command, "")
	if err != nil {
		return err
	}
	defer shelf.close()
	engine := &job.Engine{Log: env.Log, Now: env.Now, Prices: prices}
	report, err := engine.Calendar(ctx, shelf.Store, job.CalendarOptions{Rule: o.calendar(), Today: date, Complete: o.complete, DryRun: true})
	if err != nil {
		return explainBtrsend(err, report)
	}
	for _, b := range report.Removed {
		on := "complete"
		if !b.Parent.IsZero() {
			on = "parent = " + b.Parent.String()
		}
		fmt.Fprintf(env.Stdout, "WOULD: Delete the backup of %s (%s)\n", b.Date, on)
	}
	switch d := report.Decision; {
	case !d.Create:
		fmt.Fprintf(env.Stdout, "No backup for %s: %s\n", date, d.Reason)
	case d.Parent.IsZero():
		fmt.Fprintf(env.Stdout, "WOULD: Create a complete backup for %s: %s\n", date, d.Reason)
	default:
		fmt.Fprintf(env.Stdout, "WOULD: Create a backup for %s with parent %s: %s\n", date, d.Parent, d.Reason)
	}
	forecast, err := engine.ForecastCalendar(ctx, shelf.Store, report)
	for _, line := range forecastLines(forecast) {
		fmt.Fprintln(env.Stdout, line)
	}
	return err
}

// explainBtrsend gives errors their exit codes and hints.
func explainBtrsend(err error, report *job.CalendarReport) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*job.RemovalError](err); ok && report != nil && (report.Made || !report.Decision.Create) {
		return &exitError{
			code: exitPartly, err: errors.Join(append([]error{e}, e.Failures...)...),
			hint: "The next run tries again to delete the rest.",
		}
	}
	_, unwanted := errors.AsType[*job.GivenError](err)
	if report != nil && report.Decision.Create && !report.Made {
		err = fmt.Errorf("nothing has been recorded: %w", err)
	}
	if _, other := errors.AsType[*store.ParentError](err); other || unwanted {
		return &exitError{code: exitFailed, err: err, hint: "Whoever calls it has to send the snapshot that it asks for, and no other. If the one that an increment would start from is lost, --complete begins a new chain."}
	}
	return err
}
