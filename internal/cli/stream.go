package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newStream(env *Env) *cobra.Command {
	return newGroup("stream", "Look into send streams", "", newStreamDump(env), newStreamVerify(env))
}

func newStreamDump(env *Env) *cobra.Command {
	return &cobra.Command{Use: "dump", Short: "x", RunE: func(*cobra.Command, []string) error { return errors.New("not yet") }}
}

func newStreamVerify(env *Env) *cobra.Command {
	return &cobra.Command{Use: "verify", Short: "x", RunE: func(*cobra.Command, []string) error { return errors.New("not yet") }}
}
