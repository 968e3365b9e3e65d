package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// IsMountPoint reports whether something is mounted at a path, as this process sees
// it (proc(5), mountinfo), whatever file system that is. Links in the path are
// followed; where there is nothing, nothing is mounted.
func IsMountPoint(path string) (bool, error) {
	real, err := filepath.EvalSymlinks(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return false, fmt.Errorf("looking for a mount: %w", err)
	}
	text, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("listing mounts: %w", err)
	}
	defer text.Close()
	all, err := parseMountinfo(text)
	if err != nil {
		return false, fmt.Errorf("listing mounts: %w", err)
	}
	return slices.ContainsFunc(all, func(m mountLine) bool { return m.point == real }), nil
}
