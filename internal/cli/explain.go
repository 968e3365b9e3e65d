package cli

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	estimate, json bool

	exclude    []string
	maxChain   int
	maxRestore sizeFlag
	s3         s3Flags
	ssh        sshFlags
}

var explainGroups = []flagGroup{
	{"Flags", []string{"estimate", "exclude", "help", "json", "max-chain", "max-restore"}},
	sshGroup,
	{"S3", []string{"s3-endpoint", "s3-path-style"}},
}

// newExplain returns the command that says why a snapshot is sent as it is.
func newExplain(env *Env) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [flags] SRC/SNAPSHOT DST",
		Short: "Say why a snapshot is sent as it is",
		Long: `explain says what "buttersink sync SRC/ DST" would do about one snapshot, and why:
sent in full or from which parent, kept, copied in, or impossible. Then it lists
every snapshot that was considered as its parent, with the length of the stream
from there, and what speaks against it.

SRC/SNAPSHOT is the path of a snapshot, without a slash at its end. If it lies
deeper below the directory that is synced, a dot marks where that ends:
SRC/./DEEPER/SNAPSHOT. DST is the destination, as for sync. Both can be archives
or on other machines too ("buttersink help urls").

The verdicts on a parent:

  chosen                  the stream starts from it, or is a full one
  costs more              everything in all would take more with it
  starts from it itself   it is made from this snapshot in the same plan
  chain too long          an archive would need more streams than --max-chain, or
                          more bytes than --max-restore
  not at the destination  it is not there, and will not be by then
  changed                 it is not what its UUID promises, on one of both sides
  farther away            others are nearer relatives, so it was not looked at
  unrelated               it is of another family
  no such stream          the source is an archive without that stream, or it is
                          in cold storage there, and another one can be read

Before: both directories exist, and those of btrfs are on mounted file systems; it
runs as root where btrfs is concerned. It can be asked at any time, also about a
snapshot that is at the destination already, or that --exclude leaves out.

After: nothing has changed. Streams that matter are measured without their data,
which takes a moment; -e spares it. The exit code is 0 whatever the answer is.`,
		Example: `  buttersink explain /mnt/a/snaps/monday /mnt/b/snaps/
  buttersink explain /mnt/a/.snapshots/./12/snapshot /mnt/b/snaps/
  buttersink explain --json -e /mnt/a/snaps/monday /mnt/b/snaps/
  buttersink explain --max-chain 30 /mnt/a/snaps/monday s3://bucket/snaps/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd.CommandPath(), "want a snapshot and a destination, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(runExplain(cmd, env, &o, args[0], args[1]))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.estimate, "estimate", "e", false, "never measure by a test send; sizes are about right")
	f.BoolVar(&o.json, "json", false, "print one JSON object on standard output")
	f.StringArrayVar(&o.exclude, "exclude", nil, "as for sync: leave out snapshots whose path matches `REGEX` at its start")
	f.IntVar(&o.maxChain, "max-chain", 0, "as for sync: let no snapshot depend on more than `N` streams")
	f.Var(&o.maxRestore, "max-restore", "as for sync: let no snapshot depend on streams of more than `SIZE` altogether")
	s3FlagsOf(cmd, &o.s3)
	sshFlagsOf(cmd, &o.ssh)
	groupFlags(cmd, explainGroups)
	return cmd
}

// splitSnapshot cuts the argument that names a snapshot into the directory that
// is synced, with a slash at its end, and the path below it.
func splitSnapshot(arg string) (dir, name string, err error) {
	query := ""
	scheme, rest, hasScheme := strings.Cut(arg, "://")
	if !hasScheme {
		scheme, rest = "", arg
	} else {
		if rest, query, err = place.SplitQuery(scheme, rest); err != nil {
			return "", "", err
		}
		scheme += "://"
	}
	if i := strings.Index(rest, "/./"); i >= 0 {
		dir, name = rest[:i+1], strings.TrimLeft(rest[i+3:], "/")
	} else {
		i := strings.LastIndexByte(rest, '/')
		dir, name = rest[:i+1], rest[i+1:]
	}
	if !strings.Contains(rest, "/") && scheme != "" && scheme != "btrfs://" && scheme != "file://" && scheme != "dir://" {
		return "", "", fmt.Errorf("%q names no snapshot: want its path, without a slash at the end", place.Redact(arg))
	}
	if name == "" || name == "." || name == ".." || strings.HasSuffix(name, "/") || strings.Contains("/"+name+"/", "/../") {
		return "", "", fmt.Errorf("%q names no snapshot: want its path, without a slash at the end", place.Redact(arg))
	}
	if dir == "" {
		dir = "./"
	}
	return scheme + dir + query, path.Clean(name), nil
}

// leftOut reports whether --exclude leaves a path out.
func leftOut(exclude []*regexp.Regexp, path string) bool {
	return slices.ContainsFunc(exclude, func(re *regexp.Regexp) bool {
		at := re.FindStringIndex(path)
		return at != nil && at[0] == 0
	})
}

func runExplain(cmd *cobra.Command, env *Env, o *explainOptions, source, destination string) error {
	ctx, command := cmd.Context(), cmd.CommandPath()
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	dir, name, err := splitSnapshot(source)
	if err != nil {
		return &usageError{command: command, err: err}
	}
	from, err := env.placeOf(command, dir, false)
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
	if o.maxChain < 0 {
		return usagef(command, "--max-chain %d: want 1 or more, or 0 for no limit", o.maxChain)
	}
	// It is the same question as that of a sync, so the stores are the same.
	as := &syncOptions{s3: o.s3, ssh: o.ssh, dryRun: true, partSize: 100, maxRestore: o.maxRestore}
	if err := as.fits(command, from, to); err != nil {
		return err
	}
	defer keepRunning()() // before ssh is started, which goes on as well
	src, dst, err := as.open(ctx, env, command, from, to, env.notesFor(to))
	if err != nil {
		return err
	}
	defer src.Close()
	defer dst.Close()

	view := &syncView{env: env, o: &syncOptions{json: o.json}}
	engine := &job.Engine{Log: env.Log}
	x, err := engine.Explain(ctx, src.Store, dst.Store, name, job.SyncOptions{
		Selection: job.Selection{Exclude: exclude},
		DryRun:    true, Estimate: o.estimate, MaxChain: o.maxChain, MaxRestore: o.maxRestore.bytes, Measuring: view.measuring,
	})
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return noSuchSnapshot(src, name, e.There)
	}
	if err != nil {
		return explainSync(err, command, src, to.WithSlash(), "")
	}
	if x.Decision == plan.NotWanted && leftOut(exclude, x.Path) {
		x.Reason = "it is left out by --exclude"
	}
	if o.json {
		out := newRecords(env.Stdout)
		out.put(recordOfExplanation(x))
		return out.err
	}
	return printExplanation(env.Stdout, x)
}

// noSuchSnapshot says that there is no snapshot of a name, but perhaps something
// else.
func noSuchSnapshot(src *opened, name, there string) error {
	x := &exitError{
		code: exitFailed,
		err:  fmt.Errorf("%s has no snapshot %s", src.Store, name),
		hint: fmt.Sprintf("'buttersink %s' lists those that it has.", shellWord(src.Arg)),
	}
	if there != "" {
		x.err = fmt.Errorf("%w: what is there is %s", x.err, there)
	}
	return x
}

// explanationRecord is what --json says.
type explanationRecord struct {
	Event string `json:"event"` // "explanation"
	plan.Explanation
}

func recordOfExplanation(x *plan.Explanation) explanationRecord {
	r := explanationRecord{Event: "explanation", Explanation: *x}
	r.Path, r.Reason, r.ParentPath = validText(x.Path), validText(x.Reason), validText(x.ParentPath)
	r.Children, r.Considered = slices.Clone(x.Children), slices.Clone(x.Considered)
	for i := range r.Children {
		r.Children[i] = validText(r.Children[i])
	}
	for i := range r.Considered {
		c := &r.Considered[i]
		c.Why, c.Path = validText(c.Why), validText(c.Path)
	}
	return r
}

// headline says what is decided, in one sentence.
func headline(x *plan.Explanation) string {
	switch x.Decision {
	case plan.WillSend:
		if x.Parent.IsZero() {
			return "is sent in full"
		}
		return "is sent from " + x.ParentPath
	case plan.WillCopy:
		return "is copied in, without being sent"
	case plan.Kept:
		return "is kept"
	case plan.Impossible:
		return "cannot be transferred"
	case plan.Between:
		return "is sent, though nobody asks for it, because others start from it"
	case plan.NotWanted:
		return "is not sent"
	case plan.Unknown:
		return "is not in the source"
	}
	return string(x.Decision)
}

func printExplanation(w io.Writer, x *plan.Explanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n  %s\n", x.ID, printable(x.Path), printable(headline(x)), printable(x.Reason))
	if len(x.Children) > 0 {
		fmt.Fprintf(&b, "  these start from it: %s\n", printable(strings.Join(x.Children, ", ")))
	}
	if len(x.Considered) > 0 {
		b.WriteString("\n")
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "PARENT\tSIZE\tVERDICT\tWHY")
		for _, c := range x.Considered {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", considered(c), consideredSize(c), c.Verdict, printable(consideredWhy(c)))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func considered(c plan.Considered) string {
	if c.Full {
		return "(full)"
	}
	return printable(c.Path)
}

// consideredSize is the length of a stream: with a tilde if it is an estimate, in
// brackets if it is a guess, and a dash if nobody asked.
func consideredSize(c plan.Considered) string {
	switch size := (snapshot.Size{Bytes: c.Bytes, Known: true, Exact: c.Exact}); {
	case c.Guessed && c.Bytes > 0:
		return "(" + meter.Size(size) + ")"
	case c.Bytes == 0:
		return "-"
	default:
		return meter.Size(size)
	}
}

// consideredWhy is the reason without the length that it begins with, since that
// has a column of its own.
func consideredWhy(c plan.Considered) string {
	if c.Bytes == 0 {
		return c.Why
	}
	if i := strings.IndexAny(c.Why, ",;"); i >= 0 {
		return strings.TrimSpace(c.Why[i+1:])
	}
	return "-"
}
