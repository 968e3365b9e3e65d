package cli

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestSplitWords: a command line is cut as a POSIX shell cuts it.
func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"ssh":                        {"ssh"},
		"  ssh -F  conf\t-v\n":       {"ssh", "-F", "conf", "-v"},
		`ssh -F 'my conf' "a b"c\ d`: {"ssh", "-F", "my conf", "a bc d"},
		`a '' ""`:                    {"a", "", ""},
		`"\$x\y\"\\" '\n'`:           {`$x\y"\`, `\n`},
		"a\\\nb \"c\\\nd\"":          {"ab", "cd"},
		"$HOME *;|":                  {"$HOME", "*;|"},
		"":                           nil,
	} {
		got, err := splitWords(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`'`, `"`, `a "b\"`, `a\`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// TestSplitWordsUndoesQuoting: words that are quoted for a shell come back.
func TestSplitWordsUndoesQuoting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "words")
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, shellWord(w))
		}
		got, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(got, words) {
			t.Fatalf("%q became %q, %v", words, got, err)
		}
	})
}
