package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store/local"
)

// site is a place with what the configuration says of it.
type site struct {
	place.Place
	// store is set where a name of the configuration stands for the place.
	store *namedStore
}

// explain adds what to do about a directory that cannot be opened.
func (p site) explain(err error) error {
	isDir := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.IsDir()
	}
	hint := ""
	url, remote := place.FromRsync(p.Arg)
	switch {
	case p.Name != "" && isDir(filepath.Join(p.Dir, p.Name)):
		// "/mnt/pool" for a mount point: its parent need not be btrfs.
		hint = fmt.Sprintf("Did you mean to type '%s/'?", p.Arg)
	case errors.Is(err, local.ErrNotDirectory) && remote:
		hint = remoteHint(url)
	case errors.Is(err, local.ErrNotDirectory):
		hint = "Name a directory on a mounted btrfs file system, not a device.  A new one is made with mkdir, once the file system is mounted."
	case errors.Is(err, btrfs.ErrNotBtrfs) && p.store == nil:
		hint = "Is the file system mounted?  For streams in a directory of any other file system, write " + shellWord("dir://"+p.Arg)
	}
	if errors.Is(err, local.ErrNotDirectory) {
		err = fmt.Errorf("'%s' is not an existing directory", p.Dir)
	}
	return &exitError{code: exitFailed, err: err, hint: hint}
}

// explainDir adds what to do about an archive's directory that cannot be opened.
func (p site) explainDir(err error) error {
	return &exitError{
		code: exitFailed, err: err,
		hint: fmt.Sprintf("An archive's directory has to be there.  After 'mkdir -p', 'buttersink init %s' makes it an archive.", shellWord(p.Arg)),
	}
}

// remoteHint says how a place is written that rsync's form names.
func remoteHint(url string) string {
	return fmt.Sprintf("If it is on another machine, write '%s', with the full path there.", url)
}

// noSnapshots is what to say about an empty selection; there is what the store
// has at the path of the one snapshot that was asked for.
func (p site) noSnapshots(there string) string {
	if p.Name != "" && there != "" && there != "a directory" {
		return fmt.Sprintf("'%s' is %s: make a snapshot of it with 'btrfs subvolume snapshot -r'.", p.Arg, there)
	}
	if p.Name != "" {
		return fmt.Sprintf("'%s' is not a snapshot.  Did you mean to type '%s'?", p.Arg, p.WithSlash())
	}
	if p.Scheme == "shell" {
		return "The command has not been given any snapshots yet, as far as is remembered here."
	}
	if p.Archive() {
		hint := fmt.Sprintf("'%s' does not contain any snapshots.", p.Arg)
		if p.Bucket != "" && p.Dir != "" && p.store == nil {
			hint += fmt.Sprintf("  'buttersink list %s://%s/%s' shows what is in the whole %s.", p.Scheme, p.Bucket, p.Query, map[bool]string{true: "bucket", false: "vault"}[p.Scheme == "s3"])
		}
		return hint
	}
	bare := strings.TrimRight(p.Bare(), "/")
	if bare == "" || bare == p.Bare() {
		return fmt.Sprintf("'%s' does not contain any snapshots.", p.Arg)
	}
	return fmt.Sprintf("'%s' does not contain any snapshots.  Did you mean to type '%s'?", p.WithSlash(), bare+p.Query)
}
