package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
)

// field is a key that a table may have, and what becomes of its value.
type field struct {
	key  string
	read func(*value)
}

// fields reads the entries of a table that is called what: each that is known, and
// a problem for each that is not. Elsewhere says where a key belongs that other
// tables have.
func (r *decoder) fields(t *table, what string, known []field, elsewhere func(key string) string) {
	for _, e := range t.entries {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == e.key })
		if i >= 0 {
			known[i].read(e.value)
			continue
		}
		fix := ""
		if elsewhere != nil {
			fix = elsewhere(e.key)
		}
		if fix == "" {
			var names []string
			for _, f := range known {
				names = append(names, f.key)
			}
			fix = meant(e.key, names)
		}
		r.wrong(e.at, fmt.Sprintf("there is no key %+q in %s", e.key, what), fix)
	}
}

// is notes a problem unless a value is of a form.
func (r *decoder) is(v *value, want form, example string) bool {
	if v.form == want {
		return true
	}
	fix := "Write " + example + ", say."
	switch {
	case strings.HasPrefix(example, "[["):
		fix = "Write " + example + "."
	case v.form == aText && want == aList && !strings.ContainsAny(v.text, "\n\\\""):
		fix = fmt.Sprintf("Write [%q].", cover(v.text))
	case v.form == aText && want == aSwitch && (v.text == "true" || v.text == "false"),
		v.form == aText && want == aNumber && digits(v.text):
		fix = fmt.Sprintf("Write it without quotes: %s.", v.text)
	}
	r.wrong(v.span, fmt.Sprintf("this is %s, and %s is wanted", v.form, want), fix)
	return false
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// text reads one, which is not empty.
func (r *decoder) text(to *string, example string) func(*value) {
	return func(v *value) {
		switch {
		case !r.is(v, aText, strconv.Quote(example)):
		case v.text == "":
			r.wrong(v.span, "this is empty", fmt.Sprintf("Write %q, say, or leave out the line.", example))
		case strings.ContainsAny(v.text, "\x00\n"):
			r.wrong(v.span, "there is a line end or a NUL in it", "Write it in one line.")
		default:
			*to = v.text
		}
	}
}

// most is how many there may be of anything in a configuration, so that all can be
// compared with all.
const most = 1000

// tooMany notes a list that is longer than anybody writes.
func (r *decoder) tooMany(v *value) bool {
	if len(v.list) <= most {
		return false
	}
	r.wrong(v.span, fmt.Sprintf("there are %d values in this list", len(v.list)), fmt.Sprintf("It takes %d at most.", most))
	return true
}

// flag reads true or false.
func (r *decoder) flag(to *bool) func(*value) {
	return func(v *value) {
		if r.is(v, aSwitch, "true or false") {
			*to = v.text == "true"
		}
	}
}

// unlimited is the most where there is no reason for a limit.
const unlimited = 1 << 30

// number reads a whole one.
func (r *decoder) number(to *int, least, most int) func(*value) {
	return func(v *value) {
		switch {
		case !r.is(v, aNumber, strconv.Itoa(least)):
		case v.number < int64(least) || v.number > int64(most):
			fix := fmt.Sprintf("It takes %d to %d.", least, most)
			if most == unlimited {
				fix = fmt.Sprintf("It takes %d or more.", least)
			}
			r.wrong(v.span, fmt.Sprintf("%d is not possible here", v.number), fix)
		default:
			*to = int(v.number)
		}
	}
}

// texts reads a list of them, of which none is empty or there twice.
func (r *decoder) texts(to *[]string, example string, check func(v *value) bool) func(*value) {
	return func(v *value) {
		if !r.is(v, aList, fmt.Sprintf("[%q]", example)) {
			return
		}
		all := []string{}
		if r.tooMany(v) {
			return
		}
		for _, one := range v.list {
			text := ""
			r.text(&text, example)(one)
			switch {
			case text == "":
			case slices.Contains(all, text):
				r.wrong(one.span, fmt.Sprintf("%q is there twice", cover(text)), "Remove one of the two.")
			case check == nil || check(one):
				all = append(all, text)
			}
		}
		*to = all
	}
}

// age reads how old something may be; lasting how long something may take.
func (r *decoder) age(to *time.Duration) func(*value) {
	return r.time(to, time.Hour, ParseAge, "30d")
}

func (r *decoder) lasting(to *time.Duration, least time.Duration) func(*value) {
	return r.time(to, least, ParseSpan, "26h")
}

func (r *decoder) time(to *time.Duration, least time.Duration, parse func(string) (time.Duration, error), example string) func(*value) {
	return func(v *value) {
		if !r.is(v, aText, strconv.Quote(example)) {
			return
		}
		d, err := parse(v.text)
		switch {
		case err != nil:
			r.taken(v.span, err, "")
		case d < least:
			r.wrong(v.span, v.text+" is too short to make sense here", fmt.Sprintf("Write %q or more.", FormatSpan(least)))
		default:
			*to = d
		}
	}
}

// rules reads those of retention.
func (r *decoder) rules(to *schedule.Rules) func(*value) {
	return func(v *value) {
		if !r.is(v, aText, `"last:3,daily:7,monthly:12"`) {
			return
		}
		rules, err := schedule.ParseRules(v.text)
		if err != nil {
			r.taken(v.span, err, `Write rules like "last:3,daily:7,yearly:all".`)
			return
		}
		*to = rules
	}
}

// program reads one with its arguments.
func (r *decoder) program(key string, to *[]string) func(*value) {
	return func(v *value) {
		if argv := r.argv(key, v); argv != nil {
			*to = argv
		}
	}
}

// programs reads one with its arguments, or a list of such lists.
func (r *decoder) programs(key string, to *[][]string) func(*value) {
	return func(v *value) {
		if v.form != aList || len(v.list) > 0 && v.list[0].form != aList {
			if argv := r.argv(key, v); argv != nil {
				*to = [][]string{argv}
			}
			return
		}
		if r.tooMany(v) {
			return
		}
		for _, one := range v.list {
			if argv := r.argv(key, one); argv != nil {
				*to = append(*to, argv)
			}
		}
	}
}

// argv reads the path of a program, and its arguments, and looks at the program;
// nil if anything is wrong with what is said.
func (r *decoder) argv(key string, v *value) []string {
	const example = `["/usr/local/bin/program", "argument"]`
	if v.form == aText {
		words := strings.Fields(v.text)
		fix := "Write " + example + ": no shell reads it."
		if len(words) > 0 && !strings.ContainsAny(v.text, `"'\$`+"`") {
			fix = fmt.Sprintf(`Write ["%s"]: no shell reads it.`, cover(strings.Join(words, `", "`)))
		}
		r.wrong(v.span, "this is text, and a list is wanted: a program and its arguments", fix)
		return nil
	}
	if !r.is(v, aList, example) {
		return nil
	}
	if len(v.list) == 0 {
		r.wrong(v.span, "there is no program in it", "Write "+example+", or leave out the line.")
		return nil
	}
	if r.tooMany(v) {
		return nil
	}
	var argv []string
	for _, one := range v.list {
		switch {
		case !r.is(one, aText, `"argument"`):
			return nil
		case strings.ContainsRune(one.text, 0):
			r.wrong(one.span, "there is a NUL in it", "No program can be given that.")
			return nil
		}
		argv = append(argv, one.text)
	}
	if !strings.HasPrefix(argv[0], "/") {
		r.wrong(v.list[0].span, fmt.Sprintf("%q is no full path of a program", argv[0]), "Write where it is: ~ and PATH mean nothing here.")
		return nil
	}
	if r.checks.Program != nil {
		if err := r.checks.Program(argv); err != nil {
			message, fix := r.advised(v.list[0].span, err, "Correct the path: it takes a program of root's or yours.")
			r.trouble(Trouble{Key: key, Program: argv[0]}, v.list[0].span, message, fix)
		}
	}
	return argv
}

// meant says which of some names may have been meant.
func meant(name string, names []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, n := range names {
		if max(len(n)-len(name), len(name)-len(n)) >= distance {
			continue
		}
		if d := apart(strings.ToLower(name), n); d < distance {
			best, distance = n, d
		}
	}
	if best != "" && distance < len(name) {
		return fmt.Sprintf("Did you mean %q?", best)
	}
	switch {
	case len(names) == 1:
		return fmt.Sprintf("There is only %q.", names[0])
	case len(names) > 12:
		return "'buttersink config example' has them all."
	}
	return "There are " + listed(names) + "."
}

// listed names all of some.
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// apart counts what has to be put in, left out or replaced to make one name of
// another.
func apart(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
