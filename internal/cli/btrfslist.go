package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newBtrfslist(env *Env) *cobra.Command {
	return &cobra.Command{Use: "btrfslist DIR", Short: "x", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return errors.New("not yet") }}
}
