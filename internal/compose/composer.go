package compose

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// A composer goes through the items of a tree and says what is in the stream.
type composer struct {
	ctx   context.Context
	tree  tree
	o     Options
	chunk int // of data in one WRITE

	// deliver takes a batch and returns the next, an empty one.
	deliver func(*batch) (*batch, error)
	batch   *batch

	uuid    stream.UUID
	transid uint64

	dirs   dirs
	shared shared
	file   file

	dir       int    // the directory that dirPath is of
	dirPath   []byte // with a slash at its end, unless it is the root's
	clonePath []byte // of cloneIno
	cloneIno  uint64

	command stream.Command
	scratch []byte
}

// A tree is what is known of the subvolume.
type tree struct {
	name   string
	info   btrfs.Subvolume
	sector uint64
	// bound is above all inode numbers.
	bound func() (uint64, error)
	// search returns a way to search for all items from one inode to another, which
	// is for one goroutine and holds a buffer of the given size.
	search func(size int) func(first, last uint64) iter.Seq2[btrfs.Item, error]
	// single gives items of one inode, also while something else is searched for.
	single func(ino uint64, first, last btrfs.ItemKind) iter.Seq2[btrfs.Item, error]
}

// searchSize is the buffer for searching the whole tree.
const searchSize = 512 << 10

func treeOf(c *btrfs.Contents) tree {
	return tree{
		name: c.Name(), info: c.Info(), sector: c.SectorSize(),
		bound: c.Bound, single: c.Search(0).Inode,
		search: func(size int) func(first, last uint64) iter.Seq2[btrfs.Item, error] { return c.Search(size).Inodes },
	}
}

func newComposer(ctx context.Context, t tree, o Options, deliver func(*batch) (*batch, error)) *composer {
	return &composer{ctx: ctx, tree: t, o: o, deliver: deliver, chunk: stream.MaxWrite(o.Protocol)}
}

// compose makes the whole stream, beginning in an empty batch.
func (c *composer) compose(first *batch) error {
	c.batch = first
	if err := c.begin(); err != nil {
		return err
	}
	if err := c.survey(); err != nil {
		return err
	}
	if err := c.dirs.each(c.makeDir); err != nil {
		return err
	}
	if err := c.files(); err != nil {
		return err
	}
	for at := range c.dirs.inos {
		if err := c.finishDir(at); err != nil {
			return err
		}
	}
	c.command = stream.Command{Kind: stream.End}
	script, err := stream.Append(c.batch.script, c.o.Protocol, &c.command)
	if err != nil {
		return err
	}
	c.batch.size += len(script) - len(c.batch.script)
	c.batch.script, c.batch.last = script, true
	_, err = c.deliver(c.batch)
	return err
}

// begin puts in the stream's header and its first command. The identity is the
// kernel's choice: what the subvolume was received as, or else its own.
func (c *composer) begin() error {
	info := c.tree.info
	c.uuid, c.transid = stream.UUID(info.UUID), info.Ctransid
	if !info.ReceivedUUID.IsZero() {
		c.uuid = stream.UUID(info.ReceivedUUID)
	}
	name := info.Name
	if name == "" {
		name = filepath.Base(c.tree.name)
	}
	c.batch.script = stream.AppendHeader(c.batch.script, c.o.Protocol)
	c.batch.size = len(c.batch.script)
	c.command = stream.Command{Kind: stream.Subvol, Path: []byte(name), UUID: c.uuid, Transid: c.transid}
	return c.put(&c.command)
}

// makeDir puts in the command that makes a directory.
func (c *composer) makeDir(at int) error {
	path, err := c.dirs.path(c.file.path[:0], at)
	if err != nil {
		return err
	}
	c.file.path = path
	c.command = stream.Command{Kind: stream.MkDir, Path: path, Ino: c.dirs.inos[at]}
	return c.put(&c.command)
}

// finishDir puts in everything else about a directory.
func (c *composer) finishDir(at int) error {
	path, err := c.dirs.path(c.file.path[:0], at)
	if err != nil {
		return err
	}
	c.file.begin(c.dirs.inos[at], path)
	f := &c.file
	f.named = true
	for it, err := range c.tree.single(f.ino, btrfs.InodeItem, btrfs.XattrItem) {
		if err != nil {
			return f.wrap(err)
		}
		switch it.Kind {
		case btrfs.InodeItem:
			if f.inode, err = btrfs.ParseInode(it.Data); err == nil && f.inode.Mode&typeMask != typeDir {
				err = fmt.Errorf("it was a directory, and is of mode %o now", f.inode.Mode)
			}
		case btrfs.XattrItem:
			err = c.xattrs(it.Data)
		}
		if err != nil {
			return f.wrap(err)
		}
	}
	return f.wrap(c.finish())
}

// directory makes dir the directory with the given inode number.
func (c *composer) directory(ino uint64) error {
	at, ok := c.dirs.find(ino)
	if !ok {
		return fmt.Errorf("it is in directory %d, which is not there", ino)
	}
	if at == c.dir {
		return nil
	}
	path, err := c.dirs.path(c.dirPath[:0], at)
	if err != nil {
		c.dir = 0
		c.dirPath = c.dirPath[:0]
		return err
	}
	if at != 0 {
		path = append(path, '/')
	}
	c.dir, c.dirPath = at, path
	return nil
}

// inDirectory appends the path of what has the name in a directory.
func (c *composer) inDirectory(dst []byte, ino uint64, name []byte) ([]byte, error) {
	if !usable(name) {
		return dst, fmt.Errorf("%q is no name", name)
	}
	if err := c.directory(ino); err != nil {
		return dst, err
	}
	if len(c.dirPath)+len(name) > maxPath {
		return dst, errPath
	}
	return append(append(dst, c.dirPath...), name...), nil
}
