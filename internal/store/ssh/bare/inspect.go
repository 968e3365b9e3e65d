package bare

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Inspect looks at the directories in which paths would be, all at once.
func (s *Store) Inspect(ctx context.Context, paths ...string) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := s.look(ctx, false, ancestors(paths)...)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", s.name, err)
	}
	ways := map[string]string{}
	for _, p := range paths {
		if what := s.inTheWay(v, p); what != "" {
			ways[p] = what
		}
	}
	return ways, nil
}

// ancestors returns the directories that paths lie in, each once, down from the
// store's own.
func ancestors(paths []string) []string {
	var dirs []string
	seen := map[string]bool{}
	for _, p := range paths {
		if !usable(p) {
			continue
		}
		at := len(dirs)
		for d := path.Dir(p); !seen[d]; d = path.Dir(d) {
			seen[d] = true
			dirs = append(dirs, d)
			if d == "." {
				break
			}
		}
		slices.Reverse(dirs[at:])
	}
	return dirs
}

// usable reports whether a path can be that of a snapshot in a store.
func usable(p string) bool {
	return p != "" && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "../") &&
		!strings.ContainsRune(p, 0) && !inPart(p) && !store.IsNotePlace(p)
}

// The longest names: of a file, and of what partName puts behind one.
const (
	longestName = 255
	tailLength  = len("_01234567" + snapshot.PartSuffix)
)

// inTheWay says what keeps a path from being used, or nothing. The view has to
// have the entries of its ancestors.
func (s *Store) inTheWay(v *view, p string) string {
	if !usable(p) {
		return snapshot.NoPlace + "it is not a usable path for a snapshot"
	}
	if len(path.Base(p))+tailLength > longestName {
		return fmt.Sprintf("the length of its name: there is no room for the %d characters behind it that mark what is not finished", tailLength)
	}
	dir := "."
	for name := range strings.SplitSeq(p, "/") {
		entries, there := v.entries[dir]
		at := path.Join(dir, name)
		if sub, ok := v.at(at); ok && at == p {
			return describe(&sub)
		} else if ok && sub.readOnly {
			return fmt.Sprintf("%s, which is %s", s.at(at), describe(&sub))
		}
		switch {
		case !there && dir == ".":
			return fmt.Sprintf("%s, which cannot be looked into", s.root())
		case !there:
			return "" // its directory is yet to be made
		case entries.isOther(name) && at == p:
			return "something that is neither a subvolume nor a directory"
		case entries.isOther(name):
			return fmt.Sprintf("%s, which is not a directory", s.at(at))
		case entries.isDirectory(name) && at == p:
			return "a directory that is no subvolume"
		case entries.isDirectory(name) && at != p && !v.has(at):
			return fmt.Sprintf("%s, which cannot be looked into", s.at(at))
		case !entries.isDirectory(name):
			return ""
		}
		dir = at
	}
	return ""
}

func (v *view) has(dir string) bool { _, ok := v.entries[dir]; return ok }
