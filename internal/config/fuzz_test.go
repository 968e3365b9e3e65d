package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzLoad holds the reader against anything: what it takes, package toml takes as
// well; what is wrong has a place in the file, and is told in the same way again.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "#", "\n", "a = 1", Example(), uncommented(Example()), "[stores.a]\nurl = '/a'\n", "stores.a.url = \"\"",
		"jobs.a = { sources = ['/a'], destinations = [{ url = '/b/' }, {}] }", "[[jobs.a.destinations]]\n[[jobs.a.destinations]]",
		"[jobs.a]\nsources = [\n\t'/a', # c\n '/b' ]\r\nbefore = [['/a', \"\\u00fc\"]]", "a.b = 1\n[a]\nb = 2", "\"\" = \"\"", "x = 0x1F\ny = 1_0\nz = 1979-05-27",
		"[notify.a]\nping = \"\"\"\nhttps://u:p@h/secret\"\"\"\n", "[jobs.\"\\n\"]", "a = [[[[", "k = '\xff'", "[jobs.x]\ndays = [1, [2]]\nkind = 'calendar'",
	} {
		f.Add([]byte(seed))
	}
	check := func(string) error { return errors.New("want another: want this; write that") }
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		strict := Checks{
			URL:      func(_ Kind, url string) error { return check(url) },
			Setting:  func(_, key string, _ []string) error { return check(key) },
			Settings: func(string, []Setting) (string, error) { return "encrypt", check("") },
			Program:  func([]string) error { return check("") },
		}
		away := Checks{
			Setting: func(_, key string, _ []string) error { return &StateError{check(key)} },
			Program: func([]string) error { return check("") },
		}
		for _, checks := range []Checks{{}, strict, away} {
			file, err := decode(newDocument("f.toml", data), checks)
			if _, again := decode(newDocument("f.toml", data), checks); (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
				t.Fatalf("once %v\nthen %v", err, again)
			}
			if err == nil {
				var all map[string]any
				if file == nil || toml.Unmarshal(data, &all) != nil {
					t.Fatalf("%q is taken for %+v", data, file)
				}
				if err = file.Wrong(); err == nil {
					continue
				}
				file = nil // what is told of it has a place, too
			}
			wrong, ok := err.(*Error)
			if !ok || len(wrong.Problems) == 0 || file != nil {
				t.Fatalf("%T %v, %v", err, err, file)
			}
			lines := strings.Split(string(data), "\n")
			for _, p := range wrong.Problems {
				if p.At.Line < 1 || p.At.Line > len(lines) || p.At.Column < 1 || p.At.Column > len(lines[p.At.Line-1])+1 {
					t.Fatalf("%v is at %v", p, p.At)
				}
				if p.Message == "" || strings.Contains(p.Excerpt, "\t") || strings.Count(p.Excerpt, "\n") != 1 {
					t.Fatalf("%+v", p)
				}
			}
		}
	})
}

// FuzzSpan: what FormatSpan writes, ParseSpan reads.
func FuzzSpan(f *testing.F) {
	f.Add("30s")
	f.Add("8w")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseSpan(text)
		if err != nil {
			return
		}
		if again, err := ParseSpan(FormatSpan(d)); err != nil || again != d {
			t.Fatal(text, FormatSpan(d), again, err)
		}
	})
}

// uncommented is the example with everything in it that is commented out.
func uncommented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		bare := strings.TrimPrefix(line, "#")
		if key, _, ok := strings.Cut(strings.TrimSpace(bare), " = "); bare != line && (ok && !strings.Contains(key, " ") || strings.HasPrefix(strings.TrimSpace(bare), "[")) {
			line = bare
		}
		b.WriteString(line)
	}
	return b.String()
}
