package cli

import (
	"errors"
	"fmt"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/meter"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	dryRun, delete, estimate, json bool
	kernelSend, decompress         bool

	exclude            []string
	partSize           int
	maxFull            sizeFlag
	maxRestore         sizeFlag
	checkpoint         sizeFlag
	mount              string
	maxChain, parallel int

	compress          string
	encrypt           []string
	requireEncryption bool
	identity          []string
	s3                s3Flags
	keep              keepFlags
	ssh               sshFlags
	wire              wireFlags
	thaw              thawFlags
	again             bool
}

// syncGroups order the flags in the help of sync and of the program.
var syncGroups = []flagGroup{
	{"Flags", []string{"config", "delete", "dry-run", "estimate", "exclude", "help", "json", "logfile", "max-full", "mount", "parallel", "quiet", "version"}},
	{"Between btrfs directories", []string{"checkpoint", "decompress", "kernel-send"}},
	sshGroup,
	{"To an archive (dir://, s3://)", []string{"compress", "encrypt", "require-encryption", "max-chain", "max-restore", "part-size"}},
	{"From an archive", []string{"identity"}},
	coldGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style", "storage-class", "sse", "kms-key"}},
	{"To a command (shell://)", []string{"again"}},
}

// newSync returns the command that brings one directory's snapshots to another.
func newSync(env *Env) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync [flags] SRC DST",
		Short: "Bring the snapshots of one directory to another",
		Long: `sync makes DST hold every snapshot that SRC holds. What is there already is
kept; what is missing is sent as an increment from a related snapshot that both
sides have, so that as little as possible is sent in all, and in full where there
is none. "buttersink explain" tells why one snapshot is sent as it is.

SRC is a directory with a slash at its end, for all snapshots below it, or one
snapshot without a slash. DST is a directory; snapshots get the same paths below
it as they have below SRC. Each is a btrfs directory of this machine, written as a
path, or of another one, ssh://user@host/path/, or an archive, dir:///path/ or
s3://bucket/prefix/; DST can also be a command, shell://COMMAND: see "buttersink
help urls".

Before: both directories exist, and those of btrfs are on mounted file systems; a
dir:// archive has been made by "buttersink init". It runs as root where btrfs is
concerned; on another machine it uses sudo, or is root there. Only read-only
subvolumes are snapshots; nested subvolumes are not part of the snapshot that they
lie in.

After: every snapshot that is reported as transferred is whole, read-only and on
the disk, with the identity of its source. Nothing is ever overwritten. A snapshot
that is on its way is called NAME.part. An interrupted run leaves nothing else
behind but the last checkpoint of each stream, NAME.checkpoint-OFFSET.part, and
the next run carries on from there: what comes before it is read and compared
again, and not written again. One is made after every GiB of a stream, or what
--checkpoint says, after every minute, and where the run is interrupted, if it
still can; 0 makes none.

An archive gets one object for each stream, whole or not at all, with a small file
beside it that describes and proves it. --compress and --encrypt seal the stream;
any machine with age, zstd and btrfs can open it again. A KEY of age begins with
age1, ssh-ed25519 or ssh-rsa; gpg asks the user's own gpg. To encrypt takes only
public keys, to restore the secret one (--identity). A storage class is for
streams; what describes them stays where it is read at once.

Over ssh, whole checked commands go both ways in one connection, compressed where
that pays (--wire-compression). One that breaks is made again by itself, and what
the other side has durably is not sent twice; so it is after a killed run. --limit
holds for everything that goes over ssh and to or from S3 together. Between two
other machines, everything goes through this one, and nothing is stored here.

An interrupted upload stays, unseen, and the next run carries on: the stream is
made again, and parts that are there already are compared and not sent again.

With --max-full, a full stream that is longer ends a run that nobody looks at
(standard input or standard error is no terminal) with exit code 6 before
anything is sent; on a terminal it is said, and sent. A missing parent is then
found out before it has cost a night and a disk. 0 allows no full stream at all.

Between btrfs directories, full streams carry data that the source stores
compressed as they are stored, where both kernels can. --decompress sends plain
data in their place; the destination then compresses as it is mounted.

While something is being sent, the machine does not go to sleep by itself, if the
login manager (systemd-logind) can be asked for that.

With --delete, snapshots inside DST that the directory of SRC does not hold are
removed, after everything else has succeeded; what will go is said before. A run
in which anything fails removes nothing. What is removed from an archive goes to
its trash ("buttersink trash"); what a snapshot that stays needs is not removed, nor
what is held there ("buttersink hold").

What SRC has in cold storage (the classes GLACIER, DEEP_ARCHIVE and the like of S3,
or a vault) has to be asked for before it can be read: all that the run needs is
asked for at once, by --tier. What can be read goes at once, the rest is listed with
when it is due, and the exit code is 5. The same command, later, here or on another
machine, carries on, and asks for nothing twice. --wait waits, as long as it takes,
and keeps no other run out meanwhile. -n asks for nothing, and says what it costs by
each tier; --max-cost ends a run that costs more with exit code 6 before anything is
asked for.

Only one run at a time can write to a btrfs directory; another ends with exit code
7. Several machines can write to one archive at the same time. Sending cannot be
stopped with Ctrl-Z: a stopped send has to start again.`,
		Example: `  buttersink sync -n /mnt/a/snaps/ /mnt/b/snaps/   show the plan, with exact sizes
  buttersink sync /mnt/a/snaps/ /mnt/b/snaps/      carry it out
  buttersink sync -d --exclude '.*-hourly' /mnt/a/snaps/ /mnt/b/snaps/
  buttersink sync /mnt/a/snaps/monday /mnt/b/snaps/
  buttersink sync -q --max-full 20GiB /mnt/a/snaps/ /mnt/b/snaps/   in a timer
  buttersink sync /mnt/a/snaps/ ssh://keeper@host/mnt/b/snaps/     push
  buttersink sync --limit 5M ssh://host/mnt/b/snaps/ /mnt/a/snaps/  pull, slowly
  buttersink sync /mnt/a/snaps/ dir:///mnt/usb/snaps/
  buttersink sync --encrypt age:backup.pub /mnt/a/snaps/ s3://bucket/snaps/
  buttersink sync -i /root/backup.key s3://bucket/snaps/ /mnt/b/snaps/   restore
  buttersink sync --max-cost 25 --wait s3://bucket/cold/monday /mnt/b/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.ssh.spaced(cmd.CommandPath(), args...); err != nil {
				return err
			}
			if len(args) != 2 {
				return usagef(cmd.CommandPath(), "want a source and a destination, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSync(cmd, env, &o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.delete, "delete", "d", false, "remove from DST what is not in SRC; without SRC: remove unfinished transfers")
	f.BoolVarP(&o.estimate, "estimate", "e", false, "never measure by a test send; sizes are about right")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	f.IntVar(&o.maxChain, "max-chain", 0, "let no snapshot depend on more than `N` streams, itself included; 0 is no limit")
	transferFlagsOf(cmd, &o)
	identityFlag(cmd, &o.identity)
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	wireFlagsOf(cmd, &o.wire)
	thawFlagsOf(cmd, &o.thaw)
	groupFlags(cmd, syncGroups)
	return cmd
}

func runSync(cmd *cobra.Command, env *Env, o *syncOptions, source, destination string) (err error) {
	ctx, command := cmd.Context(), cmd.CommandPath()
	show := newSyncView(env, o)
	var report *job.SyncReport
	defer func() {
		show.close()
		show.result(report, err)
	}()
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	from, err := env.placeOf(command, source, false)
	if err != nil {
		return err
	}
	to, err := env.placeOf(command, destination, true)
	if err != nil {
		return err
	}
	if err := to.settle(cmd); err != nil {
		return err
	}
	if err := o.check(command); err != nil {
		return err
	}
	show.goesForGood = to.OfBtrsend()
	if err := o.fits(command, from, to); err != nil {
		return err
	}
	prices, err := env.prices(o.thaw.prices)
	if err != nil {
		return err
	}
	engine := &job.Engine{Log: env.Log, Prices: prices}
	var notes *ledger.Ledger
	switch {
	case o.dryRun && from.Scheme != "glacier" && to.Scheme != "glacier": // which have a catalogue
		notes = env.notesFor(to)
	case o.dryRun:
		notes = env.openLedger()
	default:
		engine.Ledger = env.openLedger()
		notes = engine.Ledger
		if notes == nil && to.Scheme == "shell" {
			env.Log.Warn("What the command is given cannot be remembered: the next run gives it everything again; BUTTERSINK_STATE names a directory for that")
		}
	}
	defer keepRunning()() // before ssh is started, which goes on as well
	src, dst, err := o.open(ctx, env, command, from, to, notes)
	if err != nil {
		return err
	}
	defer src.Close()
	defer dst.Close()
	show.ctx = ctx

	planned := func(p *job.Outlook) {
		if show.outlook == nil {
			o.warnOpened(env, src, dst, p)
		}
		show.planned(p)
	}
	report, err = engine.Sync(ctx, src.Store, dst.Store, job.SyncOptions{
		Selection: job.Selection{Name: src.Name, Exclude: exclude},
		Delete:    o.delete, DryRun: o.dryRun, Estimate: o.estimate,
		MaxChain: o.maxChain, MaxRestore: o.maxRestore.bytes, MaxFull: o.fullLimit(env), Parallel: o.together(to),
		Thaw: o.thaw.options(), Wait: o.thaw.wait, MaxCost: o.thaw.maxCost,
		Who:       strings.Join([]string{"buttersink sync", src.Arg, dst.Arg}, " "),
		Measuring: show.measuring, Planned: planned, Event: show.event, Waiting: show.waiting, Removed: show.removed,
	})
	return explainSync(err, command, src, to.WithSlash(), o.maxFull.given)
}

// mostPart is how long a part of an upload may be, in MiB: what S3 takes.
const mostPart = 5 << 10

// check says what is wrong with the values of the flags.
func (o *syncOptions) check(command string) error {
	switch {
	case o.partSize < 1:
		return usagef(command, "--part-size %d: want 1 MiB or more", o.partSize)
	case o.partSize > mostPart:
		return usagef(command, "--part-size %d: want %d MiB at most", o.partSize, mostPart)
	case o.maxRestore.given != "" && o.maxRestore.bytes == 0:
		return usagef(command, "--max-restore %s: no stream is that short", o.maxRestore.given)
	case o.maxChain < 0:
		return usagef(command, "--max-chain %d: want 1 or more, or 0 for no limit", o.maxChain)
	case o.parallel < 0:
		return usagef(command, "--parallel %d: want 1 or more, or 0 for as many as seem best", o.parallel)
	}
	return o.thaw.check(command)
}

// fits says which flags have been given that the places have no use for: who
// asks for encryption and gets none has to know it.
func (o *syncOptions) fits(command string, from, to site) error {
	for _, f := range []struct {
		flag  string
		given bool
		use   bool
		where string
	}{
		{"--compress", o.compress != "", to.Archive(), "the destination is an archive (dir:// or s3://)"},
		{"--encrypt", len(o.encrypt) > 0, to.Archive(), "the destination is an archive (dir:// or s3://)"},
		{"--require-encryption", o.requireEncryption, to.Archive(), "the destination is an archive (dir:// or s3://)"},
		{"--max-restore", o.maxRestore.given != "", to.KeepsStreams(), "the destination is an archive (dir:// or s3://) or a command (shell://)"},
		{"--storage-class", o.keep.class != "", to.Scheme == "s3", "the destination is s3://"},
		{"--sse", o.keep.sse != "", to.Scheme == "s3", "the destination is s3://"},
		{"--kms-key", o.keep.kmsKey != "", to.Scheme == "s3", "the destination is s3://"},
		{"--s3-endpoint", o.s3.endpoint != "", from.Scheme == "s3" || to.Scheme == "s3", "one of both sides is s3://"},
		{"--s3-path-style", o.s3.pathStyle, from.Scheme == "s3" || to.Scheme == "s3", "one of both sides is s3://"},
		{"--identity", len(o.identity) > 0, from.Archive(), "the source is an archive (dir:// or s3://)"},
		{"--checkpoint", o.checkpoint.given != "", to.Ours(), "the destination is a btrfs directory on a machine with buttersink"},
		{"--mount", o.mount != "", to.Here() || to.Scheme == "dir", "the destination is a directory of this machine"},
		{"--kernel-send", o.kernelSend, from.Ours(), "the source is a btrfs directory on a machine with buttersink"},
		{"--decompress", o.decompress, from.Ours(), "the source is a btrfs directory on a machine with buttersink"},
		{"--delete", o.delete, to.Scheme != "shell", "the destination is no command (shell://): what becomes of the streams is its own affair"},
		{o.thaw.given(), o.thaw.given() != "", from.Archive(), "the source is an archive (dir://, s3:// or glacier://)"},
		{"--again", o.again, to.Scheme == "shell", "the destination is a command (shell://)"},
	} {
		if f.given && !f.use {
			return usagef(command, "%s is only for when %s", f.flag, f.where)
		}
	}
	if from.Scheme == "shell" {
		return usagef(command, "a command (shell://) takes streams and gives none back: it can only be a destination")
	}
	if err := o.ssh.fit(command, from, to); err != nil {
		return err
	}
	if err := o.wire.fit(command, from, to); err != nil {
		return err
	}
	if o.requireEncryption && len(o.encrypt) == 0 {
		return usagef(command, "--require-encryption goes with --encrypt, which says for whom")
	}
	return nil
}

// together is how many streams may be on their way at a time; 0 leaves it to the
// engine. A command may write to a tape.
func (o *syncOptions) together(to site) int {
	if o.parallel == 0 && to.Scheme == "shell" {
		return 1
	}
	return o.parallel
}

// fullLimit is the length of a full stream at which the run stops, 0 for none. A
// person who looks on can stop it by hand.
func (o *syncOptions) fullLimit(env *Env) int64 {
	if o.maxFull.given == "" || env.attended() {
		return 0
	}
	return max(o.maxFull.bytes, 1) // every stream is longer than that
}

// attended reports whether a person can read what is said, and interrupt it.
func (env *Env) attended() bool { return env.StdinIsTerminal && env.StderrIsTerminal }

// keepRunning keeps Ctrl-Z from stopping a send: the kernel would begin the
// stream anew in the middle.
func keepRunning() (undo func()) {
	signal.Ignore(syscall.SIGTSTP)
	return func() { signal.Reset(syscall.SIGTSTP) }
}

// patterns compiles the values of --exclude.
func patterns(command string, texts []string) ([]*regexp.Regexp, error) {
	var all []*regexp.Regexp
	for _, text := range texts {
		if text == "" {
			return nil, usagef(command, "--exclude is empty, which would leave out everything")
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return nil, usagef(command, "--exclude %q is no regular expression: %v", text, err)
		}
		all = append(all, re)
	}
	return all, nil
}

// explainSync gives the errors of the engine their exit codes and hints.
func explainSync(err error, command string, src *opened, destination, maxFull string) error {
	if e, ok := errors.AsType[*job.FullError](err); ok {
		return explainFull(e, src, destination, maxFull)
	}
	if e, ok := errors.AsType[*job.IncompleteError](err); ok {
		return explainIncomplete(e, src, destination)
	}
	if e, ok := errors.AsType[*job.PendingError](err); ok {
		return explainPending(e)
	}
	if e, ok := errors.AsType[*job.CostError](err); ok {
		return explainCost(e)
	}
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: src.noSnapshots(e.There)}
	}
	if _, ok := errors.AsType[*job.SamePlaceError](err); ok {
		return &usageError{command: command, err: err}
	}
	if e, ok := errors.AsType[*job.RemovalError](err); ok {
		return &exitError{
			code: exitPartly,
			err:  errors.Join(append([]error{e}, e.Failures...)...),
			hint: "Everything was transferred; the next run tries again to remove the rest.",
		}
	}
	return err
}

// explainFull says which full streams are too long, why they are full, and what
// to do about it.
func explainFull(e *job.FullError, src *opened, destination, limit string) error {
	var lines []error
	for _, s := range e.Steps {
		size := "of unknown length"
		if s.Size.Known {
			size = meter.Size(s.Size)
		}
		lines = append(lines, fmt.Errorf("%s, %s: %s", s.Path, size, s.Reason))
	}
	head := fmt.Errorf("%s longer than --max-full %s, and nobody is at a terminal to decide: stopped before sending",
		plural(len(e.Steps), "full stream would be", "full streams would be"), limit)
	if e.Transferred > 0 {
		head = fmt.Errorf("after a failure, with %s transferred, %s longer than --max-full %s, and nobody is at a terminal to decide: stopped before sending more",
			plural(e.Transferred, "snapshot", "snapshots"), plural(len(e.Steps), "full stream would be", "full streams would be"), limit)
	}
	first := e.Steps[0].Path
	return &exitError{
		code: exitConflict,
		err:  errors.Join(append([]error{head}, lines...)...),
		hint: fmt.Sprintf("If that is right, run it from a terminal, or raise --max-full. If not, make a parent available: 'buttersink explain %s %s' says what speaks against each.",
			shellWord(src.Within(first)), shellWord(destination)),
	}
}
