package cli

import (
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/config"
)

// hidden stands where something is that may be secret.
const hidden = "***"

// withoutArguments is a configuration to be shown to anybody: an argument of a program
// can be a password, and nobody can tell which one is.
func withoutArguments(f *config.File) *config.File {
	shown := *f
	shown.Stores = slices.Clone(f.Stores)
	for i := range shown.Stores {
		s := &shown.Stores[i]
		s.URL, s.Settings = withoutCommand(s.URL), bareSettings(s.Settings)
	}
	shown.Jobs = slices.Clone(f.Jobs)
	for i := range shown.Jobs {
		j := &shown.Jobs[i]
		for _, programs := range []*[][]string{&j.Before, &j.AfterSnapshot, &j.After, &j.OnFailure} {
			*programs = slices.Clone(*programs)
			for k, argv := range *programs {
				(*programs)[k] = programOnly(argv)
			}
		}
		j.Settings = bareSettings(j.Settings)
		j.Destinations = slices.Clone(j.Destinations)
		for k := range j.Destinations {
			d := &j.Destinations[k]
			d.URL, d.Settings = withoutCommand(d.URL), bareSettings(d.Settings)
		}
	}
	shown.Notices = slices.Clone(f.Notices)
	for i := range shown.Notices {
		n := &shown.Notices[i]
		n.Command, n.Sendmail = programOnly(n.Command), programOnly(n.Sendmail)
	}
	return &shown
}

// programOnly is a program with stars for its arguments.
func programOnly(argv []string) []string {
	if len(argv) < 2 {
		return argv
	}
	return append([]string{argv[0]}, slices.Repeat([]string{hidden}, len(argv)-1)...)
}

// withoutCommand is the URL of a store, without the arguments of a command.
func withoutCommand(url string) string {
	if command, ok := strings.CutPrefix(url, "shell://"); ok {
		return "shell://" + firstWord(command)
	}
	return url
}

// firstWord is a command line with stars for all but the program; also for that if it
// gives a variable its value.
func firstWord(command string) string {
	first, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
	switch {
	case strings.ContainsAny(first, "=\t\n"):
		return hidden
	case rest == "":
		return first
	}
	return first + " " + hidden
}

// bareSettings are settings without the arguments of the command that ssh is replaced by,
// and of those that its options name.
func bareSettings(all []config.Setting) []config.Setting {
	all = slices.Clone(all)
	for i, s := range all {
		if s.Key != "ssh-command" && s.Key != "ssh-opt" {
			continue
		}
		values := slices.Clone(s.Values)
		for k, value := range values {
			if s.Key == "ssh-command" {
				values[k] = firstWord(value)
			} else {
				values[k] = bareOption(value)
			}
		}
		all[i].Values = values
	}
	return all
}

// bareOption is an option of ssh without the arguments of a command. All that take one
// are called so: ProxyCommand, LocalCommand, RemoteCommand, KnownHostsCommand.
func bareOption(option string) string {
	key, value, _ := strings.Cut(option, "=")
	if !strings.HasSuffix(strings.ToLower(strings.TrimSpace(key)), "command") {
		return option
	}
	return key + "=" + firstWord(value)
}
