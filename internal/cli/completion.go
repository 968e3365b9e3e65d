package cli

import (
	_ "embed"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed completion/buttersink.bash
var bashCompletion string

//go:embed completion/_buttersink
var zshCompletion string

//go:embed completion/buttersink.fish
var fishCompletion string

// completionShells are the shells that know how to ask the program.
var completionShells = []string{"bash", "zsh", "fish"}

// newCompletion returns the command that prints what a shell has to know.
func newCompletion(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Have a shell complete command lines",
		Long: `completion prints what a shell has to read to complete command lines of
buttersink by the Tab key. The packages have put it where the shells look already.

Offered are commands, flags and their values; the jobs and the stores of the
configuration; and places: directories, what jobs bring below a store
(store://NAME/), and the snapshots in a btrfs directory of this machine or in a
dir:// archive. What is on other machines and in buckets is looked up only where
BUTTERSINK_COMPLETE_REMOTE is 1, since that takes a connection, and in S3 costs a
request. Nothing is waited for longer than two seconds.

Before: the shell is bash 4.4, zsh 5 or fish 3, or a later one, and the program is
called buttersink.

After: the text is on standard output, and nothing has changed.`,
		Example: `  buttersink completion bash > /etc/bash_completion.d/buttersink
  buttersink completion zsh > /usr/local/share/zsh/site-functions/_buttersink
  buttersink completion fish > ~/.config/fish/completions/buttersink.fish
  . <(buttersink completion bash)     only here and now`,
		Args: func(cmd *cobra.Command, args []string) error {
			want := strings.Join(completionShells, ", ")
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one shell (%s), got %d arguments", want, len(args))
			}
			if completionOf(args[0]) == "" {
				return usagef(cmd.CommandPath(), "%q is no shell that is known: want %s", args[0], want)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := io.WriteString(env.Stdout, completionOf(args[0]))
			return env.untilReaderLeaves(err)
		},
	}
}

// completionOf is what a shell has to read; "" for one that is not known.
func completionOf(shell string) string {
	switch shell {
	case "bash":
		return bashCompletion
	case "zsh":
		return zshCompletion
	case "fish":
		return fishCompletion
	}
	return ""
}
