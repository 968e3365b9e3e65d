package btrfs

import (
	"context"
	"fmt"
	"os"
)

// An Estimate is how long a send stream is likely to be, in bytes.
type Estimate struct {
	// Plain is for data as it reads: protocol 1, or 2 without compressed data.
	Plain int64
	// Compressed is for protocol 2 with compressed extents as they are stored.
	Compressed int64
	// Inodes is how many are new or changed.
	Inodes int64
}

// Sizes of commands, by what they consist of.
const (
	commandHead  = 10
	attrHead     = 4
	estimatePath = 45 // a path of middling length
	withPath     = commandHead + attrHead + estimatePath
	temporary    = 16 // o257-123-0, the name under which everything begins

	// A new inode: made under a temporary name, renamed, chown, chmod, utimes,
	// and utimes of its directory.
	newInode = commandHead + 2*attrHead + temporary + 8 +
		withPath + attrHead + temporary +
		withPath + 2*(attrHead+8) +
		withPath + attrHead + 8 +
		2*(withPath+3*(attrHead+12))
	// A changed inode: utimes at least.
	changedInode = withPath + 3*(attrHead+12)
	// A write, a clone, an encoded write, without data.
	writeHead   = withPath + attrHead + 8 + attrHead
	cloneHead   = withPath + 4*(attrHead+8) + attrHead + 16 + attrHead + estimatePath
	encodedHead = writeHead + 3*(attrHead+8) + 2*(attrHead+4)

	streamEnds     = streamHeaderSize + commandHead + 100
	plainChunk     = 48 << 10
	protocol2Chunk = 128 << 10
)

// estimateExtents bounds how many extents EstimateSend keeps in mind to count
// shared ones once.
const estimateExtents = 2 << 20

// EstimateSend estimates the stream that [Send] would make of subvol, on top of
// parent or, if that is nil, in full. It reads the metadata of subvol, or the
// parts of it that are younger than the parent; all metadata of both, where
// subvol has not developed out of parent.
//
// It is right within about 1 % for full streams and for compressed ones.
// Increments without compression can be much longer than said, where the kernel
// sends holes as zeros or does not recognise a clone. What is removed does not
// count. An exact answer takes a metadata-only send.
//
// It holds up to 2 million extents in mind (some 50 MiB), beyond which extents
// that files share are counted each time; and as many of the parent's, with its
// inodes, where it reads all of both. It ends with ctx.
func EstimateSend(ctx context.Context, subvol, parent *os.File) (Estimate, error) {
	info, err := Info(subvol)
	if err != nil {
		return Estimate{}, err
	}
	e := estimator{shared: make(map[uint64]struct{})}
	if parent != nil {
		old, err := Info(parent)
		if err != nil {
			return Estimate{}, err
		}
		var ok bool
		if e.bound, ok, err = commonUntil(subvol, info, old); err != nil {
			return Estimate{}, err
		}
		if !ok {
			if e.old, err = read(ctx, parent); err != nil {
				return Estimate{}, err
			}
		}
	}
	since := uint64(0)
	if e.bound > 0 {
		since = e.bound + 1
	}
	for it, err := range search(subvol, wholeSubvolume(since)) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = e.add(it)
		}
		if err != nil {
			return Estimate{}, searching(fmt.Sprintf("what to send of %s", subvol.Name()), err)
		}
	}
	e.Plain += streamEnds
	e.Compressed += streamEnds
	return e.Estimate, nil
}

// content is what a subvolume consists of: its inodes, with the transaction that
// last changed each, and its extents.
type content struct {
	inodes  map[uint64]uint64
	extents map[uint64]struct{}
}

// read reads the content of a subvolume, as much of it as EstimateSend may hold.
func read(ctx context.Context, subvol *os.File) (*content, error) {
	c := &content{inodes: map[uint64]uint64{}, extents: map[uint64]struct{}{}}
	for it, err := range search(subvol, wholeSubvolume(0)) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, searching(fmt.Sprintf("what %s holds", subvol.Name()), err)
		}
		switch {
		case it.kind == inodeItemType && len(c.inodes) < estimateExtents:
			inode, err := inodeItem(it.data)
			if err != nil {
				return nil, err
			}
			c.inodes[it.object] = inode.transid
		case it.kind == extentDataType && len(c.extents) < estimateExtents:
			x, err := extentItem(it.data)
			if err != nil {
				return nil, err
			}
			if x.kind == extentRegular && x.start != 0 {
				c.extents[x.start+x.offset] = struct{}{}
			}
		}
	}
	return c, nil
}

// estimator adds up an Estimate, item by item.
type estimator struct {
	Estimate
	bound  uint64   // transaction up to which all is known to the receiver; 0 in full
	old    *content // of the parent, where bound says nothing about it; nil else
	shared map[uint64]struct{}

	ino     uint64 // of the last inode item
	size    uint64 // of that file
	changed bool   // that inode is to be sent
}

func (e *estimator) add(it item) error {
	switch it.kind {
	case inodeItemType:
		inode, err := inodeItem(it.data)
		if err != nil {
			return err
		}
		e.ino, e.size = it.object, inode.size
		known := inode.generation <= e.bound
		e.changed = inode.transid > e.bound
		if e.old != nil {
			var before uint64
			before, known = e.old.inodes[it.object]
			e.changed = !known || before != inode.transid
		}
		switch {
		case !e.changed:
		case !known:
			e.both(newInode)
			e.Inodes++
		default:
			e.both(changedInode)
			e.Inodes++
		}
	case xattrItemType:
		if e.changed && e.ino == it.object {
			e.both(withPath + 2*attrHead + int64(len(it.data)))
		}
	case extentDataType:
		x, err := extentItem(it.data)
		if err != nil {
			return err
		}
		e.extent(it, x)
	}
	return nil
}

func (e *estimator) both(n int64) {
	e.Plain += n
	e.Compressed += n
}

func (e *estimator) extent(it item, x extent) {
	if x.generation <= e.bound || x.kind == extentPrealloc || x.kind == extentRegular && x.start == 0 {
		return
	}
	if e.old != nil {
		_, there := e.old.extents[x.start+x.offset]
		if x.kind == extentRegular && there || x.kind == extentInline && !e.changed {
			return
		}
	}
	length := x.length
	if it.object == e.ino { // blocks reach beyond the end of the file
		length = min(length, e.size-min(e.size, it.offset))
	}
	if x.kind == extentRegular {
		if _, again := e.shared[x.start+x.offset]; again {
			e.both(cloneHead)
			return
		}
		if len(e.shared) < estimateExtents {
			e.shared[x.start+x.offset] = struct{}{}
		}
	}
	e.Plain += plainWrite(length, plainChunk)
	if x.compressed && x.stored <= x.length {
		e.Compressed += int64(x.stored) + encodedHead
	} else {
		e.Compressed += plainWrite(length, protocol2Chunk)
	}
}

// plainWrite is how long the commands are that write length bytes.
func plainWrite(length uint64, chunk uint64) int64 {
	return int64(length) + int64((length+chunk-1)/chunk)*writeHead
}
