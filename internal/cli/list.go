package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// listOptions are the flags of list.
type listOptions struct {
	dryRun, delete, estimate, json bool

	exclude []string
	s3      s3Flags
	ssh     sshFlags
}

var listGroups = []flagGroup{
	{"Flags", []string{"delete", "dry-run", "estimate", "exclude", "help", "json"}},
	sshGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style"}},
}

// newList returns the command that lists the snapshots in a directory.
func newList(env *Env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list [flags] DIR",
		Short: "List the snapshots in a directory",
		Long: `list shows the snapshots in a directory, ordered by path: UUID, path, and in
parentheses how much data the snapshot refers to and how much of it no other
subvolume shares. The UUID is the received one where there is one, so that the
same snapshot has the same UUID everywhere.

DIR is a directory with a slash at its end, for all snapshots below it, or one
snapshot without a slash; "buttersink help urls" has all forms.

Sizes come from the quota groups if these are on; buttersink never switches them
on. Otherwise the data is added up from the snapshot's metadata, which takes a
moment the first time and is remembered; what is not shared is not known then.

Of an archive (dir://, s3://) it shows the streams, with the snapshot that each
makes, the one that it starts from, how long it is as it is stored, and what it is
sealed with (.zst, .age, .gpg). The last line adds them up. No key is needed. Of a
command (shell://) it shows what the command has been given, as remembered here.

Before: the directory exists, and one of btrfs is on a mounted file system; it
runs as root where btrfs is concerned.

After: nothing has changed. With --delete, what unfinished transfers have left
behind is removed: subvolumes whose names end in ".part", and unfinished uploads
to this archive, also those that another machine is just making. Writable
subvolumes are never touched: they are shown as what they may be.`,
		Example: `  buttersink list /mnt/b/snaps/
  buttersink list -e /mnt/b/snaps/      without looking for sizes
  buttersink list -n -d /mnt/b/snaps/   show which remainders would be removed
  buttersink list --json /mnt/b/snaps/
  buttersink list ssh://keeper@host/mnt/b/snaps/
  buttersink list s3://bucket/snaps/    the streams in an archive
  buttersink list s3://bucket/snaps/monday`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one directory, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(runList(cmd.Context(), env, cmd.CommandPath(), &o, args[0]))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "with --delete: show what would be removed, and remove nothing")
	f.BoolVarP(&o.delete, "delete", "d", false, "remove what unfinished transfers have left behind")
	f.BoolVarP(&o.estimate, "estimate", "e", false, "show only sizes that are known already")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	groupFlags(cmd, listGroups)
	return cmd
}

// mode is what a listing has to be allowed on another machine.
func (o *listOptions) mode() ssh.Mode {
	if o.delete && !o.dryRun {
		return ssh.Write
	}
	return ssh.Read
}

func runList(ctx context.Context, env *Env, command string, o *listOptions, directory string) error {
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	p, err := env.placeOf(command, directory, false)
	if err != nil {
		return err
	}
	if err := o.s3.fit(command, p); err != nil {
		return err
	}
	if err := o.ssh.fit(command, p); err != nil {
		return err
	}
	if !p.Archive() {
		// Such a listing is over before collecting its garbage would pay; one that is
		// not stays within bounds. An archive may have a million streams.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(80 << 20))
	}
	engine := &job.Engine{Log: env.Log}
	var notes *ledger.Ledger
	if o.dryRun {
		notes = env.notesFor(p)
	} else {
		engine.Ledger = env.openLedger()
		notes = engine.Ledger
	}
	st, err := env.open(ctx, command, p, opening{s3: o.s3, ssh: o.ssh, mode: o.mode(), ledger: notes})
	if err != nil {
		return err
	}
	defer st.Close()

	out := newRecords(env.Stdout)
	listing, err := engine.List(ctx, st.Store, job.ListOptions{
		Selection: job.Selection{Name: st.Name, Exclude: exclude},
		Clean:     o.delete, DryRun: o.dryRun, Estimate: o.estimate,
		Who: strings.Join([]string{"buttersink list", st.Arg}, " "),
		Cleaned: func(p snapshot.Partial, err error) {
			if o.json {
				out.put(partialRecord{Event: cleanedWord(o.dryRun, err), Path: validText(p.Path), Why: p.Why, Error: errorText(err)})
			} else if err == nil {
				what := map[bool]string{true: "Delete unfinished upload ", false: "Delete subvolume "}[st.Archive()]
				env.Log.Info(map[bool]string{true: "WOULD: ", false: ""}[o.dryRun] + what + p.Path)
			}
		},
	})
	if listing != nil {
		streams, failed := streamsOf(ctx, st, exclude)
		err = errors.Join(err, failed)
		switch {
		case streams != nil && o.json:
			recordKept(out, listing, streams)
			recordPartials(out, listing, o.delete)
		case streams != nil:
			printKept(env, listing, streams)
			sayPartials(env, listing, o.delete)
		case o.json:
			recordListing(out, listing)
			recordPartials(out, listing, o.delete)
		default:
			printListing(env, listing)
			sayPartials(env, listing, o.delete)
		}
	}
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: st.noSnapshots(e.There)}
	}
	return errors.Join(err, out.err)
}

// printListing writes ButterSink's lines: UUID, path, sizes.
func printListing(env *Env, l *job.Listing) {
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	for i := range l.Snapshots {
		s := &l.Snapshots[i]
		size := meter.Size(s.Size)
		if s.Exclusive.Known {
			size += " " + meter.Size(s.Exclusive) + " exclusive"
		}
		out.WriteString(s.ID.String() + " " + printable(l.Inventory.Where(*s)) + " (" + size + ")\n")
	}
	out.Flush() // env.Stdout keeps the error
}

// sayPartials names what is unfinished. It is not part of the answer, so it goes
// to the log.
func sayPartials(env *Env, l *job.Listing, cleaned bool) {
	for _, p := range l.Inventory.Partials {
		if !p.Ours || !cleaned {
			env.Log.Info(fmt.Sprintf("Not a snapshot: %s (%s)", p.Path, p.Why))
		}
	}
}

func recordListing(out *records, l *job.Listing) {
	for _, s := range l.Snapshots {
		out.put(recordOfSnapshot(l.Inventory, s))
	}
}

func recordPartials(out *records, l *job.Listing, cleaned bool) {
	for _, p := range l.Inventory.Partials {
		if !p.Ours || !cleaned {
			out.put(partialRecord{Event: "partial", Path: validText(p.Path), Why: p.Why})
		}
	}
}

func cleanedWord(dryRun bool, err error) string {
	switch {
	case err != nil:
		return "not-removed"
	case dryRun:
		return "would-remove"
	}
	return "removed"
}
