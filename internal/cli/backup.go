package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/schedule"
)

// backupOptions are the flags of backup.
type backupOptions struct {
	syncOptions

	sourceCount, destinationCount countFlag
	latestOnly                    bool
	sourceKeep                    rulesFlag
	destinationKeep               destinationRules

	folder, prefix         string
	noSnapshot, noTransfer bool
	full, utc              bool

	reclaim, makeWritable    bool
	removeLocks, lockedDests bool
	skipChecks, force, wait  bool
	staleAfter               ageFlag

	verbosity         verbosityFlag
	typed             *cobra.Command // the flags as they were given
	debug, noProgress bool
}

// backupGroups order the flags in the help of backup.
var backupGroups = []flagGroup{
	{"What is done", []string{"no-snapshot", "no-transfer", "no-incremental", "snapshot-folder", "snapshot-prefix", "utc", "locked-dests", "remove-locks", "wait", "dry-run"}},
	{"What is kept", []string{"num-snapshots", "num-backups", "source-keep", "dest-keep", "stale-after", "force", "sync", "convert-rw"}},
	{"What is said", []string{"verbosity", "quiet", "btrfs-debug", "no-progress", "json", "logfile", "config", "help", "version"}},
	{"How it is sent", []string{"checkpoint", "decompress", "estimate", "kernel-send", "max-full", "mount", "parallel"}},
	sshGroup,
	{"To archives (dir://, s3://)", []string{"compress", "encrypt", "require-encryption", "max-chain", "max-restore", "part-size"}},
	{"S3", []string{"s3-endpoint", "s3-path-style", "storage-class", "sse", "kms-key", "prices"}},
	{"To a command (shell://)", []string{"again"}},
	{"Of old", []string{"latest-only", "skip-fs-checks"}},
}

// usualChain is how many streams a snapshot in an archive needs at most, unless
// one says otherwise: what is older than a chain can go only with all of it.
const usualChain = 30

// newBackup returns the command that makes a snapshot and brings it to many
// places, under the name by which it is called.
func newBackup(env *Env, name string) *cobra.Command {
	o := &backupOptions{}
	cmd := &cobra.Command{
		Use:   name + " [flags] SOURCE [DEST...]",
		Short: "Make a snapshot, send it to many places, keep what is due",
		Long: `backup makes a read-only snapshot of the subvolume SOURCE, brings every DEST what
it does not have yet, and then removes what is not due any more, here and there.
It is btrfs-backup's front door: called by that name, it is this command; its
command lines, its files with arguments, its directories of snapshots and its
record of unfinished transfers are carried on.

SOURCE is a subvolume of this machine, or ssh://[user@]host[:port]/path. Snapshots
of it are kept in its directory "snapshot", or where -f says, and are called
PREFIX and the local time, 20261120-231455. Each DEST is a directory or any other
place that "buttersink help urls" has: a path, ssh://, dir://, s3://, or
'shell://COMMAND', which is given each snapshot once. Without any, a snapshot is
made, and -N obeyed.

All destinations are served side by side, and the source is read once for those
that need the same stream. One that cannot be reached, or fails, never keeps the
others from what they get. What a run has begun and not finished is noted beside
the snapshots (.outstanding_transfers), and is settled by the next one.

An argument @FILE stands for what is in the file, one option with its value, or
one other argument, a line: no quotes, no comments but whole lines that begin with
#. A subvolume whose name begins with @ is written ./@home, or with its whole
path.

Retention: -N N and -n N keep the newest N at the source and at each destination.
--source-keep and --dest-keep have rules in their place:

  last:3,daily:7,weekly:5,monthly:12,yearly:all,min-age:2d,zone:Europe/Berlin

Each keeps the newest snapshot of each of the newest N periods that have any; what
any rule keeps stays. What a destination would not keep is not sent there. Nothing
goes until all destinations have ended, and at a destination nothing where
anything failed. Never removed, whatever the rules say: the newest snapshot that a
destination has too, since the next increment starts from it; what is held
("buttersink hold") or locked by an unfinished transfer; what a snapshot that
stays needs in an archive; what was not made from SOURCE, has no time in its name,
or one in the future. A destination that was not seen for --stale-after loses its
claim, and that is said. More than half of a series at once takes --force, unless
it has been due for longer.

Before: SOURCE is a subvolume on a mounted btrfs. Directories of btrfs are made if
they are missing, never on another file system; a dir:// archive has been made by
"buttersink init". It runs as root, or as somebody who owns SOURCE, may send and
receive, and, to remove, has a file system mounted with user_subvol_rm_allowed and
gives -w. On other machines it runs as the login, or with --ssh-sudo by sudo;
where there is no buttersink, btrfs and a shell do.

After: the snapshot is there, and every DEST that is reported as complete has what
is due there, whole and on the disk. The exit code is 0 only if nothing has
failed; 4 if something is done and something is not; 6 if the only trouble is what
is in the way, or a rule that would remove too much; 7 if another run is at work
here (see --wait).`,
		Example: fmt.Sprintf(`  %[1]s /home /mnt/bk/home
  %[1]s -N 5 -n 30 -p home- /home /mnt/bk ssh://host/mnt/bk
  %[1]s -N 5 --dest-keep daily:7,monthly:12 /home /mnt/bk/home
  %[1]s --encrypt age:backup.pub /home s3://bucket/home/
  %[1]s --dry-run @/etc/backup/home.conf      show what would be done
  %[1]s -q --wait @/etc/backup/home.conf      in a timer
  %[1]s -S --locked-dests /home     finish what was cut`, map[bool]string{true: name, false: "buttersink backup"}[name == backupProgram]),
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.ssh.spaced(cmd.CommandPath(), args...); err != nil {
				return err
			}
			if len(args) == 0 {
				return usagef(cmd.CommandPath(), "want the subvolume that is to be backed up")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.typed = cmd
			return runBackup(cmd.Context(), env, cmd.CommandPath(), o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.VarP(&o.sourceCount, "num-snapshots", "N", "keep the newest `N` snapshots at the source; 0 keeps all")
	f.VarP(&o.destinationCount, "num-backups", "n", "keep the newest `N` at each destination, and send no others; 0 keeps all")
	f.BoolVarP(&o.noSnapshot, "no-snapshot", "S", false, "make no snapshot; send those that are there")
	f.StringVarP(&o.folder, "snapshot-folder", "f", "snapshot", "keep the snapshots in this `DIR`, relative to SOURCE or absolute")
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "begin the names of snapshots with this `PREFIX`")
	f.BoolVarP(&o.noTransfer, "no-transfer", "T", false, "send nothing; make the snapshot, and remove what is not due")
	f.BoolVarP(&o.full, "no-incremental", "I", false, "send everything in full, the newest first")
	f.BoolVarP(&o.reclaim, "sync", "s", false, "after removing, wait until the space is free")
	f.BoolVarP(&o.makeWritable, "convert-rw", "w", false, "make snapshots writable before removing them, for who may not remove read-only ones")
	f.BoolVar(&o.removeLocks, "remove-locks", false, "forget the unfinished transfers to the given destinations")
	f.BoolVar(&o.skipChecks, "skip-fs-checks", false, "has no effect: btrfs is recognised by the directory itself")
	f.BoolVar(&o.latestOnly, "latest-only", false, "the same as -N 1")
	f.BoolVar(&o.lockedDests, "locked-dests", false, "add every destination to which a transfer is unfinished, but no commands")
	f.VarP(&o.verbosity, "verbosity", "v", "say what is of this `LEVEL` or worse: debug, info, warning, error (default info)")
	f.BoolVarP(&o.debug, "btrfs-debug", "d", false, "say every detail; -v debug is the same")
	f.BoolVarP(&o.noProgress, "no-progress", "P", false, "draw nothing; say only what begins and ends")

	f.Var(&o.sourceKeep, "source-keep", "keep by these `RULES` at the source")
	f.Var(&o.destinationKeep, "dest-keep", "keep by [DEST=]`RULES` at one or each destination; may be repeated")
	f.Var(&o.staleAfter, "stale-after", "how long a destination that is not there keeps what it needs: an `AGE` (default 90d)")
	f.BoolVar(&o.force, "force", false, "remove more than half of a series at once; send to a destination that is on another file system than before")
	f.BoolVar(&o.wait, "wait", false, "wait while another run is at work, in place of ending with exit code 7")
	f.BoolVar(&o.utc, "utc", false, "tell the time in names in UTC, and begin days there")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.estimate, "estimate", "e", false, "never measure by a test send; sizes are about right")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.IntVar(&o.maxChain, "max-chain", usualChain, "let no snapshot depend on more than `N` streams, and begin with a full one then; 0 is no limit")
	transferFlagsOf(cmd, &o.syncOptions)
	s3FlagsOf(cmd, &o.s3)
	pricesFlag(cmd, &o.thaw.prices)
	sshFlagsOf(cmd, &o.ssh)
	f.Lookup("ssh-sudo").Usage = "run the far side with sudo; =auto: unless the login is root; =never is the default"
	wireFlagsOf(cmd, &o.wire)
	groupFlags(cmd, backupGroups)
	return cmd
}

// countFlag is the value of -N and -n. It is decimal: what keeps ten must not keep
// eight since it was written as 010.
type countFlag int

func (f *countFlag) String() string { return strconv.Itoa(int(*f)) }
func (f *countFlag) Type() string   { return "N" }

// Set takes what was typed.
func (f *countFlag) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return errors.New("want a whole number")
	}
	*f = countFlag(n)
	return nil
}

// verbosityFlag is the value of --verbosity.
type verbosityFlag struct {
	level slog.Level
	given string
}

func (f *verbosityFlag) String() string { return f.given }
func (f *verbosityFlag) Type() string   { return "LEVEL" }

// Set takes what was typed.
func (f *verbosityFlag) Set(text string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[text]
	if !ok {
		return errors.New("want debug, info, warning or error")
	}
	f.level, f.given = level, text
	return nil
}

// speak has the console say as much as was asked for. -q wins, as it always did.
func (o *backupOptions) speak(env *Env) {
	switch {
	case env.quiet > 0:
	case o.debug:
		env.sayFrom(slog.LevelDebug)
	case o.verbosity.given != "":
		env.sayFrom(o.verbosity.level)
	}
}

// check says what is wrong with the values of the flags.
func (o *backupOptions) check(command string) error {
	switch {
	case o.sourceCount < 0:
		return usagef(command, "-N %d: want 1 or more, or 0 to keep all", o.sourceCount)
	case o.destinationCount < 0:
		return usagef(command, "-n %d: want 1 or more, or 0 to keep all", o.destinationCount)
	case o.sourceKeep.given != "" && (o.sourceCount > 0 || o.latestOnly):
		return usagef(command, "-N and --source-keep contradict each other: write last:%d into the rules", max(o.sourceCount, 1))
	case len(o.destinationKeep.order) > 0 && o.destinationCount > 0:
		return usagef(command, "-n and --dest-keep contradict each other: write last:%d into the rules", o.destinationCount)
	case o.folder == "":
		return usagef(command, "-f is empty: want a directory for the snapshots")
	case strings.ContainsAny(o.prefix, "/\x00\n"):
		return usagef(command, "-p %q: a prefix of names has no slash and no line end in it", o.prefix)
	}
	return o.syncOptions.check(command)
}

// sourceRules are the rules for the source.
func (o *backupOptions) sourceRules() schedule.Rules {
	rules := o.sourceKeep.rules
	if o.sourceCount > 0 {
		rules = schedule.Rules{Last: int(o.sourceCount)}
	}
	if o.latestOnly { // which has always come before -N
		rules = schedule.Rules{Last: 1}
	}
	return in(rules, zoneOf(o.utc))
}

func runBackup(ctx context.Context, env *Env, command string, o *backupOptions, source string, destinations []string) (err error) {
	o.speak(env)
	show := newBackupView(env, o)
	var report *job.BackupReport
	defer func() {
		show.close()
		show.result(report, err)
	}()
	if err := o.check(command); err != nil {
		return err
	}
	run, err := o.prepare(ctx, env, command, source, destinations)
	if err != nil {
		return err
	}
	show.places(run)
	engine := &job.Engine{Log: env.Log, Now: env.Now}
	if engine.Prices, err = env.prices(o.thaw.prices); err != nil {
		return err
	}
	if !o.dryRun {
		engine.Ledger = env.openLedger()
		run.ledger = engine.Ledger
		run.warnCommands()
	}
	defer keepRunning()() // before ssh is started, which goes on as well
	defer run.close()
	src, err := run.openSource(ctx)
	if err != nil {
		if first, ok := errors.AsType[*firstRunError](err); ok && o.dryRun {
			show.firstRun(first)
			return nil
		}
		return err
	}
	defer src.Close()
	show.ctx = ctx
	show.opened(src)
	show.foretells()

	report, err = engine.Backup(ctx, src.Store, job.BackupOptions{
		Prefix: o.prefix, Zone: zoneOf(o.utc),
		NoSnapshot: o.noSnapshot, NoTransfer: o.noTransfer, Full: o.full,
		Rules: o.sourceRules(), Destinations: run.destinations(), LockedDestination: run.locked(),
		RemoveLocks: o.removeLocks, StaleAfter: o.staleAfter.age, Force: o.force, Reclaim: o.reclaim, Wait: o.wait,
		Estimate: o.estimate, DryRun: o.dryRun, Who: "buttersink backup " + place.Redact(source),
		Unlocked: show.unlocked, Taken: show.taken, Measuring: show.measuring, Planned: show.planned, Event: show.event,
		Ended: show.ended, Judged: show.judged, Removed: show.removed,
	})
	return explainBackup(err, o)
}
