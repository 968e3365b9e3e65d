package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/runner"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// sourcesOf returns the subvolumes that a job is about now, in the order of its
// configuration, those of a pattern in the order of their paths, and those that lie
// in another one behind it. Each is there once.
//
// It fails where nothing is found, and where it cannot be found out what a pattern
// matches. Of subvolumes that have the same name in the places of the job one is served
// at most, and the others are refused: one that is written down, or else the one that
// is known to have been there before. A
// subvolume that is named by its path is taken on trust, and so is what matches a
// pattern and cannot be looked at, and a pattern that matches nothing: if it is not
// there, that fails for itself, and keeps none of the others from being backed up.
func (env *Env) sourcesOf(ctx context.Context, j *config.Job, known func(source string) bool) ([]runner.Source, error) {
	f := &sourceFinder{job: j, seen: map[string]int{}}
	for _, pattern := range j.Exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("the pattern %q of what is excluded: %w", pattern, err)
		}
	}
	for _, arg := range j.Sources {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := f.add(arg); err != nil {
			return nil, err
		}
	}
	if err := f.miss(env.Log); err != nil {
		return nil, err
	}
	if len(f.hidden) > 0 {
		slices.Sort(f.hidden)
		env.Log.Warn(fmt.Sprintf("job %s: nested subvolumes that cannot be seen, since something is mounted over them, are left out, with all that is in them: %s", j.Name, strings.Join(f.hidden, ", ")),
			"hint", "A subvolume that is mounted elsewhere can be a source by that path; exclude says that this is meant.")
	}
	// Elsewhere the names stand nowhere.
	if len(j.Destinations) > 0 || strings.Contains(j.Snapshots, "{source}") {
		refuse(f.all, known)
	}
	env.Log.Debug("sources", "job", j.Name, "count", len(f.all))
	return f.all, nil
}

// refuse marks subvolumes that would be taken for one another at the places of the
// job. Who can make a subvolume is not to keep that of somebody else from being backed
// up by its name.
func refuse(all []runner.Source, known func(source string) bool) {
	same := map[string][]*runner.Source{}
	for i := range all {
		same[all[i].Name] = append(same[all[i].Name], &all[i])
	}
	for name, those := range same {
		if len(those) == 1 {
			continue
		}
		stays := only(those, func(s *runner.Source) bool { return s.Found.Base == "" })
		if stays == nil {
			stays = only(those, func(s *runner.Source) bool { return known(s.Arg) })
		}
		for i, s := range those {
			if s == stays {
				continue
			}
			other := those[(i+1)%len(those)]
			if stays != nil {
				other = stays
			}
			s.Refused = &exitError{
				code: exitConfig, err: fmt.Errorf("it would be %q where {source} stands, as %s is", name, other.Arg),
				hint: "Exclude one of them, and back it up in a job of its own.",
			}
		}
	}
}

// only returns the one for which something holds; nil if that are none or several.
func only(all []*runner.Source, is func(*runner.Source) bool) *runner.Source {
	var one *runner.Source
	for _, s := range all {
		switch {
		case !is(s):
		case one != nil:
			return nil
		default:
			one = s
		}
	}
	return one
}

// sourceFinder finds the subvolumes of a job.
type sourceFinder struct {
	job    *config.Job
	all    []runner.Source
	seen   map[string]int // where in all a path is
	missed []string       // patterns that match no subvolume
	hidden []string       // nested subvolumes over which something is mounted
}

// add adds what one entry of the configuration means.
func (f *sourceFinder) add(arg string) error {
	p, err := place.Parse(arg, true)
	if err != nil {
		return err
	}
	if !p.Here() {
		if f.job.Nested {
			return &exitError{
				code: exitConfig, err: fmt.Errorf("job %s: %s: nested subvolumes can only be found on this machine", f.job.Name, place.Redact(arg)),
				hint: "Name each of them, or leave nested out.",
			}
		}
		f.take(arg, runner.Found{})
		return nil
	}
	if p, err = rooted(p); err != nil {
		return err
	}
	if !strings.ContainsAny(p.Dir, "*?[") {
		f.take(p.Dir, runner.Found{})
		return f.nestedAt(p.Dir)
	}
	matches, base, err := matching(p.Dir)
	if err != nil {
		return err
	}
	// Somebody may have called one like the pattern, which is no less one for that.
	if !slices.Contains(matches, p.Dir) {
		matches = append(matches, p.Dir)
		slices.Sort(matches)
	}
	found := false
	for _, match := range matches {
		ok, err := f.match(base, match)
		if err != nil {
			return err
		}
		found = found || ok
	}
	if !found {
		f.missed = append(f.missed, p.Dir)
	}
	return nil
}

// match adds what a pattern has matched and what lies in it, if it is a source, which
// it reports. What cannot be looked at is taken on trust, and fails for itself.
func (f *sourceFinder) match(base, match string) (bool, error) {
	dir, is, err := openSource(base, match)
	switch {
	case err != nil:
		if !f.excluded(match, match) {
			f.take(match, runner.Found{Base: base})
		}
		return true, nil
	case dir == nil:
		return false, nil
	}
	defer dir.Close()
	if f.excluded(match, match) {
		return true, nil
	}
	f.take(match, runner.Found{Base: base, UUID: is.UUID, Number: is.ID})
	return true, f.nested(dir, match, base)
}

// miss deals with the patterns that match nothing, when all else is known: where
// there is anything else, they are sources that fail for themselves.
func (f *sourceFinder) miss(log *slog.Logger) error {
	const hint = "Is the file system mounted?  Directories that are no subvolumes, symbolic links and read-only snapshots are left out."
	all := len(f.all)
	for _, pattern := range f.missed {
		err := fmt.Errorf("job %s: the pattern %s matches no subvolume", f.job.Name, pattern)
		// What is called like the pattern, and is no subvolume, might be taken for one.
		if _, there := os.Lstat(pattern); all == 0 || !errors.Is(there, fs.ErrNotExist) {
			return &exitError{code: exitFailed, err: err, hint: hint}
		}
		log.Warn(err.Error() + ".  " + hint)
		f.take(pattern, runner.Found{})
	}
	return nil
}

// take adds a source, unless it is one already. One that is written down is so even
// where something else has led to it before.
func (f *sourceFinder) take(arg string, found runner.Found) {
	i, seen := f.seen[arg]
	switch {
	case !seen:
		f.seen[arg] = len(f.all)
		f.all = append(f.all, runner.Source{Arg: arg, Name: config.SourceName(arg), Found: found})
	case found.Base == "":
		f.all[i].Found = found
	}
}

// excluded reports whether a path in a source, or one on the way to it, matches a
// pattern of what is excluded. What is above the source does not count.
func (f *sourceFinder) excluded(name, source string) bool {
	for ; within(name, source); name = path.Dir(name) {
		for _, pattern := range f.job.Exclude {
			if ok, _ := path.Match(path.Clean(pattern), name); ok {
				return true
			}
		}
		if name == path.Dir(name) {
			break
		}
	}
	return false
}

// snapperDir is the subvolume in which snapper keeps snapshots, and nothing else.
const snapperDir = ".snapshots"

// nestedAt adds what lies in a source that is written down.
func (f *sourceFinder) nestedAt(source string) error {
	if !f.job.Nested {
		return nil
	}
	dir, err := os.Open(source)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ESTALE) {
		return nil // which fails for itself
	}
	if err != nil {
		return fmt.Errorf("looking for nested subvolumes: %w", err)
	}
	defer dir.Close()
	return f.nested(dir, source, source)
}

// nested adds the writable subvolumes that lie in a source, as far as they can be
// seen there. Directories of snapshots are left out with all that is in them. Base is
// the directory below which others may move things about.
func (f *sourceFinder) nested(dir *os.File, source, base string) error {
	if !f.job.Nested {
		return nil
	}
	below, behind, err := btrfs.BelowMounts(dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		return nil // likewise
	}
	if err != nil {
		return err
	}
	slices.SortFunc(below, func(a, b btrfs.Subvolume) int { return strings.Compare(a.Path, b.Path) })
	var left []string
	leave := func(full string) {
		if dir := f.snapshots(full); !within(full, dir) { // or all would be left out
			left = append(left, dir)
		}
	}
	leave(source)
	for _, s := range below {
		full := path.Join(source, s.Path)
		if leave(full); path.Base(full) == snapperDir {
			left = append(left, full)
		}
	}
	out := func(full string) bool {
		return snapshot.IsPart(full) || path.Base(full) == snapperDir || f.excluded(full, source) ||
			slices.ContainsFunc(left, func(dir string) bool { return within(full, dir) })
	}
	for _, name := range behind {
		if full := path.Join(source, name); !out(full) && !slices.Contains(f.hidden, full) {
			f.hidden = append(f.hidden, full)
		}
	}
	for _, s := range below {
		full := path.Join(source, s.Path)
		if s.ReadOnly || out(full) {
			continue
		}
		f.take(full, runner.Found{Base: base, UUID: s.UUID, Number: s.ID})
	}
	return nil
}

// snapshots is the directory in which the snapshots of a source are.
func (f *sourceFinder) snapshots(source string) string {
	dir := strings.ReplaceAll(f.job.Snapshots, "{source}", config.SourceName(source))
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return path.Join(source, dir)
}

// within reports whether a path is that of a directory or leads into it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
