package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newChecksumdir(env *Env) *cobra.Command {
	return &cobra.Command{Use: "checksumdir DIR...", Short: "x", Args: cobra.ArbitraryArgs, RunE: func(*cobra.Command, []string) error { return errors.New("not yet") }}
}
