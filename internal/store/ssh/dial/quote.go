package dial

import (
	"fmt"
	"strings"
)

// longest is how long a command may be: Linux hands a program no argument of more
// than 32 pages (execve(2), MAX_ARG_STRLEN), and the remote shell gets all of it as
// one.
const longest = 128<<10 - 1

// Quote returns a word so that a remote shell hands it on as it is: as it stands
// if it has only letters, digits and some signs without a meaning, otherwise
// between single quotes. Backslashes and single quotes stand outside of them, with
// a backslash, because not only POSIX shells understand that but fish, too. A NUL
// cannot be in a word; Start refuses it.
func Quote(word string) string {
	if word != "" && strings.IndexFunc(word, special) < 0 {
		return word
	}
	return quoted(word)
}

// quoted puts a word between quotes, whether it needs them or not.
func quoted(word string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(word) {
		switch c := word[i]; c {
		case '\'', '\\':
			b.WriteString(`'\`)
			b.WriteByte(c)
			b.WriteByte('\'')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// special reports whether a shell may take a character for something else,
// somewhere in a word.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:@,+", r)
}

// line joins words to a command for a remote shell.
func line(words []string) (string, error) {
	if len(words) == 0 {
		return "", fmt.Errorf("no command to run on the far side")
	}
	parts := make([]string, len(words))
	for i, w := range words {
		if strings.Contains(w, "\x00") {
			return "", fmt.Errorf("%q has a NUL in it, which no command can be given", w)
		}
		parts[i] = Quote(w)
	}
	if strings.HasPrefix(parts[0], "-") {
		parts[0] = quoted(words[0]) // ssh would take it for an option of its own
	}
	return strings.Join(parts, " "), nil
}
