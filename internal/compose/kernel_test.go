package compose

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// metadata is what a stream says about each inode in the end, but for its data:
// names, kind, owner, mode, times, attributes. Which of its names is the first is
// of no importance.
func metadata(t *testing.T, in []byte) map[uint64]map[string]string {
	t.Helper()
	inodes := map[uint64]map[string]string{256: {"type": "root"}}
	paths := map[string]uint64{"": 256}
	r := stream.NewReader(bytes.NewReader(in))
	for {
		c, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := string(c.Path)
		at := inodes[paths[path]]
		switch c.Kind {
		case stream.MkFile, stream.MkDir, stream.MkNod, stream.MkFifo, stream.MkSock, stream.Symlink:
			paths[path] = c.Ino
			kind := c.Kind.String()
			if c.Kind == stream.MkNod || c.Kind == stream.MkFifo || c.Kind == stream.MkSock {
				kind += fmt.Sprintf(" %#x %o", c.Rdev, c.Mode)
			}
			inodes[c.Ino] = map[string]string{"type": kind, "target": string(c.PathLink)}
		case stream.Rename:
			to := string(c.PathTo)
			for p, ino := range paths {
				if p == path || strings.HasPrefix(p, path+"/") {
					delete(paths, p)
					paths[to+p[len(path):]] = ino
				}
			}
		case stream.Link:
			paths[path] = paths[string(c.PathLink)]
		case stream.Unlink, stream.RmDir:
			delete(paths, path)
		case stream.SetXattr:
			at["xattr "+string(c.XattrName)] = fmt.Sprintf("%x", c.XattrData)
		case stream.Chown:
			at["owner"] = fmt.Sprint(c.UID, c.GID)
		case stream.Chmod:
			at["mode"] = fmt.Sprintf("%o", c.Mode)
		case stream.Utimes:
			at["times"] = fmt.Sprint(c.Atime, c.Mtime, c.Ctime, c.Otime)
		case stream.FileAttr:
			at["flags"] = fmt.Sprintf("%#x", c.FileAttr)
		}
	}
	for p, ino := range paths {
		inodes[ino]["name "+p] = ""
	}
	return inodes
}

// TestSaysWhatTheKernelSays compares what is in the stream about metadata with
// the kernel's own stream. No receiver carries all of it out.
func TestSaysWhatTheKernelSays(t *testing.T) {
	btrfstest.Require(t)
	for seed := range uint64(3) {
		fs := btrfstest.New(t, btrfstest.MountOptions("noatime,compress=zstd"), btrfstest.Size(1<<30))
		tree := btrfstest.NewTree(t, fs.Subvolume("live"), seed)
		tree.Fill()
		tree.Mutate()
		snapshot := fs.Snapshot("live", "snapshot", true)
		for _, form := range all {
			ours, theirs := metadata(t, composed(t, snapshot, form.o)), metadata(t, fs.Send(snapshot, form.send...))
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("seed %d, %s: the kernel's stream (-) says something else than ours (+):\n%.2000s", seed, form.name, diff)
			}
		}
	}
}
