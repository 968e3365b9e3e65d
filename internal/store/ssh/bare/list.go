package bare

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// view is what a look at the other machine has shown.
type view struct {
	release string // of btrfs-progs
	subvol  uint64 // the subvolume that the directory is in
	prefix  string // path of the directory from the top level
	all     []subvolume
	// entries has, for those directories that were asked for and are there, what is
	// in them: true where it is a directory.
	entries map[string]listing
}

// listing is what ls -1ap prints.
type listing string

// The names in it, each with a newline before and behind it.
func (l listing) isDirectory(name string) bool { return strings.Contains(string(l), "\n"+name+"/\n") }

func (l listing) isOther(name string) bool { return strings.Contains(string(l), "\n"+name+"\n") }

// showing bounds how much the file system is searched for details: asking for
// those of one subvolume takes time in proportion to how many there are.
const showing = 200_000

// look lists the file system and, with ls, some directories below the store's. With
// show, it finds out the transaction numbers that came with received snapshots, of
// the newest ones where there are very many.
func (s *Store) look(ctx context.Context, show bool, dirs ...string) (*view, error) {
	var err error
	for range 3 {
		var v *view
		err = s.orMade(ctx, func() (err error) {
			v, err = s.lookOnce(ctx, show, dirs)
			return err
		})
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, errMoving) {
			break
		}
	}
	return nil, err
}

func (s *Store) lookOnce(ctx context.Context, show bool, dirs []string) (*view, error) {
	c := s.script()
	c.section("version", "btrfs --version")
	c.must("inode", "inode=$("+c.words("ls", "-di", s.dir+"/.")+`) && echo "$inode"`)
	c.must("rootid", "root=$("+c.words("btrfs", "inspect-internal", "rootid", s.root())+`) && echo "$root"`)
	c.line(`set -f; set -- $inode`) // its first word
	c.line(`if [ "$1" != 256 ]; then`)
	c.must("place", c.words("btrfs", "inspect-internal", "inode-resolve")+` "$1" `+dial.Quote(s.root()))
	c.line(`fi`)
	// In this order: what is made meanwhile is not taken for writable.
	c.must("readonly", c.words("btrfs", "subvolume", "list", "-r", s.root()))
	c.must("list", "list=$("+c.words("btrfs", "subvolume", "list", "-pcguqR", s.root())+` && echo .) && printf '%s\n' "$list"`)
	c.line(`probe=$(printf '%s\n' "$list" | sed -n "s/^ID \([0-9][0-9]*\) .* parent $root top level .*/\1/p" | head -n 1)`)
	c.line(`if [ "$root" != 5 ] && [ -n "$probe" ]; then`)
	c.section("probe $probe", c.words("btrfs", "inspect-internal", "subvolid-resolve")+` "$probe" `+dial.Quote(s.root())+" 2>/dev/null")
	c.line("fi")
	if show {
		c.line(`many=$(printf '%s\n' "$list" | grep -c '^ID ')`)
		c.line(fmt.Sprintf(`for id in $(printf '%%s\n' "$list" | sed -n 's/^ID \([0-9][0-9]*\) .* received_uuid *[0-9a-f].*/\1/p' | sort -rn | head -n "$((%d / (many + 1) + 1))"); do`, showing))
		c.line(`case " ` + s.askedFor() + ` " in *" $id "*) continue;; esac`)
		c.section("show $id", c.words("btrfs", "subvolume", "show", "-r")+` "$id" `+dial.Quote(s.root())+" 2>/dev/null")
		c.line("done")
	}
	for i, dir := range dirs {
		c.section("ls "+strconv.Itoa(i), c.words("ls", "-1ap", s.at(dir))+" 2>/dev/null")
	}
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.understand(ctx, sections, said, dirs)
}

// understand reads the sections of a look.
func (s *Store) understand(ctx context.Context, sections map[string]section, said string, dirs []string) (*view, error) {
	if err := s.complain(sections, said); err != nil {
		return nil, err
	}
	v := &view{release: parseRelease(sections["version"].out), entries: map[string]listing{}}
	inside, err := s.place(sections)
	if err != nil {
		return nil, err
	}
	if v.subvol, err = strconv.ParseUint(strings.TrimSpace(sections["rootid"].out), 10, 64); err != nil {
		return nil, fmt.Errorf("btrfs inspect-internal rootid prints %q", clip(sections["rootid"].out))
	}
	full, ok := strings.CutSuffix(sections["list"].out, ".\n")
	if !ok {
		return nil, errCut
	}
	above, err := s.read(ctx, v, full, sections)
	if err != nil {
		return nil, err
	}
	if v.prefix = above; inside != "" {
		v.prefix = strings.TrimPrefix(above+"/"+inside, "/")
	}
	s.learn(v, sections)
	for i, dir := range dirs {
		if ls := sections["ls "+strconv.Itoa(i)]; ls.status == 0 {
			v.entries[dir] = listing("\n" + ls.out)
		}
	}
	return v, nil
}

// topLevel is the number of the file system's uppermost subvolume, which listings
// leave out.
const topLevel = 5

// complain says which command has failed without which there is no listing.
func (s *Store) complain(sections map[string]section, said string) error {
	for _, step := range []struct{ name, command string }{
		{"inode", "ls"},
		{"rootid", "btrfs inspect-internal rootid"},
		{"place", "btrfs inspect-internal inode-resolve"},
		{"readonly", "btrfs subvolume list"},
		{"list", "btrfs subvolume list"},
	} {
		got, ran := sections[step.name]
		if !ran && step.name == "place" || ran && got.status == 0 {
			continue
		}
		if !ran {
			return errCut
		}
		err := &commandError{step.command, got, said}
		switch {
		case step.name == "inode" && strings.Contains(said, "No such file or directory"):
			return fmt.Errorf("%w: make it there first: %w", ErrNotDirectory, err)
		case step.name == "rootid" && strings.Contains(said, "not a btrfs filesystem"):
			return fmt.Errorf("it is not on btrfs: %w", err)
		case strings.Contains(said, "Operation not permitted"):
			return fmt.Errorf("only root may list snapshots there (log in as root, or use sudo): %w", err)
		}
		return err
	}
	return nil
}

// place is the path of the directory within its subvolume.
func (s *Store) place(sections map[string]section) (string, error) {
	resolved, ran := sections["place"]
	if !ran {
		return "", nil // it is the subvolume's root
	}
	// What was asked, a slash, and the path.
	inside, ok := strings.CutPrefix(strings.TrimSuffix(resolved.out, "\n"), s.dir+"/")
	if !ok || inside == "" {
		return "", fmt.Errorf("btrfs inspect-internal inode-resolve prints %q", clip(resolved.out))
	}
	return inside, nil
}

// read parses the two listings, and asks for the paths one by one where a name
// makes that necessary. It returns the path of the subvolume that the directory is
// in.
func (s *Store) read(ctx context.Context, v *view, full string, sections map[string]section) (above string, err error) {
	readOnly := sections["readonly"].out
	frozen, err := parseReadOnly(readOnly, nil)
	if err == nil {
		v.all, err = parseFull(full, nil)
	}
	if err == nil {
		for i := range v.all {
			if p, ok := frozen[v.all[i].id]; ok && p != v.all[i].path {
				err = errAmbiguous
			}
		}
	}
	if err == nil {
		above, err = v.absolute(sections)
	}
	if errors.Is(err, errAmbiguous) {
		var paths map[uint64]string
		if paths, err = s.resolve(ctx, append(numbers(full, readOnly), v.subvol)); err != nil {
			return "", err
		}
		above = paths[v.subvol]
		if frozen, err = v.parseKnowing(full, readOnly, paths, above); err != nil {
			return "", err
		}
	}
	for i := range v.all {
		_, v.all[i].readOnly = frozen[v.all[i].id]
	}
	return above, err
}

// absolute makes all paths those from the top level: btrfs subvolume list leaves
// out the path of the subvolume that it was asked in, with some releases. One path
// that was asked for tells.
func (v *view) absolute(sections map[string]section) (above string, err error) {
	if v.subvol == topLevel {
		return "", nil
	}
	top := make(map[uint64]*subvolume, len(v.all))
	for i := range v.all {
		top[v.all[i].id] = &v.all[i]
	}
	home, ok := top[v.subvol]
	if !ok {
		return "", errAmbiguous
	}
	above = home.path
	var inside []*subvolume
	relative, told := false, false
	for i := range v.all {
		sub := &v.all[i]
		if !within(top, sub, v.subvol) {
			continue
		}
		inside = append(inside, sub)
		if probe, ok := sections["probe "+strconv.FormatUint(sub.id, 10)]; ok && probe.status == 0 {
			switch resolved(probe.out) {
			case sub.path:
				told = true
			case above + "/" + sub.path:
				relative, told = true, true
			}
		}
	}
	if len(inside) > 0 && !told {
		return "", errAmbiguous
	}
	if relative {
		for _, sub := range inside {
			sub.path = above + "/" + sub.path
		}
	}
	return above, nil
}

// within reports whether a subvolume stands somewhere in another one.
func within(all map[uint64]*subvolume, sub *subvolume, in uint64) bool {
	for range len(all) {
		if sub.top == in {
			return true
		}
		var ok bool
		if sub, ok = all[sub.top]; !ok {
			return false
		}
	}
	return false
}

// parseKnowing parses the listings with the paths from the top level, which it may
// have shortened below a subvolume.
func (v *view) parseKnowing(full, readOnly string, paths map[uint64]string, above string) (frozen map[uint64]string, err error) {
	short := make(map[uint64]string, len(paths))
	for id, p := range paths {
		short[id] = p
		if above != "" {
			short[id] = strings.TrimPrefix(p, above+"/")
		}
	}
	for _, paths := range []map[uint64]string{paths, short} {
		if frozen, err = parseReadOnly(readOnly, paths); err == nil {
			v.all, err = parseFull(full, paths)
		}
		if err == nil {
			break
		}
	}
	for i := range v.all {
		v.all[i].path = paths[v.all[i].id]
	}
	return frozen, err
}

// resolve asks for the paths of subvolumes, one by one.
func (s *Store) resolve(ctx context.Context, ids []uint64) (map[uint64]string, error) {
	c := s.script()
	c.line("for id in " + strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), "\n", " "), "[]") + "; do")
	c.section("$id", c.words("btrfs", "inspect-internal", "subvolid-resolve")+` "$id" `+dial.Quote(s.root())+" 2>/dev/null")
	c.line("done")
	sections, _, err := s.execute(ctx, c)
	if err != nil {
		return nil, err
	}
	paths := make(map[uint64]string, len(ids))
	for _, id := range ids {
		if got := sections[strconv.FormatUint(id, 10)]; got.status == 0 && got.out != "" {
			paths[id] = resolved(got.out)
		}
	}
	return paths, nil
}

// resolved is the path that btrfs inspect-internal subvolid-resolve prints.
func resolved(out string) string { return strings.TrimPrefix(strings.TrimSuffix(out, "\n"), "/") }

// learn keeps what has been shown of subvolumes: it does not change.
func (s *Store) learn(v *view, sections map[string]section) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release, s.prefix = v.release, v.prefix
	for i := range v.all {
		sub := &v.all[i]
		shown, ok := sections["show "+strconv.FormatUint(sub.id, 10)]
		if !ok || shown.status != 0 {
			continue
		}
		d, err := parseShow(shown.out, sub.path)
		if err == nil && d.uuid == sub.uuid && d.received == sub.received {
			s.shown[sub.uuid], s.asked[sub.id] = d.transid, true
		}
	}
}

// parseRelease finds the number in what btrfs --version prints: "btrfs-progs v6.2".
func parseRelease(text string) string {
	_, release, ok := strings.Cut(text, "btrfs-progs v")
	if !ok {
		return ""
	}
	n := strings.IndexFunc(release, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if n < 0 {
		n = len(release)
	}
	return release[:n]
}

// askedFor has the numbers of the subvolumes of which learn knows enough. Numbers
// are not used again.
func (s *Store) askedFor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Trim(fmt.Sprint(slices.Collect(maps.Keys(s.asked))), "[]")
}

// fromTop is the path from the top level of a path below the directory, as it was
// when the directory was last looked at.
func (s *Store) fromTop(rel string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return path.Join(s.prefix, rel)
}

// List asks for all subvolumes of the file system.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := s.look(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := s.inventory(v)
	s.known = make(map[snapshot.ID]*snapshot.Snapshot, len(inv.Snapshots))
	kept := slices.Clone(inv.Snapshots) // the caller may change its own
	for i := range kept {
		s.known[kept[i].ID] = &kept[i]
	}
	return inv, nil
}
