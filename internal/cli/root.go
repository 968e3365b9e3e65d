package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker in a release. Elsewhere it is empty, and the
// build says for itself what it was made from.
var version string

// program returns the command that the program's name stands for.
func program(env *Env) *cobra.Command {
	var cmd *cobra.Command
	switch filepath.Base(env.Args0) {
	case "btrfslist":
		cmd = newBtrfslist(env)
	case "checksumdir":
		cmd = newChecksumdir(env)
	case backupProgram:
		cmd = newBackup(env, backupProgram)
	case btrsendProgram:
		cmd = newBtrsend(env, btrsendProgram)
	case btrsnapProgram:
		cmd = newBtrsnap(env, btrsnapProgram)
	default:
		cmd = newRoot(env)
	}
	asProgram(env, cmd)
	return cmd
}

// newRoot returns the command of the program's own name. With two arguments it
// is sync, with one it is list.
func newRoot(env *Env) *cobra.Command {
	sync, list := newSync(env), newList(env)
	var server serverFlags
	root := &cobra.Command{
		Use:   "buttersink [flags] [SRC] DST",
		Short: "Carry btrfs snapshots from one place to another",
		Long: `buttersink carries btrfs snapshots from one place to another, sending only
what the other place does not have. A place is a btrfs directory, of this machine
or of another one that ssh reaches, or an archive: snapshots as sealed objects, in
a plain directory, in S3 or in a vault of Glacier.

With two arguments it is the same as "buttersink sync SRC DST": afterwards DST
holds every snapshot that is in SRC. With one argument it is the same as
"buttersink list DIR": it shows the snapshots in a directory. "buttersink explain"
says why a snapshot is sent as it is.

The slash at the end matters: /dir/ stands for all snapshots below a directory,
/dir/snap for the one snapshot of that name. A directory that is named like a
command is written ./list/ or with its full path. "buttersink help urls" has all
forms that a place can be written in.

Before: the directories exist, and those of btrfs are on mounted file systems; it
runs as root where btrfs is concerned. A directory becomes an archive by
"buttersink init".

After: see "buttersink sync --help" and "buttersink list --help".`,
		Example: `  buttersink /mnt/a/snaps/                      show what is there
  buttersink -n /mnt/a/snaps/ /mnt/b/snaps/     show what would be sent
  buttersink /mnt/a/snaps/ /mnt/b/snaps/        send it
  buttersink /mnt/a/snaps/monday /mnt/b/snaps/  send one snapshot
  buttersink /mnt/a/snaps/ ssh://keeper@host/mnt/b/snaps/   to another machine
  buttersink ssh://host/mnt/b/snaps/ /mnt/a/snaps/          and from there
  buttersink /mnt/a/snaps/ s3://bucket/snaps/   store it as objects in S3
  buttersink s3://bucket/snaps/ /mnt/b/snaps/   and bring it back`,
		Args: func(cmd *cobra.Command, args []string) error {
			if server.server {
				return nil // which says for itself what is wrong with them
			}
			if odd := server.given(); odd != "" {
				return usagef(cmd.CommandPath(), "--%s is only for --server", odd)
			}
			switch len(args) {
			case 0:
				return usagef(cmd.CommandPath(), "nothing to do: name a directory to list, or a source and a destination")
			case 1, 2:
				return misnamed(cmd, args[0])
			}
			return sync.Args(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if server.server {
				return runServer(cmd.Context(), env, &server, oddFlag(cmd), args)
			}
			if len(args) == 2 {
				return sync.RunE(cmd, args)
			}
			if odd := oddFlag(cmd, append(listWords, "part-size")...); odd != "" { // which ButterSink takes here
				return usagef(cmd.CommandPath(), "--%s is only for sending, and one place is only listed: want a source and a destination", odd)
			}
			if err := handOver(cmd, list); err != nil {
				return err
			}
			return list.RunE(cmd, args)
		},
	}
	root.Flags().AddFlagSet(sync.Flags()) // the same variables, under both commands
	serverFlagsOf(root, &server)
	root.AddCommand(sync, list, newBackup(env, "backup"), newRun(env), newStatus(env), newHistory(env), newBtrsend(env, btrsendProgram), newBtrsnap(env, btrsnapProgram), newPrune(env), newCost(env), newHold(env), newRelease(env), newExplain(env), newInit(env), newVerify(env), newTrash(env), newThaw(env), newStream(env), newBtrfslist(env), newChecksumdir(env), newCompletion(env),
		&cobra.Command{
			Use:   "exit-codes",
			Short: "What the exit codes mean",
			Long:  exitCodesHelp(),
		},
		&cobra.Command{
			Use:   "server",
			Short: "What runs on the far side of ssh://, and how to allow it there",
			Long:  serverHelp,
		},
		&cobra.Command{
			Use:   "urls",
			Short: "How places are written: btrfs, other machines, directories, S3, Glacier",
			Long:  urlsHelp,
		})
	root.PersistentFlags().StringVarP(&env.configFile, "config", "c", "", "read the configuration from `FILE` (default "+usualConfig+", $"+configVariable+")")
	root.AddCommand(newConfig(env), newSystemd(env))
	groupFlags(root, syncGroups)
	root.SetHelpCommand(newHelp(root))
	env.helpOnly(root)
	return root
}

// misnamed says if the first word after the program's own name is no command, and
// cannot be a place either.
func misnamed(root *cobra.Command, word string) error {
	if word == "" || strings.ContainsAny(word, "/:") {
		return nil
	}
	if root.Flags().Changed("ssh-sudo") && slices.Contains(sudos, word) {
		return nil // who wrote it is told what --ssh-sudo wants
	}
	if _, err := os.Lstat(word); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	meant := ""
	root.SuggestionsMinimumDistance = 2
	if all := root.SuggestionsFor(word); len(all) > 0 {
		meant = " (is it " + strings.Join(all, " or ") + "?)"
	}
	return usagef(root.CommandPath(), "%q is no command%s, and nothing here has that name", word, meant)
}

// helpOnly has --help explain only commands that there are: cobra looks no further
// when it finds it, and would explain the one above a word that is none.
func (env *Env) helpOnly(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		words := cmd.Flags().Args()
		switch {
		case len(words) == 0 || !cmd.HasSubCommands():
		case cmd == root:
			env.unexplained = misnamed(root, words[0])
		default:
			env.unexplained = cmd.Args(cmd, words)
		}
		if env.unexplained == nil {
			help(cmd, args)
		}
	})
}

// listWords are the flags that have an effect where one place is listed.
var listWords = []string{"dry-run", "delete", "estimate", "exclude", "json", "s3-endpoint", "s3-path-style", "ssh-command", "ssh-opt", "ssh-program", "ssh-sudo"}

// oddFlag returns the first flag of a sync that was given and is not among those
// that have an effect, nor one that holds everywhere; "" if there is none.
func oddFlag(cmd *cobra.Command, effective ...string) string {
	for _, g := range syncGroups { // which have all flags
		for _, name := range g.names {
			f := cmd.Flags().Lookup(name)
			if f != nil && f.Changed && cmd.PersistentFlags().Lookup(name) == nil && !slices.Contains(effective, name) {
				return name
			}
		}
	}
	return ""
}

// handOver sets on one command the flags that were given to another and that
// both have.
func handOver(from, to *cobra.Command) error {
	for _, name := range listWords {
		given, wanted := from.Flags().Lookup(name), to.Flags().Lookup(name)
		if given == nil || wanted == nil || !given.Changed {
			continue
		}
		type list interface { // what the value of a flag that may be repeated is
			GetSlice() []string
			Replace([]string) error
		}
		var err error
		if values, ok := given.Value.(list); ok {
			err = wanted.Value.(list).Replace(values.GetSlice())
		} else {
			err = wanted.Value.Set(given.Value.String())
		}
		if err != nil {
			return fmt.Errorf("setting --%s: %w", name, err)
		}
		wanted.Changed = true
	}
	return nil
}

// asProgram gives a command what the topmost one has: the flags that hold
// everywhere, and what becomes of errors.
func asProgram(env *Env, cmd *cobra.Command) {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.CompletionOptions.DisableDefaultCmd = !cmd.HasSubCommands()
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if e, ok := errors.AsType[*strconv.NumError](err); ok {
			// Whose parser it was is of no interest.
			want := "want a whole number"
			if e.Func == "ParseFloat" {
				want = "want a number, like 25 or 2.5"
			}
			err = errors.New(strings.Replace(err.Error(), e.Error(), want, 1))
		}
		return &usageError{command: cmd.CommandPath(), err: err}
	})

	var quiet int
	var logFile string
	var showVersion bool
	cmd.PersistentFlags().CountVarP(&quiet, "quiet", "q", "say less: once no progress, twice errors only")
	cmd.PersistentFlags().StringVarP(&logFile, "logfile", "l", "", "append a detailed log to `FILE`")
	cmd.Flags().BoolVarP(&showVersion, "version", "V", false, "print the version and end")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, words []string) error {
		if server := cmd.Flags().Lookup("server"); server != nil && server.Changed {
			quiet = max(quiet, 1) // the other side tells people what is done
		}
		if err := env.startLog(quiet, logFile); err != nil {
			return &usageError{command: cmd.CommandPath(), err: err}
		}
		env.Log.Debug("Begins: "+strings.Join(append([]string{cmd.CommandPath()}, words...), " "), "version", versionText())
		return nil
	}

	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, words []string) error {
		if showVersion {
			return nil
		}
		return args(cmd, words)
	}
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if showVersion {
			fmt.Fprintf(env.Stdout, "%s %s\n", cmd.Name(), versionText())
			return nil
		}
		return run(cmd, words)
	}
	if cmd.HasSubCommands() {
		env.completes(cmd)
	}
}

// versionText says which build this is.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel" + revision + " " + runtime.Version()
}

// newHelp returns the help command. Unlike cobra's own it takes a topic that
// does not exist for the mistake that it is.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND or TOPIC]",
		Short: "Explain a command or a topic",
		// It joins the others too late for completes to find it.
		ValidArgsFunction: following([]follow{topics, nil}),
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef(root.CommandPath(), "no help on %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// newGroup returns a command that only holds others.
func newGroup(use, short, long string, members ...*cobra.Command) *cobra.Command {
	var names []string
	for _, m := range members {
		names = append(names, m.Name())
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args: func(cmd *cobra.Command, args []string) error {
			want := strings.Join(names, " or ")
			if len(args) == 0 {
				return usagef(cmd.CommandPath(), "%s needs a command: %s", cmd.CommandPath(), want)
			}
			return usagef(cmd.CommandPath(), "%s has no command %q: want %s", cmd.CommandPath(), args[0], want)
		},
		RunE: func(*cobra.Command, []string) error { return errors.New("a group does nothing") },
	}
	cmd.AddCommand(members...)
	return cmd
}
