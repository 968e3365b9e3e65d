package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/meter"
)

// flagGroup is some flags of a command under a heading in its help.
type flagGroup struct {
	title string
	names []string
}

// groupFlags has the help of a command show its flags in groups. Those of other
// commands that have the flags as well may name them in the same groups: what a
// command does not have is left out.
func groupFlags(cmd *cobra.Command, groups []flagGroup) {
	usual := (&cobra.Command{}).UsageFunc()
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		if c != cmd {
			return usual(c) // a member of it, which has inherited this function
		}
		out := c.OutOrStderr()
		var text bytes.Buffer
		c.SetOut(&text)
		err := usual(c)
		c.SetOut(out)
		if err != nil {
			return err
		}
		flags := "Flags:\n" + strings.TrimRight(c.LocalFlags().FlagUsages(), " \n") + "\n"
		_, err = fmt.Fprint(out, strings.Replace(text.String(), flags, groupedFlags(c, groups), 1))
		return err
	})
}

// groupedFlags is the part of a help that shows the flags of a command.
func groupedFlags(c *cobra.Command, groups []flagGroup) string {
	var b strings.Builder
	for _, g := range groups {
		some := (&cobra.Command{}).Flags()
		for _, name := range g.names {
			if f := c.LocalFlags().Lookup(name); f != nil {
				some.AddFlag(f)
			}
		}
		if !some.HasFlags() {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.WriteString(g.title + ":\n" + strings.TrimRight(some.FlagUsages(), " \n") + "\n")
	}
	return b.String()
}

// sizeFlag is a flag whose value is a size.
type sizeFlag struct {
	bytes int64
	given string // as it was typed; empty if it was not
}

func (f *sizeFlag) String() string { return f.given }
func (f *sizeFlag) Type() string   { return "SIZE" }

// Set takes what was typed.
func (f *sizeFlag) Set(text string) error {
	n, err := meter.ParseBytes(text)
	if err != nil {
		return err
	}
	f.bytes, f.given = n, text
	return nil
}
