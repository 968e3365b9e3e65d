package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/store/local"
)

// openSource opens what a pattern has matched, below its base, and says what it is;
// nil if it is no source: a symbolic link, no subvolume, or a read-only snapshot.
func openSource(base, name string) (*os.File, btrfs.Subvolume, error) {
	nothing := func(err error) (*os.File, btrfs.Subvolume, error) {
		if isNothing(err) {
			err = nil
		}
		return nil, btrfs.Subvolume{}, err
	}
	info, err := os.Lstat(name)
	if err != nil || !info.IsDir() {
		return nothing(err)
	}
	dir, err := local.OpenBeneath(base, below(base, name))
	if err != nil {
		return nothing(err)
	}
	subvolume, err := btrfs.IsSubvolume(dir)
	var is btrfs.Subvolume
	if err == nil && subvolume {
		is, err = btrfs.Info(dir)
	}
	if err != nil || !subvolume || is.ReadOnly {
		dir.Close()
		return nil, btrfs.Subvolume{}, err
	}
	return dir, is, nil
}

// below is a path from a directory in which it leads.
func below(base, name string) string {
	return path.Clean(strings.TrimPrefix(strings.TrimPrefix(name, base), "/"))
}

// matching returns the paths that match a pattern, in order, and the directory that
// comes before its first element that is one. Like a shell's, its
// elements match names that begin with a dot only where they do so too. Links that are
// written down are followed, and behind them those that nobody but root and the caller
// can have made: others would choose what is backed up in their name. What cannot be
// read is an error: what is in it would silently not be backed up.
func matching(pattern string) (all []string, base string, err error) {
	elements := strings.Split(strings.Trim(pattern, "/"), "/")
	for _, element := range elements {
		if _, err := path.Match(element, ""); err != nil {
			return nil, "", &exitError{code: exitConfig, err: fmt.Errorf("the pattern %q: %w", pattern, err), hint: "A [ begins a set of characters, and needs its ].  In a name it is written \\[."}
		}
	}
	first := slices.IndexFunc(elements, isWild)
	base = "/" + strings.Join(elements[:first], "/")
	dirs := []string{base}
	for _, element := range elements[first:] {
		var next []string
		for _, dir := range dirs {
			names, err := matchingIn(base, dir, element)
			if err != nil {
				return nil, "", fmt.Errorf("looking for what %s matches: %w", pattern, err)
			}
			for _, name := range names {
				next = append(next, filepath.Join(dir, name))
			}
		}
		dirs = next
	}
	slices.Sort(dirs)
	return dirs, base, nil
}

// isWild reports whether an element of a pattern is no name.
func isWild(element string) bool { return strings.ContainsAny(element, `*?[\`) }

// matchingIn returns the names in a directory below a base that match an element of a
// pattern: what is no directory has none.
func matchingIn(base, name, element string) ([]string, error) {
	if !isWild(element) {
		_, err := os.Lstat(filepath.Join(name, element))
		if isNothing(err) {
			return nil, nil
		}
		return []string{element}, err
	}
	dir, err := local.OpenBeneath(base, below(base, name))
	if isNothing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if ok, _ := path.Match(element, name); ok && (name[0] != '.' || element[0] == '.') {
			names = append(names, name)
		}
	}
	return names, nil
}

// isNothing reports whether an error says that there is nothing that a job could be
// about: no directory, a link to itself, or the home of somebody else, of which who
// may not even look at it can make no snapshot.
func isNothing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, fs.ErrPermission) || errors.Is(err, local.ErrLink)
}
