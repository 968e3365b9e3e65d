package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/store/local"
)

// place is what a SRC or DST argument names.
type place struct {
	arg    string // as it was typed
	scheme string // "btrfs" if none was typed
	bucket string // of S3; of Glacier the vault
	dir    string // the store's directory; of S3 the prefix, empty for a whole bucket
	name   string // the one snapshot that is meant; empty for all below dir
	machine
	command string // of shell://
	// options are what stands in the query of an S3 or Glacier URL, by name, and query
	// is that text with its question mark.
	options map[string]string
	query   string
	// store is set where a name of the configuration stands for the place.
	store *namedStore
}

// archive reports whether the place is one of streams kept as objects.
func (p place) archive() bool {
	return p.scheme == "s3" || p.scheme == "dir" || p.scheme == "glacier"
}

// schemes begin URLs.
var schemes = []string{"btrfs", "file", "dir", "s3", "glacier", "ssh", "ssh+btrfs", "shell"}

// queryForm says what the query of a URL may have.
type queryForm struct {
	of      string // "an S3 URL"
	options []string
}

var s3Query = queryForm{"an S3 URL", []string{"endpoint", "kms-key", "path-style", "region", "sse", "storage-class"}}

// splitURL cuts an argument into scheme and path: a run of characters other
// than ':' and '/', then "://"; without that it is a path all through.
func splitURL(arg string) (scheme, path string) {
	scheme, path, ok := strings.Cut(arg, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, ":/") {
		return "btrfs", arg
	}
	return scheme, path
}

// splitQuery cuts the options off a URL. A question mark belongs to the path
// unless every piece behind the last one has the form KEY=VALUE.
func splitQuery(arg string, form queryForm) (before, query string, options map[string]string, err error) {
	i := strings.LastIndexByte(arg, '?')
	if i < 0 {
		return arg, "", nil, nil
	}
	pieces := strings.Split(arg[i+1:], "&")
	for _, piece := range pieces {
		if key, _, ok := strings.Cut(piece, "="); !ok || key == "" || strings.ContainsRune(key, '/') {
			return arg, "", nil, nil
		}
	}
	options = map[string]string{}
	for _, piece := range pieces {
		key, value, _ := strings.Cut(piece, "=")
		_, twice := options[key]
		switch {
		case !slices.Contains(form.options, key):
			return "", "", nil, fmt.Errorf("%s has no option %q: want %s", form.of, key, strings.Join(form.options, ", "))
		case twice:
			return "", "", nil, fmt.Errorf("the option %q is there twice", key)
		}
		if value, err = url.PathUnescape(value); err != nil {
			return "", "", nil, fmt.Errorf("the value of the option %q is not escaped as in a URL", key)
		}
		options[key] = value
	}
	return arg[:i], arg[i:], options, nil
}

// parsePlace reads an argument. As a source the last element names one
// snapshot unless a slash follows; a destination is always a directory.
func parsePlace(arg string, destination bool) (place, error) {
	p := place{arg: arg}
	var path string
	p.scheme, path = splitURL(arg)
	switch {
	case p.scheme == storeScheme:
		return place{}, fmt.Errorf("%q: a store of the configuration cannot be named here: write its URL", redact(arg))
	case !slices.Contains(schemes, p.scheme):
		return place{}, fmt.Errorf("%q has the unknown scheme %q: want a path, or btrfs://, file://, ssh://, ssh+btrfs://, dir://, s3://, glacier:// or shell://", redact(arg), p.scheme)
	case strings.ContainsRune(path, 0):
		return place{}, fmt.Errorf("%q has a NUL byte in it", redact(arg))
	case p.scheme == "s3":
		return parseS3(arg, path, destination)
	case p.scheme == "glacier":
		return parseGlacier(arg, path, destination)
	case p.overSSH():
		return parseSSH(arg, p.scheme, path, destination)
	case p.scheme == "shell":
		return parseShell(arg, path)
	case path == "":
		return place{}, fmt.Errorf("%q names no directory: the current one is '%s'", arg, map[bool]string{true: "dir://./", false: "./"}[p.scheme == "dir"])
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

// parseS3 reads what stands behind s3:// in an argument.
func parseS3(arg, text string, destination bool) (place, error) {
	p := place{arg: arg, scheme: "s3"}
	var err error
	if text, p.query, p.options, err = splitQuery(text, s3Query); err != nil {
		return place{}, err
	}
	bucket, key, _ := strings.Cut(text, "/")
	p.bucket = bucket
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	switch {
	case bucket == "":
		return place{}, fmt.Errorf("%q names no bucket: want s3://BUCKET/PREFIX/", redact(arg))
	case strings.ContainsAny(bucket, ":@"):
		// Not shown, not even with stars: any of it may be the secret.
		return place{}, errors.New("credentials do not belong into an S3 URL: want s3://BUCKET/PREFIX/, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile in the environment")
	case strings.ContainsFunc(bucket, odd):
		return place{}, fmt.Errorf("%q: a bucket has letters, digits, '.', '-' and '_' in its name: want s3://BUCKET/PREFIX/", redact(arg))
	}
	return p.below(key, "a bucket", destination)
}

// below reads the rest of a URL, behind the bucket or vault.
func (p place) below(key, where string, destination bool) (place, error) {
	var clean []string
	for element := range strings.SplitSeq(key, "/") {
		switch element {
		case "", ".":
		case "..":
			return place{}, fmt.Errorf("%q: '..' means nothing in %s", redact(p.arg), where)
		default:
			clean = append(clean, element)
		}
	}
	if last := key[strings.LastIndexByte(key, '/')+1:]; !destination && last != "" && last != "." {
		p.name = last
		clean = clean[:len(clean)-1]
	}
	p.dir = strings.Join(clean, "/")
	return p, nil
}

// within is the argument that names one snapshot of the place, given its path.
func (p place) within(path string) string {
	if p.name != "" {
		return p.arg
	}
	arg := p.bare()
	if !strings.HasSuffix(arg, "/") { // ".", ".."
		arg += "/"
	}
	return arg + path + p.query
}

// bare is the argument without its options.
func (p place) bare() string { return strings.TrimSuffix(p.arg, p.query) }

// withSlash is the argument as the one of a directory.
func (p place) withSlash() string {
	if p.scheme == "shell" {
		return p.arg
	}
	return strings.TrimRight(p.bare(), "/") + "/" + p.query
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
		hint = remoteHint(p.arg)
	case errors.Is(err, local.ErrNotDirectory):
		hint = "Name a directory on a mounted btrfs file system, not a device.  A new one is made with mkdir, once the file system is mounted."
	case errors.Is(err, btrfs.ErrNotBtrfs) && p.store == nil:
		hint = "Is the file system mounted?  For streams in a directory of any other file system, write " + shellWord("dir://"+p.arg)
	}
	if errors.Is(err, local.ErrNotDirectory) {
		err = fmt.Errorf("'%s' is not an existing directory", p.dir)
	}
	return &exitError{code: exitFailed, err: err, hint: hint}
}

// remoteHint says how a place is written that rsync's form names.
func remoteHint(arg string) string {
	host, dir, _ := strings.Cut(arg, ":")
	if host == "ssh" && dir[0] == '/' { // one slash is missing
		host, dir, _ = strings.Cut(dir[1:], "/")
	}
	return fmt.Sprintf("If it is on another machine, write 'ssh://%s/%s', with the full path there.", host, strings.TrimLeft(dir, "/"))
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
		return fmt.Sprintf("'%s' is not a snapshot.  Did you mean to type '%s'?", p.arg, p.withSlash())
	}
	if p.scheme == "shell" {
		return "The command has not been given any snapshots yet, as far as is remembered here."
	}
	if p.archive() {
		hint := fmt.Sprintf("'%s' does not contain any snapshots.", p.arg)
		if p.bucket != "" && p.dir != "" && p.store == nil {
			hint += fmt.Sprintf("  'buttersink list %s://%s/%s' shows what is in the whole %s.", p.scheme, p.bucket, p.query, map[bool]string{true: "bucket", false: "vault"}[p.scheme == "s3"])
		}
		return hint
	}
	bare := strings.TrimRight(p.bare(), "/")
	if bare == "" || bare == p.bare() {
		return fmt.Sprintf("'%s' does not contain any snapshots.", p.arg)
	}
	return fmt.Sprintf("'%s' does not contain any snapshots.  Did you mean to type '%s'?", p.withSlash(), bare+p.query)
}
