package archive

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// The names that an archive owns. docs/format.md says what is under them.
const (
	trashFolder    = "trash"
	uploadsFolder  = ".buttersink-uploads"
	markerName     = ".buttersink-archive.json"
	manifestSuffix = ".json"
	tombSuffix     = ".trashed"
	doomSuffix     = ".deleting"
	noParent       = "None"
)

const (
	// maxKey is how many bytes S3 takes for a key, and maxComponent what file
	// systems take for a name. Both bind in every bucket, so that it can be copied
	// into any other one.
	maxKey       = 1024
	maxComponent = 255
	// beside is how many bytes longer a key can get that is made from that of a
	// stream: in the trash, as a manifest, and numbered.
	beside = len(trashFolder+"/") + len(manifestSuffix) + len("~999")
)

// kind is what a key stands for.
type kind uint8

const (
	foreign   kind = iota // nothing of an archive's
	unsafe                // it could lead to another place
	silent                // of an archive, or of nothing that matters
	isObject              // a stream
	isDescr               // the manifest of a stream
	isSizes               // known sizes of streams
	isTomb                // the tombstone of a stream
	isDoom                // the mark of a stream that is being deleted for good
	elsewhere             // it is not below the prefix
)

// named is what a key says.
type named struct {
	kind kind
	path string // of the snapshot, relative to the prefix
	edge snapshot.Edge
	form seal.Form
}

// parseKey reads a key of a bucket for an archive below a prefix.
func parseKey(prefix, key string) named {
	if inFolder(key, trashFolder) || inFolder(key, uploadsFolder) {
		return named{kind: silent}
	}
	rel := strings.TrimPrefix(key, "/")
	if inFolder(rel, trashFolder) {
		return named{kind: silent}
	}
	if prefix != "" {
		below, ok := strings.CutPrefix(rel, prefix)
		if !ok || !strings.HasPrefix(below, "/") {
			return named{kind: elsewhere}
		}
		rel = below[1:]
	}
	if rel == "" || strings.HasSuffix(rel, "/") {
		return named{kind: silent} // a folder, as some tools make them
	}
	if !clean(rel) {
		return named{kind: unsafe}
	}
	dir, name := cutLast(rel)
	if name == markerName || isNote(name) {
		return named{kind: silent}
	}
	if p, ok := strings.CutSuffix(rel, store.SizesSuffix); ok {
		if _, name := cutLast(p); name == "" {
			return named{kind: foreign}
		}
		return named{kind: isSizes, path: snapshot.UnescapePath(p)}
	}
	n := named{kind: isObject}
	name, n.kind = cutBeside(name)
	var ok bool
	if n.edge, n.form, ok = parseName(name); !ok || dir == "" {
		return named{kind: foreign}
	}
	n.path = snapshot.UnescapePath(dir)
	return n
}

// cutBeside splits off what the keys of small objects have that lie beside
// streams, and tells what they are.
func cutBeside(name string) (stream string, is kind) {
	for _, k := range [...]struct {
		suffix string
		is     kind
	}{{manifestSuffix, isDescr}, {tombSuffix, isTomb}, {doomSuffix, isDoom}} {
		if stream, ok := strings.CutSuffix(name, k.suffix); ok {
			return stream, k.is
		}
	}
	return name, isObject
}

// parseName reads the last component of the key of a stream.
func parseName(name string) (e snapshot.Edge, f seal.Form, ok bool) {
	name, f = seal.CutSuffix(name)
	to, from, ok := strings.Cut(name, "_")
	if !ok {
		return e, f, false
	}
	var err error
	if e.To, err = snapshot.ParseID(to); err != nil || e.To.IsZero() {
		return e, f, false
	}
	if from != noParent {
		if e.From, err = snapshot.ParseID(from); err != nil || e.From.IsZero() || e.From == e.To {
			return e, f, false
		}
	}
	return e, f, true
}

// edgeName is the last component of the key of a stream.
func edgeName(e snapshot.Edge, f seal.Form) string {
	from := noParent
	if !e.IsFull() {
		from = e.From.String()
	}
	return e.To.String() + "_" + from + f.Suffix()
}

// manifestKey is the key of the manifest of a stream.
func manifestKey(key string) string { return key + manifestSuffix }

// tombKey is the key of the tombstone of a stream, and doomKey that of the mark
// that it has while it is deleted for good.
func tombKey(key string) string { return key + tombSuffix }
func doomKey(key string) string { return key + doomSuffix }

// keyFor is the key of the stream of an edge to the snapshot at a path. It fails
// where there can be no such key.
func (s *Store) keyFor(p string, e snapshot.Edge, f seal.Form) (string, error) {
	if err := s.checkPath(p); err != nil {
		return "", err
	}
	key := s.canonical(p, e, f)
	if err := s.bucket.CheckKey(key); err != nil {
		return "", fmt.Errorf("%s has no place for a snapshot %s: %w", s.bucket, printable(p), err)
	}
	return key, nil
}

// canonical is the key that we give the stream of an edge.
func (s *Store) canonical(p string, e snapshot.Edge, f seal.Form) string {
	return streamKey(s.o.Prefix, p, e, f)
}

// streamKey is the key that a stream has in the archive below a prefix.
func streamKey(prefix, p string, e snapshot.Edge, f seal.Form) string {
	return below(prefix, snapshot.EscapePath(p)+"/"+edgeName(e, f))
}

// below is the key of what an archive calls rel.
func below(prefix, rel string) string {
	if prefix == "" {
		return rel
	}
	return prefix + "/" + rel
}

// sizesKey is the key of the notes of sizes beside a snapshot.
func sizesKey(prefix, p string) string {
	return below(prefix, snapshot.EscapePath(p)+store.SizesSuffix)
}

// errPath says that there can be no snapshot at a path.
type errPath struct{ path, why string }

func (e *errPath) Error() string {
	return fmt.Sprintf("there can be no snapshot %s in an archive: %s", printable(e.path), e.why)
}

// checkPath says why there can be no snapshot at a path, in any bucket.
func (s *Store) checkPath(p string) error {
	why := ""
	first, _, _ := strings.Cut(p, "/")
	switch key := snapshot.EscapePath(p); {
	case !clean(p):
		why = "it is not a path below the archive"
	case strings.IndexByte(p, 0) >= 0:
		why = "there is a NUL in its name"
	case snapshot.IsPart(p):
		why = "its name ends in " + snapshot.PartSuffix + ", as those of unfinished snapshots do"
	case s.o.Prefix == "" && owned(first):
		why = fmt.Sprintf("%s/ is kept for what is removed or unfinished; give the archive a prefix", first)
	case len(below(s.o.Prefix, key))+1+len(edgeName(snapshot.Edge{From: snapshot.ID{1}}, seal.Form{Compressed: true, Cipher: seal.Age}))+beside > maxKey:
		why = fmt.Sprintf("its key would have more than %d bytes", maxKey)
	default:
		why = badComponent(key)
	}
	if why == "" {
		return nil
	}
	return &errPath{p, why}
}

// owned reports whether a name at the top of a bucket is one of the archive's own,
// or would be where upper and lower case are one, as on many USB disks.
func owned(name string) bool {
	return strings.EqualFold(name, trashFolder) || strings.EqualFold(name, uploadsFolder)
}

// badComponent says what is wrong with the components of an escaped path.
func badComponent(key string) string {
	for c := range strings.SplitSeq(key, "/") {
		stream, _ := cutBeside(c)
		_, _, taken := parseName(stream)
		switch {
		case len(c)+len(store.SizesSuffix)+len("~999") > maxComponent:
			return fmt.Sprintf("a name of it is too long: %d bytes are what fits everywhere", maxComponent)
		case strings.HasSuffix(c, store.SizesSuffix):
			return "a name of it ends in " + store.SizesSuffix + ", as those of notes about sizes do"
		case c == markerName || isNote(c) || taken:
			return "a name of it is one that archives give to their own objects"
		}
	}
	return ""
}

// printable returns what a bucket or a file system says so that it does nothing
// to a terminal: quoted, where anything in it could.
func printable(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}

// clean reports whether a key or path has nothing in it that could lead to
// another place.
func clean(p string) bool {
	for c := range strings.SplitSeq(p, "/") {
		if c == "" || c == "." || c == ".." {
			return false
		}
	}
	return true
}

// inFolder reports whether a key is a folder or below it.
func inFolder(key, folder string) bool {
	below, ok := strings.CutPrefix(key, folder)
	return ok && (below == "" || below[0] == '/')
}

// cutLast splits the last component off.
func cutLast(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)], p[i+1:]
}

// checkPrefix says what is wrong with the prefix of an archive.
func checkPrefix(prefix string) error {
	switch {
	case prefix == "":
		return nil
	case !clean(prefix):
		return errors.New("it has empty components, or \".\" or \"..\"")
	case inFolder(prefix, trashFolder) || inFolder(prefix, uploadsFolder):
		return errors.New("what is there is kept for what is removed or unfinished")
	case len(prefix) > maxKey/2:
		return fmt.Errorf("it has more than %d bytes", maxKey/2)
	}
	return nil
}
