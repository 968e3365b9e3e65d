package config

import (
	"slices"
	"strings"
)

// Trouble is something about the machine that a part of a configuration cannot be
// used for: a program or a file that is not there, or that others can change or
// read. The text is right, and everything else of it holds.
type Trouble struct {
	// Key is the key in the table that it is about: "before", "encrypt", "sendmail".
	Key string
	// Program is the path of the one that it is about, if it is about one.
	Program string
	Problem
}

// Error is the problem in one line, without what the line in the file looks like.
func (t *Trouble) Error() string {
	text := t.Place() + ": " + t.Message
	if t.Fix != "" {
		text += ". " + t.Fix
	}
	return strings.TrimSuffix(text, ".")
}

// StateError is what Checks answer where not the text is to blame, but the state of
// the machine.
type StateError struct{ Err error }

func (e *StateError) Error() string { return e.Err.Error() }

// Unwrap returns what was found.
func (e *StateError) Unwrap() error { return e.Err }

// Wrong is an *Error with all troubles of a configuration; nil if there are none.
func (f *File) Wrong() error {
	return asError(len(f.Troubles), func(i int) Problem { return f.Troubles[i].Problem })
}

// Hindrances are what keeps a job from being begun: no snapshot is made unless
// what comes before it can be run, and what thaws again what that has frozen.
func (j *Job) Hindrances() []*Trouble {
	return slices.DeleteFunc(slices.Clone(j.Troubles), func(t *Trouble) bool {
		return t.Key != "before" && t.Key != "after-snapshot"
	})
}

// noted is a trouble that has not been shown yet.
type noted struct {
	located
	*Trouble
}

// trouble notes one, unless what is said there is wrong as it is.
func (r *decoder) trouble(t Trouble, where span, message, fix string) {
	if r.told[where.start] {
		return
	}
	r.troubles = append(r.troubles, noted{located{where, message, fix}, &t})
}

// since are the troubles that have been noted after there were so many.
func (r *decoder) since(before int) []*Trouble {
	var some []*Trouble
	for _, n := range r.troubles[before:] {
		some = append(some, n.Trouble)
	}
	return some
}

// tell has each trouble say what it is, as far as somebody reads them.
func (r *decoder) tell() {
	slices.SortStableFunc(r.troubles, func(a, b noted) int { return a.start - b.start })
	for i, n := range r.troubles {
		if i <= maxProblems {
			n.Problem = r.problem(n.located)
		} else {
			n.Problem = Problem{File: r.document.path, Message: brief(n.message), Fix: brief(n.fix)}
		}
	}
	r.file.Troubles = r.since(0)
}
