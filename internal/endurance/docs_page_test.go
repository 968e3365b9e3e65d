package endurance

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A passage is a piece of a page that is set as code, without a blank line in it.
type passage struct {
	heading string // the nearest one above it, without its signs
	line    int    // where it begins in the page
	kind    kind
	name    string   // of a file: the path that its first line names
	text    string   // as it stands there, ending in a newline
	runs    []string // the command lines in it
	shown   []string // what each of them prints, where they follow "$ "
}

// kind is what a passage is.
type kind string

const (
	commands kind = "commands"
	file     kind = "a file"            // it begins with a comment that is the file's path
	script   kind = "a script"          // it begins with #!
	sudoers  kind = "rules for sudo"    // for visudo
	keyLine  kind = "a line for a key"  // for authorized_keys
	settings kind = "configuration"     // TOML
	data     kind = "data"              // JSON
	printed  kind = "what a run prints" // it is indented once more
)

// pages returns the pages of the documentation, relative to the top of the house.
func pages(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(all) == 0 {
		t.Fatalf("there are no pages: %v", err)
	}
	names := []string{"README.md"}
	for _, page := range all {
		names = append(names, "docs/"+filepath.Base(page))
	}
	return names
}

// readPage returns the passages of a page.
func readPage(t *testing.T, page string) []passage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	return parsePage(string(text))
}

// Where a fence begins and ends, and a heading.
var (
	fenceLine   = regexp.MustCompile("^ {0,3}```")
	headingLine = regexp.MustCompile(`^#+ +(.*?) *#*$`)
)

// parsePage finds the code in Markdown: between fences, or indented by four and
// more behind a blank line. What continues an item of a list is indented by less
// in this house.
func parsePage(text string) (all []passage) {
	lines := strings.Split(text, "\n")
	heading := ""
	for i := 0; i < len(lines); i++ {
		if m := headingLine.FindStringSubmatch(lines[i]); m != nil {
			heading = m[1]
			continue
		}
		begin := i
		var block []string
		switch {
		case fenceLine.MatchString(lines[i]):
			for i++; i < len(lines) && !fenceLine.MatchString(lines[i]); i++ {
				block = append(block, lines[i])
			}
			begin++
		case strings.HasPrefix(lines[i], "    ") && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == ""); i++ {
				block = append(block, lines[i])
			}
			i--
			block = dedent(block)
		}
		all = append(all, passages(heading, begin+1, block)...)
	}
	return all
}

// dedent takes the indentation away that all lines have, in steps of four.
func dedent(block []string) []string {
	least := -1
	for _, line := range block {
		if n := len(line) - len(strings.TrimLeft(line, " ")); line != "" && (least < 0 || n < least) {
			least = n
		}
	}
	out := make([]string, len(block))
	for i, line := range block {
		out[i] = line[min(len(line), least/4*4):]
	}
	return out
}

// What the first line of a passage tells.
var (
	pathLine    = regexp.MustCompile(`^# (/\S+)$`)
	sudoersLine = regexp.MustCompile(`(?m)^\w+ ALL=\(`)
	tableLine   = regexp.MustCompile(`^\s*(\[+[\w."-]+\]+|[\w."-]+ = .*)(\s+#.*)?$`)
	cronLine    = regexp.MustCompile(`^(?:[\d*/,-]+ +){5}(\S.*)$`)
)

// passages splits a block at its blank lines, and tells what each piece is.
func passages(heading string, line int, block []string) (all []passage) {
	for len(block) > 0 {
		end := slices.Index(block, "")
		if end < 0 {
			end = len(block)
		}
		// A line for a key stands alone.
		if i := slices.IndexFunc(block[:end], func(line string) bool { return strings.HasPrefix(line, "restrict,") }); i > 0 {
			end = i
		}
		if end > 0 {
			p := passage{heading: heading, line: line, text: strings.Join(block[:end], "\n") + "\n"}
			p.classify()
			// The rest of a file may be behind a blank line, and that of a configuration.
			if n := len(all); n > 0 && p.kind == settings && (all[n-1].kind == file || all[n-1].kind == settings) {
				all[n-1].text += "\n" + p.text
			} else {
				all = append(all, p)
			}
		}
		if end < len(block) && block[end] == "" {
			end++
		}
		block, line = block[end:], line+end
	}
	return all
}

func (p *passage) classify() {
	lines := strings.Split(strings.TrimSuffix(p.text, "\n"), "\n")
	first := lines[0]
	for strings.HasPrefix(first, "# ") && pathLine.FindStringSubmatch(first) == nil && len(lines) > 1 {
		lines = lines[1:]
		first = lines[0]
	}
	switch m := pathLine.FindStringSubmatch(first); {
	case m != nil:
		p.kind, p.name = file, m[1]
	case strings.HasPrefix(first, "#!"):
		p.kind = script
	case sudoersLine.MatchString(p.text):
		p.kind = sudoers
	case strings.HasPrefix(first, "restrict,"):
		p.kind = keyLine
	case tableLine.MatchString(first):
		p.kind = settings
	case strings.HasPrefix(first, "{"):
		p.kind = data
	case !slices.ContainsFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "  ") }):
		p.kind = printed
	case slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "$ ") }):
		p.kind = commands
		for _, line := range joined(lines) {
			if line, ok := strings.CutPrefix(line, "$ "); ok {
				p.runs, p.shown = append(p.runs, bare(line)), append(p.shown, "")
			} else if n := len(p.shown); n > 0 {
				p.shown[n-1] += line + "\n"
			}
		}
	default:
		p.kind = commands
		for _, line := range joined(lines) {
			if line = bare(line); line != "" {
				p.runs = append(p.runs, line)
			}
		}
	}
}

// joined puts together what a backslash has put on several lines.
func joined(lines []string) (all []string) {
	open := false
	for _, line := range lines {
		text, goesOn := strings.CutSuffix(line, `\`)
		if open {
			all[len(all)-1] += strings.TrimLeft(text, " ")
		} else {
			all = append(all, text)
		}
		open = goesOn
	}
	return all
}

// bare takes away from a command line what is no part of the command: a comment,
// and when a crontab runs it.
func bare(line string) string {
	if m := cronLine.FindStringSubmatch(line); m != nil {
		line = m[1]
	}
	var quote rune
	for i, c := range line {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' '):
			return strings.TrimRight(line[:i], " ")
		}
	}
	return strings.TrimRight(line, " ")
}

// inlineCode is a piece of code within a sentence, which may go on behind the end
// of a line.
var inlineCode = regexp.MustCompile("`([^`]+)`")

// mentions returns the command lines of the program that stand within sentences.
func mentions(text string) (all []string) {
	// What is code already is none of it.
	var prose strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "    ") {
			prose.WriteString(line)
		}
	}
	for _, m := range inlineCode.FindAllStringSubmatch(prose.String(), -1) {
		line := strings.Join(strings.Fields(m[1]), " ")
		if strings.HasPrefix(line, "buttersink ") && !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	return all
}

// TestDocsPage: what is code in a page is found, and taken for what it is.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	const page = `# A page

Text with ` + "`buttersink list\n-d DIR`" + `.

    # a remark
    buttersink one 'a # b'    # a comment
    0 3 * * *  buttersink two \
        --three

    keeper ALL=(root) NOPASSWD: /bin/true

## Deeper ##

- an item
  of two lines

        $ buttersink four
        ERROR: no
          more

  indented

    # /etc/x.service
    [Unit]

    [Service]
    ExecStart=/bin/true

    systemctl start x

` + "```toml\n[jobs.a]\nkeep = \"last:3\"\n\n  [jobs.a.b]\n```\n\n```\n#!/bin/sh\nexit\n```\n\n      what it says\n\n    {\"a\": 1}\n"
	want := []string{
		"A page 6 commands: buttersink one 'a # b' | buttersink two --three",
		"A page 11 rules for sudo: ",
		"Deeper 18 commands: buttersink four -> \"ERROR: no\\n  more\\n\"",
		"Deeper 24 a file /etc/x.service: ",
		"Deeper 30 commands: systemctl start x",
		"Deeper 33 configuration: ",
		"Deeper 40 a script: ",
		"Deeper 44 what a run prints: ",
		"Deeper 46 data: ",
	}
	var got []string
	for _, p := range parsePage(page) {
		name := p.name
		if name != "" {
			name = " " + name
		}
		runs := slices.Clone(p.runs)
		for i, shown := range p.shown {
			runs[i] += " -> " + strconv.Quote(shown)
		}
		got = append(got, p.heading+" "+strconv.Itoa(p.line)+" "+string(p.kind)+name+": "+strings.Join(runs, " | "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"buttersink list -d DIR"}, mentions(page)); diff != "" {
		t.Error(diff)
	}
}
