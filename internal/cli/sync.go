package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/store/local"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	dryRun, delete, estimate, json bool
	kernelSend, decompress         bool

	exclude            []string
	partSize           int
	maxFull            sizeFlag
	checkpoint         sizeFlag
	maxChain, parallel int
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
it as they have below SRC. Both are btrfs directories of this machine, written as
a path, or as btrfs:///path/ or file:///path/.

Before: both directories exist and are on mounted btrfs file systems; it runs as
root. Only read-only subvolumes are snapshots; nested subvolumes are not part of
the snapshot that they lie in.

After: every snapshot that is reported as transferred is whole, read-only and on
the disk, with the identity of its source. Nothing is ever overwritten. A snapshot
that is on its way is called NAME.part. An interrupted run leaves nothing else
behind but the last checkpoint of each stream, NAME.checkpoint-OFFSET.part, and
the next run carries on from there: what comes before it is read and compared
again, and not written again. One is made after every GiB of a stream, or what
--checkpoint says, and after every minute; 0 makes none.

With --max-full, a full stream that is longer ends a run that nobody looks at
(standard input or standard error is no terminal) with exit code 6 before
anything is sent; on a terminal it is said, and sent. A missing parent is then
found out before it has cost a night and a disk. 0 allows no full stream at all.

Full streams carry data that the source stores compressed as they are stored,
where both kernels can. --decompress sends plain data in their place; the
destination then compresses as it is mounted.

While something is being sent, the machine does not go to sleep by itself, if the
login manager (systemd-logind) can be asked for that.

With --delete, snapshots inside DST that the directory of SRC does not hold are
removed, after everything else has succeeded; what will go is said before. A run
in which anything fails removes nothing.

Only one run at a time can write to a directory; another ends with exit code 7.
Sending cannot be stopped with Ctrl-Z: a stopped send has to start again.`,
		Example: `  buttersink sync -n /mnt/a/snaps/ /mnt/b/snaps/   show the plan, with exact sizes
  buttersink sync /mnt/a/snaps/ /mnt/b/snaps/      carry it out
  buttersink sync -d --exclude '.*-hourly' /mnt/a/snaps/ /mnt/b/snaps/
  buttersink sync /mnt/a/snaps/monday /mnt/b/snaps/
  buttersink sync -q --max-full 20GiB /mnt/a/snaps/ /mnt/b/snaps/   in a timer`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd.CommandPath(), "want a source and a destination, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSync(cmd.Context(), env, cmd.CommandPath(), &o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.delete, "delete", "d", false, "remove from DST what is not in SRC; without SRC: remove unfinished transfers")
	f.BoolVarP(&o.estimate, "estimate", "e", false, "never measure by a test send; sizes are about right")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	f.IntVar(&o.partSize, "part-size", 100, "size of the parts of an upload, in `MiB`; between btrfs directories it has no effect")
	f.Var(&o.maxFull, "max-full", "without a terminal, stop before a full stream longer than `SIZE` (10GiB, 500M)")
	f.IntVar(&o.maxChain, "max-chain", 0, "let no snapshot depend on more than `N` streams; between btrfs directories it has no effect")
	f.IntVar(&o.parallel, "parallel", 0, "send up to `N` short streams at a time; 0 leaves it to the program")
	f.Var(&o.checkpoint, "checkpoint", "after every `SIZE` of a stream, make a place to carry on from (default 1GiB; 0: none)")
	f.BoolVar(&o.kernelSend, "kernel-send", false, "have full streams made by the kernel too; slower, for comparison")
	f.BoolVar(&o.decompress, "decompress", false, "send plain data, also where the source stores them compressed")
	return cmd
}

func runSync(ctx context.Context, env *Env, command string, o *syncOptions, source, destination string) (err error) {
	show := newSyncView(env, o)
	var report *job.SyncReport
	defer func() {
		show.close()
		show.result(report, err)
	}()
	if err := o.check(command); err != nil {
		return err
	}
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	src, err := openStore(env, command, source, false, o.source())
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openStore(env, command, destination, true, o.destination())
	if err != nil {
		return err
	}
	defer dst.Close()
	defer keepRunning()()
	show.ctx = ctx

	engine := &job.Engine{Log: env.Log}
	if !o.dryRun {
		engine.Ledger = env.openLedger()
	}
	report, err = engine.Sync(ctx, src.Store, dst.Store, job.SyncOptions{
		Selection: job.Selection{Name: src.name, Exclude: exclude},
		Delete:    o.delete, DryRun: o.dryRun, Estimate: o.estimate,
		MaxChain: o.maxChain, MaxFull: o.fullLimit(env), Parallel: o.parallel,
		Who:       strings.Join([]string{"buttersink sync", src.arg, dst.arg}, " "),
		Measuring: show.measuring, Planned: show.planned, Event: show.event, Removed: show.removed,
	})
	return explainSync(err, command, src, destination, o.maxFull.given)
}

// check says what is wrong with the values of the flags.
func (o *syncOptions) check(command string) error {
	switch {
	case o.partSize < 1:
		return usagef(command, "--part-size %d: want 1 MiB or more", o.partSize)
	case o.maxChain < 0:
		return usagef(command, "--max-chain %d: want 1 or more, or 0 for no limit", o.maxChain)
	case o.parallel < 0:
		return usagef(command, "--parallel %d: want 1 or more, or 0 for as many as seem best", o.parallel)
	}
	return nil
}

// source is how the source makes its streams.
func (o *syncOptions) source() local.Options {
	return local.Options{KernelSend: o.kernelSend, Plain: o.decompress}
}

// destination is how the destination keeps what an interrupted run can be carried
// on from.
func (o *syncOptions) destination() local.Options {
	switch {
	case o.checkpoint.given == "":
		return local.Options{}
	case o.checkpoint.bytes == 0:
		return local.Options{Checkpoints: replay.Checkpoints{Bytes: -1, Every: -1}}
	}
	return local.Options{Checkpoints: replay.Checkpoints{Bytes: o.checkpoint.bytes}}
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
		return explainIncomplete(e, destination)
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

func explainIncomplete(e *job.IncompleteError, destination string) error {
	x := &exitError{code: exitFailed}
	var head error = e
	cut, interrupted := errors.AsType[*interruptedError](e.Interrupted)
	switch {
	case interrupted:
		head = fmt.Errorf("%w; %d of %d snapshots are at the destination", cut, e.Done, e.Wanted)
		x.code, x.hint = exitInterrupted, "Nothing half-made looks whole; the next run carries on."
	case e.Conflicts:
		x.code, x.hint = exitConflict, "Nothing is ever overwritten: move what is in the way, or choose another destination."
	case e.Done > 0 && e.DryRun:
		x.code = exitPartly
	case e.Done > 0:
		x.code, x.hint = exitPartly, "What is done stays done; the next run carries on with the rest."
	}
	if full := func(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }; !interrupted && slices.ContainsFunc(e.Failures, full) {
		x.hint = fmt.Sprintf("The destination is full: make room there, and the next run carries on.  'buttersink list -d %s' gives back what interrupted transfers hold, which begin again then.", shellWord(destination))
	}
	x.err = errors.Join(append([]error{head}, e.Failures...)...)
	return x
}

// explainFull says which full streams are too long, why they are full, and what
// to do about it.
func explainFull(e *job.FullError, src *opened, destination, limit string) error {
	var lines []error
	for _, s := range e.Steps {
		size := "of unknown length"
		if s.Size.Known {
			size = sizeText(s.Size)
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
			shellWord(src.within(first)), shellWord(destination)),
	}
}
