package compose

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// The type of an inode, in its mode (inode(7)).
const (
	typeMask   = 0o170000
	typeSocket = 0o140000
	typeLink   = 0o120000
	typeFile   = 0o100000
	typeBlock  = 0o060000
	typeDir    = 0o040000
	typeChar   = 0o020000
	typeFifo   = 0o010000
)

// file is the inode that the composer is at.
type file struct {
	ino   uint64
	inode btrfs.Inode
	named bool   // it has been made, as path
	path  []byte // the first of its names

	capability    []byte // its file capability
	hasCapability bool

	run  run    // data that may go on
	end  uint64 // of the data so far
	next uint64 // where the next extent may begin

	writeHead, encodedHead int // lengths of commands without data; 0 if not known
}

func (f *file) begin(ino uint64, path []byte) {
	*f = file{ino: ino, path: path, capability: f.capability[:0]}
}

// wrap says in an error which file it is about.
func (f *file) wrap(err error) error {
	switch {
	case err == nil, errors.Is(err, errStopped):
		return err
	case f.named:
		return fmt.Errorf("%q: %w", f.path, err)
	}
	return fmt.Errorf("inode %d: %w", f.ino, err)
}

// errStopped is what deliver returns when the stream is not wanted any more.
var errStopped = errors.New("stopped")

// files goes through the tree for everything that is not a directory.
func (c *composer) files() error {
	c.file.begin(0, c.file.path[:0])
	skip := true // this inode
	items := 0
	for it, err := range c.tree.search(searchSize)(btrfs.RootInode, btrfs.LastInode) {
		if err != nil {
			return err
		}
		if items++; items%4096 == 0 && c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		f := &c.file
		if it.Kind == btrfs.InodeItem {
			if !skip {
				if err := c.finish(); err != nil {
					return f.wrap(err)
				}
			}
			f.begin(it.Inode, f.path[:0])
			if f.inode, err = btrfs.ParseInode(it.Data); err != nil {
				return f.wrap(err)
			}
			if f.inode.Size > math.MaxInt64 {
				return f.wrap(fmt.Errorf("its size of %d makes no sense", f.inode.Size))
			}
			skip = f.inode.Links == 0 || f.inode.Mode&typeMask == typeDir
			continue
		}
		if skip || it.Inode != f.ino {
			continue
		}
		if err := c.item(it); err != nil {
			return f.wrap(err)
		}
	}
	if skip {
		return nil
	}
	return c.file.wrap(c.finish())
}

// item carries on with the file at hand.
func (c *composer) item(it btrfs.Item) error {
	f := &c.file
	switch it.Kind {
	case btrfs.InodeRef:
		for rest := it.Data; len(rest) > 0; {
			name, next, err := btrfs.CutRef(rest)
			if err == nil {
				err = c.name(it.Offset, name)
			}
			if err != nil {
				return err
			}
			rest = next
		}
	case btrfs.InodeExtref:
		for rest := it.Data; len(rest) > 0; {
			dir, name, next, err := btrfs.CutExtref(rest)
			if err == nil {
				err = c.name(dir, name)
			}
			if err != nil {
				return err
			}
			rest = next
		}
	case btrfs.XattrItem:
		if f.named {
			return c.xattrs(it.Data)
		}
	case btrfs.ExtentData:
		if f.named && f.inode.Mode&typeMask == typeFile {
			return c.extent(it)
		}
	}
	return nil
}

// name gives the file at hand a name: it makes it, or links it.
func (c *composer) name(dir uint64, name []byte) (err error) {
	f := &c.file
	if f.named {
		if c.scratch, err = c.inDirectory(c.scratch[:0], dir, name); err != nil {
			return err
		}
		c.command = stream.Command{Kind: stream.Link, Path: c.scratch, PathLink: f.path}
		return c.put(&c.command)
	}
	if f.path, err = c.inDirectory(f.path[:0], dir, name); err != nil {
		return err
	}
	f.named = true
	c.command = stream.Command{Path: f.path, Ino: f.ino}
	switch f.inode.Mode & typeMask {
	case typeFile:
		c.command.Kind = stream.MkFile
	case typeLink:
		c.command.Kind = stream.Symlink
		if c.command.PathLink, err = c.target(); err != nil {
			return err
		}
	case typeChar, typeBlock:
		c.command.Kind = stream.MkNod
	case typeFifo:
		c.command.Kind = stream.MkFifo
	case typeSocket:
		c.command.Kind = stream.MkSock
	default:
		return fmt.Errorf("it is of no type that is known (mode %o)", f.inode.Mode)
	}
	c.command.Rdev, c.command.Mode = encodeDev(f.inode.Rdev), uint64(f.inode.Mode)
	return c.put(&c.command)
}

// target returns what a symbolic link says. Its item comes behind those that
// need the link to exist.
func (c *composer) target() ([]byte, error) {
	for it, err := range c.tree.single(c.file.ino, btrfs.ExtentData, btrfs.ExtentData) {
		if err != nil {
			return nil, err
		}
		x, err := btrfs.ParseExtent(it.Data)
		if err != nil {
			return nil, err
		}
		if x.Kind != btrfs.ExtentInline || x.Compression != btrfs.Uncompressed || !text(x.Inline, maxPath) {
			break
		}
		c.scratch = append(c.scratch[:0], x.Inline...)
		return c.scratch, nil
	}
	return nil, errors.New("the symbolic link has no target that makes sense")
}

// encodeDev makes of a device number as the kernel has it in memory, and btrfs
// on disk, the one that streams and system calls have (new_encode_dev in
// linux/kdev_t.h).
func encodeDev(rdev uint64) uint64 {
	major, minor := uint32(rdev)>>20, uint32(rdev)&(1<<20-1)
	return uint64(minor&0xff | major<<8 | minor&^0xff<<12)
}

const (
	capability = "security.capability"
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// emptyACL is an ACL without entries (linux/posix_acl_xattr.h: the version
// alone). On disk that is an attribute without a value, which no system call
// takes.
var emptyACL = binary.LittleEndian.AppendUint32(nil, 2)

// xattrs puts in the attributes of an item. A capability waits for the owner,
// because a change of owner takes it away.
func (c *composer) xattrs(data []byte) error {
	f := &c.file
	for rest := data; len(rest) > 0; {
		name, value, next, err := btrfs.CutXattr(rest)
		if err != nil {
			return err
		}
		rest = next
		if !text(name, 255) {
			return fmt.Errorf("%q is no name of an attribute", name)
		}
		switch string(name) {
		case capability:
			f.capability, f.hasCapability = append(f.capability[:0], value...), true
			continue
		case aclAccess, aclDefault:
			if len(value) == 0 {
				value = emptyACL
			}
		}
		c.command = stream.Command{Kind: stream.SetXattr, Path: f.path, XattrName: name, XattrData: value}
		if err := c.put(&c.command); err != nil {
			return err
		}
	}
	return nil
}

// finish puts in what comes behind the data of the file at hand.
func (c *composer) finish() error {
	f := &c.file
	if !f.named {
		return nil
	}
	n := &f.inode
	kind := n.Mode & typeMask
	if err := c.flush(); err != nil {
		return err
	}
	if kind == typeFile && f.end != n.Size {
		c.command = stream.Command{Kind: stream.Truncate, Path: f.path, Size: n.Size}
		if err := c.put(&c.command); err != nil {
			return err
		}
	}
	c.command = stream.Command{Kind: stream.Chown, Path: f.path, UID: uint64(n.UID), GID: uint64(n.GID)}
	if err := c.put(&c.command); err != nil {
		return err
	}
	if kind != typeLink {
		c.command = stream.Command{Kind: stream.Chmod, Path: f.path, Mode: uint64(n.Mode & 0o7777)}
		if err := c.put(&c.command); err != nil {
			return err
		}
	}
	if f.hasCapability {
		c.command = stream.Command{Kind: stream.SetXattr, Path: f.path, XattrName: []byte(capability), XattrData: f.capability}
		if err := c.put(&c.command); err != nil {
			return err
		}
	}
	c.command = stream.Command{
		Kind: stream.Utimes, Path: f.path,
		Atime: stream.Time(n.Atime), Mtime: stream.Time(n.Mtime), Ctime: stream.Time(n.Ctime), Otime: stream.Time(n.Otime),
	}
	return c.put(&c.command)
}
