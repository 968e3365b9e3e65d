package btrfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"unsafe"
)

// Numbers of trees, from linux/btrfs_tree.h. currentTree is that of the
// subvolume in which the searched file is.
const (
	currentTree = 0
	rootTree    = 1
	quotaTree   = 8
	uuidTree    = 9
)

// Types of items.
const (
	inodeItemType    = 1
	inodeRefType     = 12
	inodeExtrefType  = 13
	xattrItemType    = 24
	extentDataType   = 108
	rootItemType     = 132
	rootBackrefType  = 144
	qgroupStatusType = 240
	qgroupInfoType   = 242
	uuidOwnType      = 251
	uuidReceivedType = 252
)

const (
	firstInode = 256                  // of a subvolume: its root directory; also the first subvolume
	lastInode  = math.MaxUint64 - 255 // BTRFS_LAST_FREE_OBJECTID
)

// key is where an item stands in a tree. Trees are sorted by key.
type key struct {
	object uint64
	kind   uint8
	offset uint64
}

// next returns the key after k, and false after the last of all.
func (k key) next() (key, bool) {
	switch {
	case k.offset != math.MaxUint64:
		k.offset++
	case k.kind != math.MaxUint8:
		k.kind, k.offset = k.kind+1, 0
	case k.object != math.MaxUint64:
		k = key{object: k.object + 1}
	default:
		return k, false
	}
	return k, true
}

// item is one item of a tree. transid is the transaction that last wrote its
// leaf, for whatever reason. data is valid until the search goes on.
type item struct {
	transid uint64
	key
	data []byte
}

// span is a part of a tree: all items from first to last, in leaves written in
// transaction since or later.
type span struct {
	tree        uint64
	first, last key
	since       uint64
}

// wholeSubvolume is all that a subvolume consists of.
func wholeSubvolume(since uint64) span {
	return span{
		tree:  currentTree,
		first: key{object: firstInode},
		last:  key{object: lastInode, kind: math.MaxUint8, offset: math.MaxUint64},
		since: since,
	}
}

// ofKind is all items of one kind that belong to one object.
func ofKind(tree, object uint64, kind uint8) span {
	return span{
		tree:  tree,
		first: key{object: object, kind: kind},
		last:  key{object: object, kind: kind, offset: math.MaxUint64},
	}
}

const (
	searchArgsSize   = int(unsafe.Sizeof(searchArgs{}))
	searchHeaderSize = 32
	// searchBuffer has room for the largest item with its header: a node has
	// 64 KiB at most, of which its own header takes more.
	searchBuffer = 64 << 10
)

// search gives the items of s in the order of their keys, found through f,
// which is any file of the file system. An error ends it.
//
// Items of other kinds and objects lie between first and last and are given as
// well: the range is one of keys, not of their parts.
func search(f *os.File, s span) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		searchIn(f, s, make([]byte, searchArgsSize+searchBuffer))(yield)
	}
}

// searchIn is search with a buffer of at least searchArgsSize+searchBuffer.
func searchIn(f *os.File, s span, buffer []byte) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for first, more := s.first, true; more; {
			count, err := searchOnce(f, s, first, buffer)
			if err != nil {
				yield(item{}, err)
				return
			}
			if count == 0 {
				return
			}
			var last key
			for it, err := range foundItems(buffer[searchArgsSize:], count) {
				if err != nil {
					yield(item{}, err)
					return
				}
				if !yield(it, nil) {
					return
				}
				last = it.key
			}
			first, more = last.next()
		}
	}
}

// searchOnce fills buffer with what is found of s from first on, and returns
// how many items that are.
func searchOnce(f *os.File, s span, first key, buffer []byte) (uint32, error) {
	return searchFor(f, s, first, math.MaxUint32, buffer)
}

// searchFor is searchOnce for so many items at most.
func searchFor(f *os.File, s span, first key, most uint32, buffer []byte) (uint32, error) {
	// The buffer comes from the heap and is larger than a page: it is aligned
	// for the struct.
	args := (*searchArgs)(unsafe.Pointer(unsafe.SliceData(buffer)))
	*args = searchArgs{
		key: searchKey{
			tree:      s.tree,
			minObject: first.object, maxObject: s.last.object,
			minType: uint32(first.kind), maxType: uint32(s.last.kind),
			minOffset: first.offset, maxOffset: s.last.offset,
			minTransid: s.since, maxTransid: math.MaxUint64,
			items: most,
		},
		size: uint64(len(buffer) - searchArgsSize),
	}
	if err := request(f, iocTreeSearchV2, unsafe.Pointer(args)); err != nil {
		return 0, err
	}
	return args.key.items, nil
}

var errSearchResult = errors.New("the kernel's answer to a tree search cannot be read")

// foundItems reads the count items that a search put into found.
func foundItems(found []byte, count uint32) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for range count {
			if len(found) < searchHeaderSize {
				yield(item{}, errSearchResult)
				return
			}
			// struct btrfs_ioctl_search_header, in the byte order of the machine.
			order := binary.NativeEndian
			it := item{
				transid: order.Uint64(found),
				key:     key{object: order.Uint64(found[8:]), offset: order.Uint64(found[16:])},
			}
			kind, length := order.Uint32(found[24:]), order.Uint32(found[28:])
			found = found[searchHeaderSize:]
			if kind > math.MaxUint8 || uint64(length) > uint64(len(found)) {
				yield(item{}, errSearchResult)
				return
			}
			it.kind, it.data, found = uint8(kind), found[:length:length], found[length:]
			if !yield(it, nil) {
				return
			}
		}
	}
}

// searching names what a search was for in its error.
func searching(op string, err error) error {
	return refused(fmt.Sprintf("searching %s", op), capSysAdmin, err)
}
