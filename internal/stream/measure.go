package stream

import (
	"fmt"
	"io"
	"math"
)

// MeasureMetadata reads a stream that was sent without file data and returns
// the length that the same stream has with data. The kernel puts one command
// UPDATE_EXTENT in place of all WRITEs of an extent; how it cuts those is known
// for each version of the stream (fs/btrfs/send.c): 48 KiB in version 1, and
// 128 KiB from version 2 on where pages have 4 KiB.
//
// The result is exact for full streams, and for increments of version 2, whose
// data is not compressed. In an increment of version 1, where holes are sent as
// zeros, the kernel decides on other grounds whether a file needs a TRUNCATE
// when it leaves the zeros out: the result can be off by one such command, 26
// bytes and the path, for each file that has grown and has a new hole. For a
// stream that is sent compressed the result is that of the uncompressed one.
func MeasureMetadata(r *Reader) (int64, error) {
	var total int64
	for {
		c, err := r.Next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
		if c.Number == 1 {
			total = c.Offset
		}
		n := int64(len(c.Frame))
		if c.Kind == UpdateExtent {
			n = writesLen(r.Version(), len(c.Path), int64(c.Size))
		}
		if n < 0 || n > math.MaxInt64-total {
			return 0, r.fail(fmt.Errorf("%w: the stream's length is out of range", ErrMalformed))
		}
		total += n
	}
}

// MaxWrite returns how many bytes the kernel puts into one WRITE command.
func MaxWrite(version uint32) int {
	if version >= 2 {
		return 128 << 10
	}
	return 48 << 10
}

// writesLen returns the length of the WRITE commands that carry size bytes of
// a file, negative if it does not fit.
func writesLen(version uint32, path int, size int64) int64 {
	chunk, dataHead := int64(MaxWrite(version)), int64(4)
	if version >= 2 {
		dataHead = 2
	}
	n := size / chunk
	if size%chunk != 0 {
		n++
	}
	each := int64(headSize+4+path+4+8) + dataHead
	if n > (math.MaxInt64-size)/each {
		return -1
	}
	return size + n*each
}

// Verify reads the stream to its end. It returns nil for one that is whole and
// has nothing wrong in it, an [*Error] for one that is bad, and a [*ReadError]
// where it could not tell. The counts are of what was good before an error;
// the identity is zero if the first command was not good.
func Verify(r io.Reader) (Stats, Identity, error) {
	in := NewReader(r)
	for {
		if _, err := in.NextRun(); err == io.EOF {
			return in.stats, in.identity, nil
		} else if err != nil {
			return in.stats, in.identity, err
		}
	}
}
