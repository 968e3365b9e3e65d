// Command gendocs writes what packages carry besides the program, out of the
// program itself: manual pages, completions, an example of the configuration, and
// Debian's form of the changelog. Nothing of it is edited or kept in the repository.
//
// It knows the tree of commands and the help of each, and how manual pages are
// written. It refuses to know what the commands do: what they say about themselves
// is all there is, so that a page is never older than its command.
//
// What it writes depends on nothing but the source and SOURCE_DATE_EPOCH, the time
// (seconds since 1970) that pages are dated by; without it they have no date.
//
//	gendocs -version 1.2.0 -maintainer 'A <a@example.org>' DIR
//
// makes DIR with
//
//	man/buttersink*.1, .5, .7     commands, the configuration, topics
//	completions/buttersink.bash, _buttersink, buttersink.fish
//	config.toml                   what "buttersink config example" prints
//	changelog                     in the form of deb-changelog(5)
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/cli"
)

func main() {
	version := flag.String("version", "0", "the version of the packages")
	maintainer := flag.String("maintainer", "nobody <nobody@localhost>", "who signs the entry of the changelog")
	changes := flag.String("changes", "changelog/unreleased", "the directory with a file for each change")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "gendocs: want one directory to write into")
		os.Exit(2)
	}
	if err := generate(flag.Arg(0), *changes, *version, *maintainer); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// generate writes everything into a directory, which it makes.
func generate(dir, changes, version, maintainer string) error {
	when, err := epoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	tree := cli.Commands(cli.System())
	example, err := answer("config", "example")
	if err != nil {
		return err
	}
	for _, p := range pages(tree, string(example)) {
		files["man/"+p.file()] = p.roff(when, version)
	}
	for shell, name := range map[string]string{"bash": "buttersink.bash", "zsh": "_buttersink", "fish": "buttersink.fish"} {
		if files["completions/"+name], err = answer("completion", shell); err != nil {
			return err
		}
	}
	files["config.toml"] = example
	if files["changelog"], err = changelog(changes, version, maintainer, when); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// answer returns what the program answers to a command line.
func answer(args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	env := cli.System()
	env.Args0 = "buttersink"
	env.Stdin, env.Stdout, env.Stderr = &bytes.Buffer{}, &out, &errs
	env.StdinIsTerminal, env.StdoutIsTerminal, env.StderrIsTerminal = false, false, false
	env.Getenv = func(string) string { return "" }
	if code := cli.Main(args, env); code != 0 {
		return nil, fmt.Errorf("asking for %q: exit code %d: %s", args, code, &errs)
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("asking for %q: no answer", args)
	}
	return out.Bytes(), nil
}

// epoch reads SOURCE_DATE_EPOCH; the zero time where it is not set.
func epoch(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH=%q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// walk calls do for a command and for all below it that people see.
func walk(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Deprecated == "" {
			walk(c, do)
		}
	}
}

var errNoChanges = errors.New("no change is written down")
