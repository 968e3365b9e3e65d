package btrfstest

import (
	"strings"
)

// Subvolumes returns the paths of all subvolumes of the file system below its
// top level, as btrfs subvolume list tells them.
func (fs *FS) Subvolumes() []string {
	fs.t.Helper()
	var paths []string
	for line := range strings.Lines(string(run(fs.t, nil, "btrfs", "subvolume", "list", fs.Dir))) {
		if _, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " path "); ok {
			paths = append(paths, path)
		}
	}
	return paths
}
