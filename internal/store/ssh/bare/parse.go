package bare

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// subvolume is what btrfs-progs tell of one.
type subvolume struct {
	id, cgen               uint64 // cgen is the transaction in which it was made
	top                    uint64 // the subvolume that it stands in
	uuid, parent, received snapshot.ID
	path                   string // from the top level
	readOnly               bool
}

// identity is the effective UUID.
func (v *subvolume) identity() snapshot.ID {
	if !v.received.IsZero() {
		return v.received
	}
	return v.uuid
}

// errAmbiguous says that a listing cannot be read without knowing the paths: a
// name in it has a newline.
var errAmbiguous = errors.New("a name in the listing has a newline")

// errMoving says that a listing does not agree with the paths that were asked for
// after it.
var errMoving = errors.New("subvolumes were made, moved or deleted meanwhile")

// parseFull reads what btrfs subvolume list -pcguqR prints. Paths has the path of
// each subvolume by its number where these are known otherwise; if it is nil, each
// record has to be one line, and errAmbiguous is returned if one is not.
//
//	ID 260 gen 13 cgen 11 parent 5 top level 5 parent_uuid - received_uuid 3853… uuid e368… path recv/a
func parseFull(text string, paths map[uint64]string) ([]subvolume, error) {
	return parse(text, paths, func(f *fields) (v subvolume) {
		v.id = f.number("ID")
		f.number("gen")
		v.cgen = f.number("cgen")
		f.number("parent")
		v.top = f.number("top level")
		v.parent = f.uuid("parent_uuid")
		v.received = f.uuid("received_uuid")
		v.uuid = f.uuid("uuid")
		return v
	})
}

// parseReadOnly reads what btrfs subvolume list -r prints, as parseFull does, and
// returns the paths by number.
//
//	ID 260 gen 13 top level 5 path recv/a
func parseReadOnly(text string, paths map[uint64]string) (map[uint64]string, error) {
	all, err := parse(text, paths, func(f *fields) (v subvolume) {
		v.id = f.number("ID")
		f.number("gen")
		v.top = f.number("top level")
		return v
	})
	if err != nil {
		return nil, err
	}
	found := make(map[uint64]string, len(all))
	for i := range all {
		found[all[i].id] = all[i].path
	}
	return found, nil
}

// parse reads records, which begin with what head reads, and end with a path.
func parse(text string, paths map[uint64]string, head func(*fields) subvolume) ([]subvolume, error) {
	var all []subvolume
	last := uint64(0)
	for text != "" {
		f := &fields{rest: text}
		v := head(f)
		f.literal("path")
		switch {
		case f.bad && paths != nil && len(all) > 0:
			return nil, errMoving
		case f.bad && (paths != nil || len(all) == 0):
			line, _, _ := strings.Cut(text, "\n")
			return nil, fmt.Errorf("btrfs subvolume list prints %q: not a subvolume", clip(line))
		case f.bad || paths == nil && v.id <= last:
			return nil, errAmbiguous
		case paths == nil:
			var ok bool
			if v.path, text, ok = strings.Cut(f.rest, "\n"); !ok {
				return nil, errors.New("btrfs subvolume list stops within a line")
			}
		default:
			var ok bool
			p := paths[v.id]
			if text, ok = strings.CutPrefix(f.rest, p+"\n"); !ok || p == "" {
				return nil, errMoving
			}
			v.path = p
		}
		last = v.id
		all = append(all, v)
	}
	return all, nil
}

// numbers returns the number of everything that could be a record of a listing.
func numbers(listings ...string) []uint64 {
	var ids []uint64
	seen := map[uint64]bool{}
	for _, text := range listings {
		for line := range strings.Lines(text) {
			f := &fields{rest: line}
			id := f.number("ID")
			f.number("gen")
			if !f.bad && !seen[id] {
				ids, seen[id] = append(ids, id), true
			}
		}
	}
	return ids
}

// fields reads the words of a line in turn. What is not there makes it bad.
type fields struct {
	rest string
	bad  bool
}

// literal reads words, and one space behind them: a path may begin with more.
func (f *fields) literal(words string) {
	rest, ok := strings.CutPrefix(f.rest, words+" ")
	f.rest, f.bad = rest, f.bad || !ok
}

// word reads words and the value behind them, which spaces may surround.
func (f *fields) word(words string) string {
	f.literal(words)
	f.rest = strings.TrimLeft(f.rest, " ")
	n := strings.IndexAny(f.rest, " \n")
	if n < 0 {
		f.bad = true
		return ""
	}
	value := f.rest[:n]
	f.rest = strings.TrimLeft(f.rest[n:], " ")
	return value
}

func (f *fields) number(words string) uint64 {
	text := f.word(words)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != text {
		f.bad = true
	}
	return n
}

func (f *fields) uuid(words string) snapshot.ID {
	text := f.word(words)
	if text == "-" {
		return snapshot.ID{}
	}
	id, err := snapshot.ParseID(text)
	f.bad = f.bad || err != nil
	return id
}

// details is what btrfs subvolume show tells of a subvolume besides.
type details struct {
	id, cgen               uint64
	uuid, parent, received snapshot.ID
	transid                uint64 // that came with the received UUID; zero if it is not told
	readOnly               bool
}

// parseShow reads what btrfs subvolume show prints of the subvolume at a path from
// the top level. Where that has newlines, so that it could pass for other lines, it
// has to be what is printed first.
func parseShow(text, p string) (details, error) {
	var d details
	rest, ok := strings.CutPrefix(text, p+"\n")
	if !ok { // some releases print another path
		if strings.Contains(p, "\n") {
			return d, errAmbiguous
		}
		_, rest, _ = strings.Cut(text, "\n")
	}
	const blank = " \t"
	name := strings.TrimLeft(path.Base(p), blank)
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, blank), "Name:")
	if ok {
		rest, ok = strings.CutPrefix(strings.TrimLeft(rest, blank), name+"\n")
	}
	if !ok {
		return d, fmt.Errorf("btrfs subvolume show tells %q, which is not of %q", clip(text), path.Base(p))
	}
	values := map[string]string{}
	for line := range strings.Lines(rest) {
		key, value, ok := strings.Cut(strings.TrimLeft(line, blank), ":")
		if !ok || key == "Snapshot(s)" {
			break
		}
		if _, again := values[key]; again {
			return d, fmt.Errorf("btrfs subvolume show tells the %q twice", clip(key))
		}
		values[key] = strings.TrimSpace(value)
	}
	var err error
	number := func(key string) (n uint64) {
		if text, ok := values[key]; ok && err == nil {
			if n, err = strconv.ParseUint(text, 10, 64); err != nil {
				err = fmt.Errorf("btrfs subvolume show tells %q of the %s", clip(text), key)
			}
		}
		return n
	}
	uuid := func(key string) (id snapshot.ID) {
		if text := values[key]; text != "-" && text != "" && err == nil {
			if id, err = snapshot.ParseID(text); err != nil {
				err = fmt.Errorf("btrfs subvolume show tells of the %s: %w", key, err)
			}
		}
		return id
	}
	d.id, d.cgen = number("Subvolume ID"), number("Gen at creation")
	d.uuid, d.parent, d.received = uuid("UUID"), uuid("Parent UUID"), uuid("Received UUID")
	d.transid = number("Send transid")
	d.readOnly = strings.Contains(values["Flags"], "readonly")
	if err == nil && (d.uuid.IsZero() || d.id == 0) {
		err = errors.New("btrfs subvolume show tells no UUID, or no number")
	}
	return d, err
}

// clip bounds what is quoted of foreign text.
func clip(s string) string {
	const longest = 200
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}
