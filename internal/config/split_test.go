package config

import (
	"slices"
	"strings"
	"testing"
)

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "# c\n@sub/b.conf\n-p   my prefix with  spaces\n/source with space\n",
		"-S # x", "--opt=a b", "@", "-p @", "-\u00a0\u00a0x", "\x85", "\u0085-a\u2028", "-", "- ", "@/../..//x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := split(text, "/etc/backup")
		lines := strings.FieldsFunc(text, ends)
		if len(args) > 2*len(lines) {
			t.Fatalf("%d arguments out of %d lines", len(args), len(lines))
		}
		for i, arg := range args {
			switch {
			case arg == "":
				t.Fatal("an empty argument")
			case arg[0] != '@' && strings.TrimFunc(arg, blank) != arg: // "@a /" is "@a "
				t.Fatalf("%q has blanks at its ends", arg)
			case strings.IndexFunc(arg, ends) >= 0:
				t.Fatalf("%q is more than a line", arg)
			case arg[0] == '@' && !strings.HasPrefix(arg, "@/"):
				t.Fatalf("%q is relative to something else", arg)
			case arg[0] == '#' && (i == 0 || args[i-1][0] != '-'):
				t.Fatalf("%q is a comment", arg)
			}
		}
		// Each argument on a line of its own is read as itself.
		again := split(strings.Join(args, "\n"), "/elsewhere")
		special := slices.ContainsFunc(args, func(a string) bool {
			return a[0] == '#' || a[0] == '-' && strings.IndexFunc(a, blank) > 0 || strings.TrimFunc(a, blank) != a
		})
		if !special && !slices.Equal(args, again) {
			t.Fatalf("%q is read as %q", args, again)
		}
	})
}
