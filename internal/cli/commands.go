package cli

import "github.com/spf13/cobra"

// Commands returns the commands of the program's own name as a tree, to be read:
// manual pages are written from it.
func Commands(env *Env) *cobra.Command {
	root := newRoot(env)
	asProgram(env, root)
	return root
}
