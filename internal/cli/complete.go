package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionTime is how long a shell waits for what can follow. After that
// nothing does: a mount that hangs must not hang the prompt.
const completionTime = 2 * time.Second

// The directives to shells. File names are left to the shell, which knows its own
// ways to write them; all else comes from here, places included.
const (
	filesFollow   = cobra.ShellCompDirectiveDefault
	foldersFollow = cobra.ShellCompDirectiveFilterDirs
	wordsFollow   = cobra.ShellCompDirectiveNoFileComp
	listFollows   = wordsFollow | cobra.ShellCompDirectiveKeepOrder
)

// follow is what can stand at one position of a command line.
type follow func(ctx context.Context, cmd *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective)

// completes has the shells know what the words and the flags of all commands can
// be. What is in neither table has nothing to offer.
func (env *Env) completes(root *cobra.Command) {
	nothing := wordsFollow
	root.CompletionOptions.DefaultShellCompDirective = &nothing
	words, flags := env.wordsFollowing(), env.flagsFollowing()
	for _, cmd := range append(branches(root), root) {
		path := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), root.Name()))
		if positions, ok := words[path]; ok {
			cmd.ValidArgsFunction = following(positions)
		}
		for name, f := range flags {
			if cmd.Flags().Lookup(name) == nil && cmd.PersistentFlags().Lookup(name) == nil {
				continue
			}
			answer := following([]follow{f})
			// It fails where several commands share one flag, which has it then.
			_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return answer(cmd, nil, typed)
			})
		}
	}
}

// branches are all commands below one.
func branches(cmd *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, c := range cmd.Commands() {
		all = append(append(all, c), branches(c)...)
	}
	return all
}

// following makes cobra's function of what can stand at each position; the last
// one holds for all that come after it, and nil is nothing.
func following(positions []follow) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		f := positions[min(len(args), len(positions)-1)]
		if f == nil {
			return nil, wordsFollow
		}
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, completionTime)
		defer cancel()
		type answer struct {
			words     []cobra.Completion
			directive cobra.ShellCompDirective
		}
		answers := make(chan answer, 1)
		go func() {
			words, directive := f(ctx, cmd, typed)
			answers <- answer{words, directive}
		}()
		select {
		case a := <-answers:
			return shellLines(a.words), a.directive
		case <-ctx.Done():
			return nil, wordsFollow
		}
	}
}

// shellLines leaves out what cannot be told to a shell on one line, or typed.
func shellLines(words []cobra.Completion) []cobra.Completion {
	var all []cobra.Completion
	for _, w := range words {
		word, about, _ := strings.Cut(w, "\t")
		if printable(word) != word || strings.TrimSpace(word) != word || word == "" {
			continue
		}
		if about != "" {
			word = cobra.CompletionWithDesc(word, printable(about))
		}
		all = append(all, word)
	}
	return all
}

// wordsFollowing are what the words of a command can be, by the command's path.
func (env *Env) wordsFollowing() map[string][]follow {
	source := env.placesFollow(placeWish{schemes: everyScheme, snapshots: true})
	snapshot := env.placesFollow(placeWish{schemes: everyScheme, snapshots: true})
	directory := env.placesFollow(placeWish{schemes: everyScheme})
	destination := env.placesFollow(placeWish{schemes: append([]string{"shell"}, everyScheme...)})
	subvolume := env.placesFollow(placeWish{schemes: []string{"ssh", "ssh+btrfs"}})
	archive := env.placesFollow(placeWish{schemes: archiveSchemes, snapshots: true})
	jobs := env.jobsFollow
	short := func(ctx context.Context, cmd *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if typed == "" { // where commands are meant, as a rule
			return nil, wordsFollow
		}
		return source(ctx, cmd, typed)
	}
	return map[string][]follow{
		"":                {short, destination, nil},
		"sync":            {source, destination, nil},
		"list":            {source, nil},
		"backup":          {subvolume, destination},
		"prune":           {directory, nil},
		"cost":            {archive, nil},
		"thaw":            {archive, nil},
		"verify":          {archive, nil},
		"init":            {env.placesFollow(placeWish{schemes: archiveSchemes}), nil},
		"hold":            {snapshot, nil},
		"release":         {snapshot, nil},
		"explain":         {snapshot, destination, nil},
		"trash list":      {archive, nil},
		"trash restore":   {archive, nil},
		"trash empty":     {archive, nil},
		"run":             {jobs},
		"status":          {jobs},
		"history":         {jobs, nil},
		"systemd install": {jobs, nil},
		"systemd remove":  {jobs, nil},
		"config check":    {files, nil},
		"stream dump":     {files, nil},
		"stream verify":   {files},
		"checksumdir":     {folders},
		"btrfslist":       {folders, nil},
		"completion":      {these(completionShells...), nil},
	}
}

// flagsFollowing are what the values of flags can be, by the flag's name.
func (env *Env) flagsFollowing() map[string]follow {
	when := these("auto\twhere it pays", "never")
	all := map[string]follow{
		"compress":         these("zstd\tas fast as usual", "zstd:1\tthe fastest", "zstd:9", "zstd:19\tthe shortest"),
		"encrypt":          recipients,
		"storage-class":    these("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER\tcold", "DEEP_ARCHIVE\tcold"),
		"sse":              these("AES256", "aws:kms", "none"),
		"tier":             these("bulk\tthe cheapest", "standard", "expedited\tthe fastest"),
		"ssh-sudo":         these(sudoAuto+"\tunless the login is root", sudoAlways, sudoNever),
		"wire-compression": when,
		"verbosity":        these("debug", "info", "warning", "error"),
		"for":              env.placesFollow(placeWish{schemes: everyScheme}),
		"archive":          env.placesFollow(placeWish{schemes: archiveSchemes}),
		"on-calendar":      these("hourly", "daily", "weekly", "monthly", "*-*-* 02:00:00\tat two every night"),
		"random-delay":     these("5m", "30m", "1h"),
	}
	for _, name := range []string{"keep", "source-keep", "dest-keep"} {
		all[name] = rules
	}
	for _, name := range []string{"config", "database", "identity", "log", "logfile", "prices", "program", "ssh-command", "ssh-program", "textfile"} {
		all[name] = files
	}
	for _, name := range []string{"homes", "mount", "root", "snapshot-folder", "snapshots"} {
		all[name] = folders
	}
	return all
}

// files leaves a position to the shell, which offers files.
func files(context.Context, *cobra.Command, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, filesFollow
}

// folders leaves a position to the shell, which offers directories.
func folders(context.Context, *cobra.Command, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, foldersFollow
}

// these offers some words, in their order.
func these(words ...string) follow {
	return func(_ context.Context, _ *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return beginning(typed, words), listFollows
	}
}

// beginning are the words that begin as it was typed.
func beginning(typed string, words []string) []cobra.Completion {
	var some []cobra.Completion
	for _, w := range words {
		if strings.HasPrefix(w, typed) {
			some = append(some, w)
		}
	}
	return some
}

// rules offers the next retention rule.
func rules(_ context.Context, _ *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndexAny(typed, ",=")+1]
	var words []string
	for _, rule := range []string{"last:", "hourly:", "daily:", "weekly:", "monthly:", "yearly:", "min-age:", "zone:"} {
		words = append(words, before+rule)
	}
	return beginning(typed, words), listFollows
}

// recipients offers the ways to say for whom is encrypted, and files of keys.
func recipients(ctx context.Context, _ *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	file, ok := strings.CutPrefix(typed, "age:")
	if !ok {
		return beginning(typed, []string{"age:", "gpg:"}), wordsFollow
	}
	var words []cobra.Completion
	for _, e := range entriesAt(ctx, file) {
		words = append(words, "age:"+e.path())
	}
	return words, wordsFollow
}

// topics offers what there is help on.
func topics(_ context.Context, cmd *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var words []string
	for _, c := range cmd.Root().Commands() {
		if !c.Hidden && !strings.HasPrefix(c.Name(), "__") {
			words = append(words, cobra.CompletionWithDesc(c.Name(), c.Short))
		}
	}
	return beginning(typed, words), wordsFollow
}

// jobsFollow offers the jobs of the configuration.
func (env *Env) jobsFollow(_ context.Context, _ *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	f, err := env.loadConfig()
	if err != nil {
		return nil, wordsFollow
	}
	var words []string
	for _, j := range f.Jobs {
		words = append(words, cobra.CompletionWithDesc(j.Name, strings.Join(j.Sources, " ")))
	}
	return beginning(typed, words), listFollows
}
