package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// newBtrfslist returns the command that shows all that the kernel knows of the
// subvolumes of one file system.
func newBtrfslist(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "btrfslist [flags] DIR",
		Short: "Show every subvolume of a btrfs file system in detail",
		Long: `Shows every subvolume and snapshot of the file system that DIR is on, writable
ones too, ordered by their paths from the top level. Each has these lines:

  ID 'PATH' (gen:G total:T exclusive:E ro) UUID
  (parent:UUID/GENERATION received:UUID/GENERATION)
  and the paths at which it can be seen, if it can be seen at all

G counts the changes of the content. T is the data that it refers to, E what
only it refers to; both are None unless the file system keeps quotas. Quotas are
never switched on. "ro" stands for read-only. After the parent, of which it is a
snapshot, stands the generation in which it was made; the received UUID comes
from the sender, with the generation there. A UUID that it has not is None.

Before: DIR is a directory on a mounted btrfs. It takes root.

After: nothing has changed.`,
		Example: `  btrfslist /mnt/a
  buttersink btrfslist /mnt/a | grep -A2 monday`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one directory, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(btrfslist(cmd.Context(), env, args[0]))
		},
	}
}

func btrfslist(ctx context.Context, env *Env, dir string) error {
	fs, err := btrfs.Open(dir)
	if err != nil {
		return err
	}
	defer fs.Close()
	all, err := fs.Subvolumes()
	if err != nil {
		return err
	}
	mounts, err := fs.Mounts()
	if err != nil {
		return err
	}
	usage, quotas, err := fs.Quota()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	paths := fs.LinuxPaths(all, mounts)
	live := slices.DeleteFunc(slices.Clone(all), func(s btrfs.Subvolume) bool {
		if s.Deleted {
			env.Log.Info("Skipping deleted volume " + s.UUID.String())
		}
		return s.Deleted
	})
	slices.SortFunc(live, func(a, b btrfs.Subvolume) int { return cmp.Compare(a.Path, b.Path) })

	state := "no quotas"
	if quotas {
		state = "with quotas"
	}
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	fmt.Fprintf(out, "btrfs %s: %s, %s\n", fs.UUID(), plural(len(live), "subvolume", "subvolumes"), state)
	for _, s := range live {
		var used *btrfs.Usage
		if u, ok := usage[s.ID]; ok {
			used = &u
		}
		out.WriteString(subvolumeText(s, used, paths[s.ID])) // Flush has the error
	}
	return out.Flush()
}

// subvolumeText is what ButterSink's btrfslist prints for a subvolume.
func subvolumeText(s btrfs.Subvolume, used *btrfs.Usage, paths []string) string {
	var total, exclusive snapshot.Size
	if used != nil {
		total, exclusive = snapshot.ExactSize(int64(used.Referenced)), snapshot.ExactSize(int64(used.Exclusive))
	}
	level := s.Level
	if level == 0 {
		level = -1 // as it always was
	}
	ro := ""
	if s.ReadOnly {
		ro = " ro"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%4d '/%s' (level:%d gen:%d total:%s exclusive:%s%s) %s\n", s.ID, printable(s.Path), level, s.Ctransid,
		meter.Size(total), meter.Size(exclusive), ro, uuidOrNone(s.UUID))
	fmt.Fprintf(&b, "        (parent:%s/%d received:%s/%d)\n",
		uuidOrNone(s.ParentUUID), s.Otransid, uuidOrNone(s.ReceivedUUID), s.Stransid)
	for i, path := range paths {
		indent := "        "
		if i > 0 {
			indent = "\t"
		}
		b.WriteString(indent + printable(path) + "\n")
	}
	return b.String()
}

func uuidOrNone(u btrfs.UUID) string {
	if u.IsZero() {
		return "None"
	}
	return u.String()
}
