package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// holdOptions are the flags of hold and release.
type holdOptions struct {
	why  string
	json bool
	s3   s3Flags
	ssh  sshFlags
}

var holdGroups = []flagGroup{
	{"Flags", []string{"help", "json", "why"}},
	sshGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style"}},
}

// newHold returns the command that keeps a snapshot from being removed.
func newHold(env *Env) *cobra.Command {
	o := &holdOptions{}
	cmd := &cobra.Command{
		Use:   "hold [flags] STORE/SNAPSHOT",
		Short: "Keep a snapshot from being removed by retention",
		Long: `hold keeps a snapshot from every "buttersink backup" and "buttersink prune",
whatever the rules say, until "buttersink release". With a slash at the end it
lists what is held: when it was held, the snapshot, and why.

STORE is a directory of snapshots, here or with ssh://, or an archive ("buttersink
help urls"). If the snapshot lies deeper below it, a dot marks where it ends:
STORE/./DEEPER/SNAPSHOT.

Before: the snapshot is there, and you may write to STORE. A hold is for one
place: the copy that another one has is held by itself.

After: the hold is noted beside the snapshots, in .buttersink-retention, by the
identity of the snapshot, so that renaming it changes nothing. Holding it again
only changes why. It keeps nobody from removing it in other ways: "sync --delete",
or "btrfs subvolume delete".`,
		Example: `  buttersink hold --why 'before the upgrade' /home/snapshot/20261120-231455
  buttersink hold s3://bucket/home/20261120-231455
  buttersink hold /home/snapshot/              list what is held there`,
		Args: oneSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			if listed(args[0]) {
				if o.why != "" {
					return usagef(cmd.CommandPath(), "--why is only for holding a snapshot: want its path, without a slash at the end")
				}
				return env.untilReaderLeaves(o.list(cmd.Context(), env, cmd.CommandPath(), args[0]))
			}
			return o.run(cmd.Context(), env, cmd.CommandPath(), args[0], true)
		},
	}
	cmd.Flags().StringVar(&o.why, "why", "", "what people are told about it: a `TEXT`")
	o.flagsOf(cmd)
	return cmd
}

// newRelease returns the command that ends what hold began.
func newRelease(env *Env) *cobra.Command {
	o := &holdOptions{}
	cmd := &cobra.Command{
		Use:   "release [flags] STORE/SNAPSHOT",
		Short: "Let retention have a snapshot again that was held",
		Long: `release ends what "buttersink hold" began: from then on the snapshot is kept only
as long as the rules keep it.

Before: the snapshot is held in STORE ("buttersink hold STORE/" lists them), and
you may write there.

After: the note of it is gone, and nothing else has changed: the next run of
"buttersink backup" or "buttersink prune" decides.`,
		Example: `  buttersink release /home/snapshot/20261120-231455
  buttersink release ssh://host/mnt/bk/20261120-231455`,
		Args: oneSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, cmd.CommandPath(), args[0], false)
		},
	}
	o.flagsOf(cmd)
	return cmd
}

func oneSnapshot(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef(cmd.CommandPath(), "want one snapshot, got %d arguments", len(args))
	}
	return nil
}

// flagsOf gives a command the flags that both have.
func (o *holdOptions) flagsOf(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	groupFlags(cmd, holdGroups)
}

// listed reports whether an argument names a whole place.
func listed(arg string) bool {
	scheme, _ := place.Split(arg)
	before, _, _ := place.SplitQuery(scheme, arg)
	return strings.HasSuffix(before, "/")
}

// open opens the place that a directory names.
func (o *holdOptions) open(ctx context.Context, env *Env, command, dir string, mode ssh.Mode) (*opened, error) {
	p, err := env.placeOf(command, dir, true)
	if err != nil {
		return nil, err
	}
	if p.Scheme == "shell" {
		return nil, usagef(command, "what becomes of the streams that a command is given is its own affair: want a btrfs directory or an archive")
	}
	if err := o.s3.fit(command, p); err != nil {
		return nil, err
	}
	if err := o.ssh.fit(command, p); err != nil {
		return nil, err
	}
	with := opening{s3: o.s3, ssh: o.ssh, mode: mode}
	with.local.Rootless = true
	return env.open(ctx, command, p, with)
}

// holdRecord is a snapshot that is held, or is not any more.
type holdRecord struct {
	Event string      `json:"event"` // "held", "released"
	ID    snapshot.ID `json:"id"`
	Path  string      `json:"path"`
	Why   string      `json:"why,omitempty"`
	Since time.Time   `json:"since"`
}

func recordOfHold(event string, h job.Hold) holdRecord {
	return holdRecord{Event: event, ID: h.ID, Path: validText(h.Path), Why: validText(h.Why), Since: h.Since}
}

// run holds or releases a snapshot.
func (o *holdOptions) run(ctx context.Context, env *Env, command, arg string, hold bool) error {
	dir, name, err := splitSnapshot(arg)
	if err != nil {
		return &usageError{command: command, err: err}
	}
	st, err := o.open(ctx, env, command, dir, ssh.Write)
	if err != nil {
		return err
	}
	defer st.Close()
	engine := &job.Engine{Log: env.Log, Now: env.Now}
	event, h := "released", job.Hold{}
	if hold {
		event = "held"
		h, err = engine.Hold(ctx, st.Store, name, o.why)
	} else {
		h, err = engine.Release(ctx, st.Store, name)
	}
	if errors.Is(err, store.ErrNotFound) {
		if info, err2 := os.Stat(arg); err2 == nil && info.IsDir() && hold && st.Here() {
			return &exitError{code: exitFailed, err: err, hint: fmt.Sprintf("Did you mean to type %s, which lists what is held there?", shellWord(arg+"/"))}
		}
		what := map[bool]string{true: "buttersink list", false: "buttersink hold"}[hold]
		return &exitError{code: exitFailed, err: err, hint: fmt.Sprintf("'%s %s' lists what there is.", what, shellWord(dir))}
	}
	if err != nil {
		return err
	}
	if o.json {
		out := newRecords(env.Stdout)
		out.put(recordOfHold(event, h))
		return out.err
	}
	if hold {
		env.Log.Info(fmt.Sprintf("Held: %s%s", h.Path, because(h.Why)))
	} else {
		env.Log.Info(fmt.Sprintf("Released: %s, held since %s%s", h.Path, h.Since.Local().Format(time.DateTime), because(h.Why)))
	}
	return nil
}

// because writes a reason that somebody has given.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// list writes what is held in a place.
func (o *holdOptions) list(ctx context.Context, env *Env, command, dir string) error {
	st, err := o.open(ctx, env, command, dir, ssh.Read)
	if err != nil {
		return err
	}
	defer st.Close()
	all, err := (&job.Engine{Log: env.Log, Now: env.Now}).Holds(ctx, st.Store)
	if err != nil {
		return err
	}
	if o.json {
		out := newRecords(env.Stdout)
		for _, h := range all {
			out.put(recordOfHold("held", h))
		}
		return out.err
	}
	out := bufio.NewWriter(env.Stdout)
	for _, h := range all {
		io.WriteString(out, h.Since.Local().Format(time.DateTime)+" "+printable(h.Path+because(h.Why))+"\n")
	}
	out.Flush() // env.Stdout keeps the error
	return nil
}
