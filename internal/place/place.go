// Package place reads what an argument of the command line names: a directory of this
// machine or of another one, an archive in a directory, a bucket or a vault, a command.
// It knows the schemes and options of URLs, what may stand in the name of a machine, a
// bucket or a vault, when two texts name one place, and which part of a text is a secret
// that is not shown. It is pure: whether anything is there, how it is opened, and what
// the configuration calls it, it does not ask.
//
// A [Place] that has been read is safe to hand on: no NUL is in its path, no name of a
// machine or of a user can be taken for an option of ssh or means anything to a shell,
// no ".." leads out of a bucket, and there is no password in it. Errors are for people,
// say what to write instead, and do not repeat a secret.
//
// The forms are those that people's scripts have: of ButterSink paths, btrfs://, ssh://
// and s3://, and that as a source the last element names one snapshot unless a slash
// follows; of btrfs-backup file:// and shell://, and the texts that name a destination
// in its notes ([Place.ID]). [FromRsync] is for those who write host:path.
//
//	p, err := place.Parse("ssh://me@host/mnt/snaps/", true)
package place

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Place is what a SRC or DST argument names.
type Place struct {
	Arg     string  // as it was typed
	Scheme  string  // "btrfs" if none was typed
	Bucket  string  // of S3; of Glacier the vault
	Dir     string  // the store's directory; of S3 and Glacier the prefix, empty for all of it
	Name    string  // the one snapshot that is meant; empty for all below Dir
	Machine Machine // of ssh:// and ssh+btrfs://
	Command string  // of shell://
	// Options are what stands in the query of an S3 or Glacier URL, by name, and Query
	// is that text with its question mark.
	Options map[string]string
	Query   string
}

// StoreScheme begins the URLs of stores that the configuration has names for, which
// Parse refuses.
const StoreScheme = "store"

// Here reports whether the place is a btrfs directory of this machine.
func (p Place) Here() bool { return p.Scheme == "btrfs" || p.Scheme == "file" }

// Archive reports whether the place is one of streams kept as objects.
func (p Place) Archive() bool {
	return p.Scheme == "s3" || p.Scheme == "dir" || p.Scheme == "glacier"
}

// OverSSH reports whether the place is a btrfs directory of another machine.
func (p Place) OverSSH() bool { return p.Scheme == "ssh" || p.Scheme == "ssh+btrfs" }

// Ours reports whether the place is a btrfs directory on a machine that has
// buttersink.
func (p Place) Ours() bool { return !p.Archive() && p.Scheme != "ssh+btrfs" && p.Scheme != "shell" }

// KeepsStreams reports whether what is sent there stays a stream, which is
// carried out only when it is restored.
func (p Place) KeepsStreams() bool { return p.Archive() || p.Scheme == "shell" }

// OfBtrsend reports whether the place is a vault with what btrsend has left.
func (p Place) OfBtrsend() bool {
	return p.Scheme == "glacier" && (p.Options["layout"] == BtrsendLayout || p.Options["database"] != "")
}

// HasTrash reports whether what is removed can be put back.
func (p Place) HasTrash() bool { return p.Archive() && !p.OfBtrsend() }

// schemes begin URLs.
var schemes = []string{"btrfs", "file", "dir", "s3", "glacier", "ssh", "ssh+btrfs", "shell"}

// Split cuts an argument into scheme and path: a run of characters other
// than ':' and '/', then "://"; without that it is a path all through.
func Split(arg string) (scheme, path string) {
	scheme, path, ok := strings.Cut(arg, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, ":/") {
		return "btrfs", arg
	}
	return scheme, path
}

// Parse reads an argument. As a source the last element names one
// snapshot unless a slash follows; a destination is always a directory.
func Parse(arg string, destination bool) (Place, error) {
	p := Place{Arg: arg}
	var path string
	p.Scheme, path = Split(arg)
	switch {
	case p.Scheme == StoreScheme:
		return Place{}, fmt.Errorf("%q: a store of the configuration cannot be named here: write its URL", Redact(arg))
	case !slices.Contains(schemes, p.Scheme):
		return Place{}, fmt.Errorf("%q has the unknown scheme %q: want a path, or btrfs://, file://, ssh://, ssh+btrfs://, dir://, s3://, glacier:// or shell://", Redact(arg), p.Scheme)
	case strings.ContainsRune(path, 0):
		return Place{}, fmt.Errorf("%q has a NUL byte in it", Redact(arg))
	case p.Scheme == "s3":
		return parseS3(arg, path, destination)
	case p.Scheme == "glacier":
		return parseGlacier(arg, path, destination)
	case p.OverSSH():
		return parseSSH(arg, p.Scheme, path, destination)
	case p.Scheme == "shell":
		return parseShell(arg, path)
	case path == "":
		return Place{}, fmt.Errorf("%q names no directory: the current one is '%s'", arg, map[bool]string{true: "dir://./", false: "./"}[p.Scheme == "dir"])
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	if destination || last == "" || last == "." || last == ".." {
		p.Dir = filepath.Clean(path)
		return p, nil
	}
	p.Name = last
	p.Dir = filepath.Clean(path[:len(path)-len(last)])
	return p, nil
}

// below reads the rest of a URL, behind the bucket or vault.
func (p Place) below(key, where string, destination bool) (Place, error) {
	var clean []string
	for element := range strings.SplitSeq(key, "/") {
		switch element {
		case "", ".":
		case "..":
			return Place{}, fmt.Errorf("%q: '..' means nothing in %s", Redact(p.Arg), where)
		default:
			clean = append(clean, element)
		}
	}
	if last := key[strings.LastIndexByte(key, '/')+1:]; !destination && last != "" && last != "." {
		p.Name = last
		clean = clean[:len(clean)-1]
	}
	p.Dir = strings.Join(clean, "/")
	return p, nil
}

// Within is the argument that names one snapshot of the place, given its path.
func (p Place) Within(path string) string {
	if p.Name != "" {
		return p.Arg
	}
	arg := p.Bare()
	if !strings.HasSuffix(arg, "/") { // ".", ".."
		arg += "/"
	}
	return arg + path + p.Query
}

// Bare is the argument without its options.
func (p Place) Bare() string { return strings.TrimSuffix(p.Arg, p.Query) }

// WithSlash is the argument as the one of a directory.
func (p Place) WithSlash() string {
	if p.Scheme == "shell" {
		return p.Arg
	}
	return strings.TrimRight(p.Bare(), "/") + "/" + p.Query
}
