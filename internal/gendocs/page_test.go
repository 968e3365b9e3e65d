package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/cli"
)

// TestPages holds the page of every command against the command: its flags, and
// each line of its help that is to be copied as it is.
func TestPages(t *testing.T) {
	root := cli.Commands(cli.System())
	count := 0
	walk(root, func(c *cobra.Command) {
		count++
		t.Run(pageName(c), func(t *testing.T) {
			p := commandPage(root, c)
			shown := rendered(t, p.roff(time.Unix(1795316471, 0), "1.2.0"))
			var flags []string
			for _, s := range p.sections {
				for _, o := range s.flags {
					if strings.Contains(o.form, "--") {
						flags = append(flags, o.form)
					}
				}
			}
			if !topical(c) {
				if diff := cmp.Diff(forms(c), sorted(flags)); diff != "" {
					t.Errorf("flags of the command (-) and of its page (+):\n%s", diff)
				}
				if !strings.Contains(shown, c.CommandPath()) {
					t.Errorf("no synopsis:\n%s", shown)
				}
			}
			for line := range strings.Lines(c.Long + "\n" + c.Example + "\n") {
				line = strings.TrimRight(line, "\n ")
				if strings.HasPrefix(line, " ") && !strings.Contains(shown, line) {
					t.Errorf("the page lacks this line, or has changed it:\n%s", line)
				}
			}
		})
	})
	if count < 20 {
		t.Errorf("only %d commands", count)
	}
}

// forms returns how the flags of a command are written, of all that it takes.
func forms(c *cobra.Command) []string {
	c.InitDefaultHelpFlag()
	all := regexp.MustCompile(`(?m)^ +((?:-\w, )?--.*?)(?:   .*)?$`).FindAllStringSubmatch(c.LocalFlags().FlagUsages()+c.InheritedFlags().FlagUsages(), -1)
	var list []string
	for _, f := range all {
		list = append(list, f[1])
	}
	return sorted(list)
}

// rendered returns what man shows of a page, without bold and underlined text, and
// fails the test if groff has anything to say about it.
func rendered(t *testing.T, page []byte) string {
	t.Helper()
	// -c -b -o -u: grotty's plain text. The lines are long, so that none is broken.
	cmd := exec.Command("groff", "-ww", "-k", "-man", "-rLL=300n", "-Tutf8", "-P-c", "-P-b", "-P-o", "-P-u")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(page), &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("groff: %v\n%s\n%s", err, &errs, page)
	}
	return out.String()
}

// TestText holds texts against what a reader sees of them.
func TestText(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"filled", "one\ntwo", "one two"},
		{"paragraphs", "one\n\ntwo", "one\n\ntwo"},
		{"kept", "one\n  two   three\n  four\nfive", "one\n  two   three\n  four\n\nfive"},
		{"kept apart", "one\n\n  two\n\n    three\n\nfour", "one\n\n  two\n\n    three\n\nfour"},
		{"requests", ".so /etc/passwd\n'br\n  .TH\n  'x", ".so /etc/passwd 'br\n  .TH\n  'x"},
		{"as typed", "  --a-b ^'~`\"\\n\\fB$ \\\\ %…é", "  --a-b ^'~`\"\\n\\fB$ \\\\ %…é"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := page{name: "x", section: "1", summary: "y", sections: []section{{title: "TEXT", text: c.text}, {title: "END"}}}
			shown := rendered(t, p.roff(time.Time{}, "1"))
			_, body, _ := strings.Cut(shown, "TEXT\n")
			body, _, _ = strings.Cut(body, "END\n")
			var lines []string
			for line := range strings.Lines(body) {
				lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "       "))
			}
			if diff := cmp.Diff(c.want, strings.Trim(strings.Join(lines, "\n"), "\n")); diff != "" {
				t.Errorf("text (-), page (+):\n%s", diff)
			}
		})
	}
}

// TestOptions reads flags as cobra writes them.
func TestOptions(t *testing.T) {
	usage := `Usage:
  x y [flags] A --not-this

Examples:
  x y --nor-this

Flags:
  -d, --delete           remove
      --exclude REGEX    leave out  twice
      --sudo WHEN[=always]   with it
      --bare

Other machines (ssh://):
      --limit RATE   no more

Global Flags:
  -q, --quiet count   say less
`
	want := []option{
		{form: "-d, --delete", usage: "remove"},
		{form: "--exclude REGEX", usage: "leave out  twice"},
		{form: "--sudo WHEN[=always]", usage: "with it"},
		{form: "--bare"},
		{heading: "Other machines (ssh://)"},
		{form: "--limit RATE", usage: "no more"},
		{heading: "Everywhere"},
		{form: "-q, --quiet count", usage: "say less"},
	}
	if diff := cmp.Diff(want, options(usage), cmp.AllowUnexported(option{})); diff != "" {
		t.Error(diff)
	}
}
