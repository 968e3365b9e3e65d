package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// newList returns the command that lists the snapshots in a directory.
func newList(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [flags] DIR",
		Short: "List the snapshots in a directory",
		RunE:  func(*cobra.Command, []string) error { return errors.New("list is not wired yet") },
	}
	cmd.Flags().BoolP("dry-run", "n", false, "show what would be done, and do nothing")
	cmd.Flags().BoolP("delete", "d", false, "remove what unfinished transfers have left behind")
	cmd.Flags().Bool("json", false, "print one JSON object a line")
	return cmd
}
