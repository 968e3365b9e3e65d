package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// newSync returns the command that brings one directory's snapshots to another.
func newSync(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync [flags] SRC DST",
		Short: "Bring the snapshots of one directory to another",
		RunE:  func(*cobra.Command, []string) error { return errors.New("sync is not wired yet") },
	}
	cmd.Flags().BoolP("dry-run", "n", false, "show what would be done, and do nothing")
	cmd.Flags().BoolP("delete", "d", false, "remove from DST what is not in SRC")
	cmd.Flags().Bool("json", false, "print one JSON object a line")
	return cmd
}
