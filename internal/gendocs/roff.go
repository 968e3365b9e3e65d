package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// roff writes a page with the macros of man(7).
func (p *page) roff(when time.Time, version string) []byte {
	var b bytes.Buffer
	date := ""
	if !when.IsZero() {
		date = when.Format(time.DateOnly)
	}
	// Hyphenated, a command or a path could not be copied.
	fmt.Fprintf(&b, ".TH %s %s %s %s %s\n.nh\n.ad l\n", quoted(strings.ToUpper(p.name)), quoted(p.section), quoted(date), quoted("buttersink "+version), quoted("buttersink"))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escaped(p.name), escaped(p.summary))
	for _, s := range p.sections {
		fmt.Fprintf(&b, ".SH %s\n", quoted(s.title))
		writeText(&b, s.text)
		for _, o := range s.flags {
			if o.heading != "" {
				fmt.Fprintf(&b, ".SS %s\n", quoted(o.heading))
				continue
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escaped(o.form), escaped(o.usage))
		}
	}
	return b.Bytes()
}

// writeText writes a text as helps are written: what begins at the left is filled,
// what is indented stays as it is, an empty line is one.
func writeText(b *bytes.Buffer, text string) {
	text = strings.Trim(text, "\n")
	if text == "" {
		return
	}
	const none, filled, kept = 0, 1, 2
	state, gap := none, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if line == "" {
			gap = true
			continue
		}
		want := filled
		if line[0] == ' ' {
			want = kept
		}
		if state == kept && want == filled {
			b.WriteString(".fi\n.RE\n")
		}
		switch {
		case want == kept && state != kept:
			if gap || state == none {
				b.WriteString(".PP\n")
			}
			b.WriteString(".RS 2\n.nf\n")
		case want == kept && gap:
			b.WriteString(".sp\n")
		case want == filled && (gap || state == kept):
			b.WriteString(".PP\n")
		}
		if want == kept {
			line = strings.TrimPrefix(line, "  ")
		}
		b.WriteString(escaped(line) + "\n")
		state, gap = want, false
	}
	if state == kept {
		b.WriteString(".fi\n.RE\n")
	}
}

// special is what means something to roff, or looks different from what is typed,
// and how it is written (groff_char(7)).
var special = strings.NewReplacer(`\`, `\(rs`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// escaped writes a line so that it is printed as it is.
func escaped(line string) string {
	line = special.Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}

// quoted writes an argument of a macro.
func quoted(word string) string {
	return `"` + strings.ReplaceAll(escaped(word), `"`, `\(dq`) + `"`
}
