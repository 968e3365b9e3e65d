package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A page is a manual page before it is written as one.
type page struct {
	name     string // with dashes for the spaces of a command's path
	section  string // 1: commands, 5: formats, 7: topics
	summary  string // one line
	sections []section
}

// A section is a heading with what stands below it.
type section struct {
	title string
	text  string   // as in a help: paragraphs, and indented lines that stay as they are
	flags []option // after the text
}

// An option is a flag as the help shows it, or a heading among flags.
type option struct {
	heading string
	form    string // "-n, --dry-run"
	usage   string
}

// file returns the name of the page's file.
func (p *page) file() string { return p.name + "." + p.section }

// topical reports whether a command is only a text to be read.
func topical(c *cobra.Command) bool { return !c.Runnable() && !c.HasSubCommands() }

// reference names the page of a command as other pages do: buttersink-sync(1).
func reference(c *cobra.Command) string {
	section := "1"
	if topical(c) {
		section = "7"
	}
	return pageName(c) + "(" + section + ")"
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// pages returns the pages of all commands and topics, and the one of the
// configuration, of which example is one.
func pages(root *cobra.Command, example string) []*page {
	var all []*page
	walk(root, func(c *cobra.Command) { all = append(all, commandPage(root, c)) })
	return append(all, configPage(root, example))
}

// commandPage makes the page of a command or a topic from its help.
func commandPage(root, c *cobra.Command) *page {
	c.InitDefaultHelpFlag()
	p := &page{name: pageName(c), section: "1", summary: c.Short}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	if topical(c) {
		p.section = "7"
		p.sections = []section{{title: "DESCRIPTION", text: long}}
	} else {
		p.sections = []section{{title: "SYNOPSIS", text: synopsis(c)}, {title: "DESCRIPTION", text: long}}
		if flags := options(c.UsageString()); len(flags) > 0 {
			p.sections = append(p.sections, section{title: "OPTIONS", flags: flags})
		}
		if c.HasExample() {
			p.sections = append(p.sections, section{title: "EXAMPLES", text: c.Example})
		}
	}
	if c == root {
		p.sections = append(p.sections, section{title: "COMMANDS", flags: members(c)}, section{title: "FILES", text: files})
	} else if c.HasAvailableSubCommands() {
		p.sections = append(p.sections, section{title: "COMMANDS", flags: members(c)})
	}
	if p.section == "1" {
		p.sections = append(p.sections, section{title: "EXIT STATUS", text: "0 where all is done; buttersink-exit-codes(7) has the others."})
	}
	p.sections = append(p.sections, section{title: "SEE ALSO", text: seeAlso(root, c)})
	return p
}

// files is what the program has on a machine.
const files = `  /etc/buttersink/config.toml   stores and jobs: buttersink.toml(5)
  /var/lib/buttersink/          what root's runs have to remember: the ledger`

// synopsis returns the ways a command is called, each a line.
func synopsis(c *cobra.Command) string {
	var lines []string
	if c.Runnable() && !c.HasAvailableSubCommands() || c.Parent() == nil {
		lines = append(lines, "  "+c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		lines = append(lines, "  "+c.CommandPath()+" COMMAND")
	}
	return strings.Join(lines, "\n")
}

// members lists the commands right below one.
func members(c *cobra.Command) []option {
	var list []option
	for _, m := range c.Commands() {
		if m.Hidden || m.Deprecated != "" {
			continue
		}
		list = append(list, option{form: reference(m), usage: m.Short})
	}
	return list
}

// seeAlso names the pages around that of a command.
func seeAlso(root, c *cobra.Command) string {
	var names []string
	add := func(c *cobra.Command) {
		if name := reference(c); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if c == root {
		return "buttersink.toml(5), btrfs(8), btrfs-send(8), ssh(1), age(1)"
	}
	add(root)
	if c.Parent() != root {
		add(c.Parent())
		for _, sibling := range c.Parent().Commands() {
			if sibling != c && !sibling.Hidden {
				add(sibling)
			}
		}
	}
	for _, other := range root.Commands() {
		if topical(other) && other != c {
			add(other)
		}
	}
	names = append(names, "buttersink.toml(5)")
	return strings.Join(names, ", ")
}

// flagLine is a flag in a help: two spaces or more, its forms, what it does.
var flagLine = regexp.MustCompile(`^ +((?:-\w, )?--[\w-]+.*?)(?:   +(.*))?$`)

// flagless are the parts of a usage that are not about flags.
var flagless = []string{"Usage", "Examples", "Aliases", "Available Commands", "Additional Commands", "Additional help topics"}

// options reads the flags out of the usage of a command, in its order and below
// its headings. They are told by what cobra writes: a flag begins with dashes after
// two spaces or more, a heading begins at the left and ends with a colon.
func options(usage string) []option {
	var list []option
	heading, part := "", ""
	for line := range strings.Lines(usage) {
		line = strings.TrimRight(line, " \n")
		if line == "" {
			continue
		}
		if line[0] != ' ' {
			part = strings.TrimSuffix(line, ":")
			heading = part
			if heading == "Global Flags" {
				heading = "Everywhere"
			}
			continue
		}
		if found := flagLine.FindStringSubmatch(line); found != nil && !slices.Contains(flagless, part) {
			if heading != "" && heading != "Flags" {
				list = append(list, option{heading: heading})
			}
			heading = ""
			list = append(list, option{form: found[1], usage: found[2]})
		}
	}
	return list
}

// configPage is the page of the configuration file, out of the example and what
// the commands about it say.
func configPage(root *cobra.Command, example string) *page {
	p := &page{name: "buttersink.toml", section: "5", summary: "the stores and jobs of buttersink"}
	p.sections = []section{
		{title: "SYNOPSIS", text: "  /etc/buttersink/config.toml"},
		{title: "DESCRIPTION", text: `What places there are and what is done every night stands in one file, of TOML:
/etc/buttersink/config.toml, or the one that $BUTTERSINK_CONFIG or --config names.
"buttersink run" carries it out, "buttersink status" says how it went, "buttersink
config check" says what is wrong in it, with its line and column, and "buttersink
config show" what it comes to.

The file belongs to root, or to the user who runs the program, and nobody else may
write to it. What follows is one that says of each key what it does; "buttersink
config example" prints it.`},
		{title: "EXAMPLE", text: indented(example)},
	}
	names := []string{reference(root)}
	for _, name := range []string{"config", "run", "status", "systemd", "urls"} {
		if c, _, err := root.Find([]string{name}); err == nil && c != root {
			names = append(names, reference(c))
		}
	}
	p.sections = append(p.sections, section{title: "SEE ALSO", text: strings.Join(names, ", ")})
	return p
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}
