package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
)

// newConfig returns the commands about the configuration.
func newConfig(env *Env) *cobra.Command {
	return newGroup("config", "Check or show the configuration, or print an example",
		`The configuration names stores and jobs for "buttersink run", for timers, and for
places that are written store://NAME/. It is `+usualConfig+`, or the
file that -c or $`+configVariable+` names.`,
		newConfigCheck(env), newConfigShow(env), newConfigExample(env))
}

// newConfigCheck returns the command that looks for what is wrong.
func newConfigCheck(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [flags] [FILE]",
		Short: "Say what is wrong with the configuration",
		Long: `config check reads the configuration, or FILE, and says everything that is wrong
with it at once: FILE:LINE:COLUMN, what it is, the line itself, and what to do.
Keys that are not known, values that are not possible, names of stores and notices
that are not there, and two destinations that are one place are mistakes; so are
keys that others than their owner may read, programs that others may change, and a
configuration that others may write to. Every command that reads the configuration
looks at it in the same way first, and does nothing if what it says is wrong. A file
or a program that is not there, or that others can change or read, is trouble only
for the job, the store or the notice that it is for.

Nothing is connected to, and no program is run: whether a place can be reached is
what "buttersink run -n" says.

Before: nothing. Files that the configuration names are looked at as the user who
runs this, which should be the one who runs the jobs.

After: nothing has changed. The exit code is 0 if nothing is wrong, and 3 otherwise.`,
		Example: `  buttersink config check
  buttersink config check new.toml
  buttersink config check --json new.toml     for editors`,
		Args: upTo(1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := env.configPath()
			if len(args) == 1 {
				path = args[0]
			}
			return runConfigCheck(env, path, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each problem as one JSON object a line on standard output")
	return cmd
}

// upTo is for commands that take a few arguments at most.
func upTo(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef(cmd.CommandPath(), "want %s at most, and there is %q as well", what, args[n])
		}
		return nil
	}
}

// configProblem is something wrong, with --json.
type configProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

func runConfigCheck(env *Env, path string, asJSON bool) error {
	f, err := env.loadConfigFile(path)
	if err == nil && len(f.Troubles) > 0 {
		err = &exitError{code: exitConfig, err: f.Wrong()}
	}
	if asJSON {
		out := newRecords(env.Stdout)
		if wrong, ok := errors.AsType[*config.Error](err); ok {
			for _, p := range wrong.Problems {
				out.put(configProblem{p.File, p.At.Line, p.At.Column, place.Redact(p.Message), place.Redact(p.Fix)})
			}
			return errors.Join(&exitError{code: exitConfig, err: err, told: true}, out.err)
		}
		return err
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s is all right: %s, %s\n", printable(path), counted(len(f.Stores), "store"), counted(len(f.Jobs), "job"))
	return err
}

// counted is a number of things: "1 job", "2 jobs".
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// newConfigShow returns the command that shows what a configuration comes to.
func newConfigShow(env *Env) *cobra.Command {
	var asJSON, arguments bool
	cmd := &cobra.Command{
		Use:   "show [flags] [FILE]",
		Short: "Show what the configuration comes to",
		Long: `config show prints the configuration, or FILE, as it is understood: with what
holds where nothing is said, and the settings of stores in the destinations that
are in them. It is TOML again, and means the same, but for what is or may be secret,
which has stars in its place: passwords in URLs, the pages that are told how a job
went, and all arguments of programs. With --arguments these are shown as they are:
look through them before you give that to anybody.

With --json each store, job and notice, and the metrics, are one object a line, with
the same keys.

Before: what the configuration says is right. Files and programs that are not as
they should be are warnings.

After: nothing has changed. The exit code is 3 if anything is wrong with what it
says.`,
		Example: `  buttersink config show
  buttersink config show --json | jq 'select(.job == "home")'`,
		Args: upTo(1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := env.configPath()
			if len(args) == 1 {
				path = args[0]
			}
			f, err := env.loadConfigFile(path)
			if err != nil {
				return err
			}
			env.warnOf(f.Troubles)
			if !arguments {
				f = withoutArguments(f)
			}
			if asJSON {
				return env.untilReaderLeaves(showConfigRecords(env.Stdout, f))
			}
			_, err = io.WriteString(env.Stdout, showConfig(f))
			return env.untilReaderLeaves(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line on standard output")
	cmd.Flags().BoolVar(&arguments, "arguments", false, "show the arguments of programs, which may be secret")
	return cmd
}

// newConfigExample returns the command that prints a configuration to begin with.
func newConfigExample(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Print a configuration to begin with",
		Long: `config example prints a configuration that explains itself, with everything that
can be in one. Most of it is commented out.

Before: nothing.

After: nothing has changed.`,
		Example: `  buttersink config example > ` + usualConfig,
		Args:    upTo(0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(env.Stdout, config.Example())
			return env.untilReaderLeaves(err)
		},
	}
}
