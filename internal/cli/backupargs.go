package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
)

// backupProgram is the name under which the program is btrfs-backup.
const backupProgram = "btrfs-backup"

// written replaces the arguments @FILE by what is in the file, where the command
// is one that takes them: they are replaced before any is looked at, wherever they
// stand, as btrfs-backup does it.
func written(cmd *cobra.Command, args []string) ([]string, error) {
	full := cmd.Name()
	if full != backupProgram {
		named, _, err := cmd.Find(args)
		if err != nil || named.Name() != "backup" {
			return args, nil // what is wrong with them is said where they are read
		}
		full += " backup"
	}
	all, err := config.Arguments(args)
	if err == nil {
		return all, nil
	}
	x := &usageError{command: full, err: err}
	if i := slices.IndexFunc(args, func(arg string) bool {
		info, err := os.Stat(arg)
		return strings.HasPrefix(arg, "@") && err == nil && info.IsDir()
	}); i >= 0 {
		return nil, &exitError{code: exitUsage, err: x, hint: fmt.Sprintf("An argument that begins with @ names a file with arguments: a subvolume of that name is written %s.", shellWord("./"+args[i]))}
	}
	return nil, x
}
