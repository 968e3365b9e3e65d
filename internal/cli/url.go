package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
)

// place is what a SRC or DST argument names.
type place struct {
	arg    string // as it was typed
	scheme string // "btrfs" if none was typed
	dir    string // the store's directory
	name   string // the one snapshot that is meant; empty for all below dir
}

// A scheme begins a URL. Those of later versions are known, so that they are
// not taken for a slip of the pen.
type scheme struct {
	name   string
	usable bool
}

var schemes = []scheme{
	{"btrfs", true},
	{"file", true},
	{"ssh", false},
	{"s3", false},
	{"dir", false},
	{"glacier", false},
	{"shell", false},
}

// splitURL cuts an argument into scheme and path: a run of characters other
// than ':' and '/', then "://"; without that it is a path all through.
func splitURL(arg string) (scheme, path string) {
	scheme, path, ok := strings.Cut(arg, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, ":/") {
		return "btrfs", arg
	}
	return scheme, path
}

// parsePlace reads an argument. As a source the last element names one
// snapshot unless a slash follows; a destination is always a directory.
func parsePlace(arg string, destination bool) (place, error) {
	p := place{arg: arg}
	var path string
	p.scheme, path = splitURL(arg)
	i := slices.IndexFunc(schemes, func(s scheme) bool { return s.name == p.scheme })
	switch {
	case i < 0:
		return place{}, fmt.Errorf("%q has the unknown scheme %q: want a path, or btrfs:// or file:// with one", redact(arg), p.scheme)
	case !schemes[i].usable:
		return place{}, fmt.Errorf("%q: this version has no %s:// stores: want a btrfs directory of this machine", redact(arg), p.scheme)
	case path == "":
		return place{}, fmt.Errorf("%q names no directory: the current one is './'", arg)
	case strings.ContainsRune(path, 0):
		return place{}, fmt.Errorf("%q has a NUL byte in it", arg)
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	if destination || last == "" || last == "." || last == ".." {
		p.dir = filepath.Clean(path)
		return p, nil
	}
	p.name = last
	p.dir = filepath.Clean(path[:len(path)-len(last)])
	return p, nil
}

// opened is a store with the argument that named it.
type opened struct {
	place
	store.Store
}

// openPlace opens the store that an argument names.
func openPlace(env *Env, command, arg string, destination bool) (*opened, error) {
	return openStore(env, command, arg, destination, local.Options{})
}

// openStore opens the store that an argument names, with options for a btrfs
// directory: the composition root.
func openStore(env *Env, command, arg string, destination bool, opt local.Options) (*opened, error) {
	p, err := parsePlace(arg, destination)
	if err != nil {
		return nil, &usageError{command: command, err: err}
	}
	opt.Log = env.Log
	st, err := local.Open(p.dir, opt)
	if err != nil {
		return nil, p.explain(err)
	}
	return &opened{place: p, Store: st}, nil
}

// within is the argument that names one snapshot of the place, given its path.
func (p place) within(path string) string {
	if p.name != "" {
		return p.arg
	}
	arg := p.arg
	if !strings.HasSuffix(arg, "/") { // ".", ".."
		arg += "/"
	}
	return arg + path
}

// shellWord writes a word as a shell reads it.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:,@%=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// explain adds what to do about a directory that cannot be opened.
func (p place) explain(err error) error {
	isDir := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.IsDir()
	}
	hint := ""
	switch {
	case p.name != "" && isDir(filepath.Join(p.dir, p.name)):
		// "/mnt/pool" for a mount point: its parent need not be btrfs.
		hint = fmt.Sprintf("Did you mean to type '%s/'?", p.arg)
	case errors.Is(err, local.ErrNotDirectory) && looksRemote(p.arg):
		hint = "If it is on another machine: this version reaches only what is mounted here."
	case errors.Is(err, local.ErrNotDirectory):
		hint = "Name a directory on a mounted btrfs file system, not a device."
	case errors.Is(err, btrfs.ErrNotBtrfs):
		hint = "Is the file system mounted?"
	}
	if errors.Is(err, local.ErrNotDirectory) {
		err = fmt.Errorf("'%s' is not an existing directory", p.dir)
	}
	return &exitError{code: exitFailed, err: err, hint: hint}
}

// looksRemote reports whether an argument has rsync's form for another machine.
func looksRemote(arg string) bool {
	host, path, ok := strings.Cut(arg, ":")
	return ok && host != "" && path != "" && !strings.ContainsRune(host, '/') && !strings.HasPrefix(path, "//")
}

// noSnapshots is what to say about an empty selection; there is what the store
// has at the path of the one snapshot that was asked for.
func (p place) noSnapshots(there string) string {
	if p.name != "" && there != "" && there != "a directory" {
		return fmt.Sprintf("'%s' is %s: make a snapshot of it with 'btrfs subvolume snapshot -r'.", p.arg, there)
	}
	if p.name != "" {
		return fmt.Sprintf("'%s' is not a snapshot.  Did you mean to type '%s/'?", p.arg, p.arg)
	}
	bare := strings.TrimRight(p.arg, "/")
	if bare == "" || bare == p.arg {
		return fmt.Sprintf("'%s' does not contain any snapshots.", p.arg)
	}
	return fmt.Sprintf("'%s/' does not contain any snapshots.  Did you mean to type '%s'?", bare, bare)
}
