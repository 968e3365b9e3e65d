package cli

import (
	"fmt"
	"path/filepath"

	"github.com/buttersink/buttersink/internal/btrfs"
)

// mounted fails unless a file system is mounted where one has to be for a place of
// this machine, and the place lies in it: what is written into an empty mount point
// is on the wrong disk, and hidden as soon as the right one is back.
func (p site) mounted(at string) error {
	if at == "" || !p.Here() && p.Scheme != "dir" {
		return nil
	}
	at, err := filepath.Abs(at)
	if err != nil {
		return fmt.Errorf("finding the current directory: %w", err)
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return fmt.Errorf("finding the current directory: %w", err)
	}
	if rest, err := filepath.Rel(at, dir); err != nil || !filepath.IsLocal(rest) {
		return &exitError{code: exitConfig, err: fmt.Errorf("%s does not lie in %s, where something has to be mounted for it", p.Arg, at)}
	}
	is, err := btrfs.IsMountPoint(at)
	if err == nil && !is {
		err = &exitError{code: exitFailed, err: fmt.Errorf("nothing is mounted at %s", at), hint: "Mount what belongs there and run it again. Nothing was written there."}
	}
	return err
}
