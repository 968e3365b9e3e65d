// Package config reads what users have written down for the program to do: the
// configuration, with its stores, jobs and notices, and argument files (@FILE), as
// btrfs-backup has them.
//
//	file, err := config.Load("/etc/buttersink/config.toml", checks)
//	args, err := config.Arguments(os.Args[1:])
//
// # What the room knows
//
// A configuration is TOML (https://toml.io/en/v1.0.0). Load reads it into a tree in
// which every key and value has a position, and makes a File of that: what is
// missing gets what holds where nothing is said, and destinations get the settings
// of their stores. Everything that is wrong is told at once, each thing with its
// place, its line, and what to do: keys that are not known, values that are of the
// wrong kind or cannot be, names of stores and notices that are not there, and what
// contradicts something else.
//
// What is said may be right, and the machine not as it should be: a program is not
// there, a key is on a disk that is not mounted, or others can read it. That is a
// Trouble of the job, the store, the destination or the notice that it is about, and
// keeps nothing else from being used.
//
// In an argument file, an argument that begins with "@" stands for those in the
// file that it names, relative to the working directory. Each line is one argument
// or one option:
//
//   - Blanks at both ends do not count. An empty line, and one that begins with
//     "#", is nothing. There are no comments at the end of a line.
//   - A line that begins with "-" is split once, at the first blanks: "-p   my
//     prefix" is "-p" and "my prefix". So is "--opt=a b", into "--opt=a" and "b".
//   - Any other line is one argument. There are no quotes and no escapes.
//   - What begins with "@" after that is another file, relative to the directory
//     of this one, the value of an option included.
//
// Lines and blanks are those of Unicode.
//
// # What it refuses to know
//
// What URLs, programs and flags are: who calls Load brings Checks for them, and
// settings stay texts. In argument files, which options there are. Arguments after
// "--" that begin with "@" are replaced like any others; who means a directory with
// such a name writes "./@home".
//
// # Invariants
//
// There is a File only if nothing is wrong with what is said, on whatever machine. No
// setting is left out because of a trouble. What others than root and the user
// could have written is not believed, since it names programs that are run. What a
// page is told by, and passwords in URLs, stand in no message. A file that stands in
// itself is an error, not a loop. Nothing that is not text is taken. Memory is
// bounded: a configuration of 1 MiB, of which 100 problems are told; argument files
// of 1 MiB, 1000 of them, and 100 000 arguments at most.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

const (
	maxFile      = 1 << 20
	maxFiles     = 1000
	maxArguments = 100_000
)

// Arguments replaces every argument that begins with "@" by those in the file
// that it names. An error names the file that cannot be read, or those that stand
// in each other.
func Arguments(args []string) ([]string, error) {
	r := &reader{}
	if err := r.take(args); err != nil {
		return nil, err
	}
	return r.args, nil
}

// reader collects arguments.
type reader struct {
	args  []string
	files int
	chain []opened // the files that stand in each other, down to the one being read
}

type opened struct {
	name string
	info os.FileInfo
}

func (r *reader) take(args []string) error {
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "@"); ok {
			if err := r.file(name); err != nil {
				return err
			}
			continue
		}
		if len(r.args) == maxArguments {
			return fmt.Errorf("reading argument files: there are more than %d arguments in them", maxArguments)
		}
		r.args = append(r.args, arg)
	}
	return nil
}

func (r *reader) file(name string) error {
	if name == "" {
		return errors.New(`reading argument files: there is no name after "@"; write @FILE`)
	}
	text, info, err := read(name)
	if err != nil {
		return fmt.Errorf("reading the argument file %s%s: %w", name, r.from(), err)
	}
	for i, outer := range r.chain {
		if os.SameFile(outer.info, info) {
			return r.loop(i, name)
		}
	}
	if r.files++; r.files > maxFiles {
		return fmt.Errorf("reading argument files: there are more than %d of them", maxFiles)
	}
	r.chain = append(r.chain, opened{name, info})
	if err := r.take(split(text, filepath.Dir(name))); err != nil {
		return err
	}
	r.chain = r.chain[:len(r.chain)-1]
	return nil
}

// from says which file names the one that cannot be read.
func (r *reader) from() string {
	if len(r.chain) == 0 {
		return ""
	}
	return ", which " + r.chain[len(r.chain)-1].name + " names"
}

// loop names the files that stand in each other, the outermost first; the last one
// is the first one again, if under another name.
func (r *reader) loop(start int, name string) error {
	var files strings.Builder
	for _, o := range r.chain[start:] {
		files.WriteString(o.name + " -> ")
	}
	return fmt.Errorf("reading argument files: they stand in each other in a loop: %s%s; remove the line that leads back", &files, name)
}

// read returns a whole file, which may be a pipe.
func read(name string) (string, os.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", nil, cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", nil, cause(err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", nil, cause(err)
	case len(text) > maxFile:
		return "", nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	case bytes.IndexByte(text, 0) >= 0:
		return "", nil, errors.New("it is not text")
	}
	return string(text), info, nil
}

// cause leaves away the name, which the caller tells.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// split returns the arguments in the text of a file in a directory.
func split(text, dir string) []string {
	var args []string
	for line := range strings.FieldsFuncSeq(text, ends) {
		line = strings.TrimFunc(line, blank)
		if line == "" || line[0] == '#' {
			continue
		}
		words := []string{line}
		if i := strings.IndexFunc(line, blank); line[0] == '-' && i > 0 {
			words = []string{line[:i], strings.TrimLeftFunc(line[i:], blank)}
		}
		for _, word := range words {
			if name, ok := strings.CutPrefix(word, "@"); ok {
				word = "@" + beside(name, dir)
			}
			args = append(args, word)
		}
	}
	return args
}

// beside returns a name relative to a directory.
func beside(name, dir string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// ends reports whether a rune ends a line, as Python's str.splitlines has it: a
// file that was written for btrfs-backup is read as it was meant.
func ends(c rune) bool {
	switch c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// blank reports whether Python's str.isspace does.
func blank(c rune) bool {
	return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f
}
