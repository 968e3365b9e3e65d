package replay

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
)

// The kinds of compression of an encoded extent (uapi linux/btrfs.h,
// BTRFS_ENCODED_IO_COMPRESSION_*). LZO comes cut to the sector size of the file
// system that it was compressed on: 4 KiB is compressLZO, 64 KiB the last.
const (
	compressNone = 0
	compressZlib = 1
	compressZstd = 2
	compressLZO  = 3
	compressLast = 7
)

// maxSector is the largest sector size.
const maxSector = 64 << 10

// maxUnencoded bounds what one extent decompresses to. The kernel's own limit
// is 128 KiB (BTRFS_MAX_UNCOMPRESSED).
const maxUnencoded = 1 << 20

var errCorrupt = errors.New("the compressed data are corrupt")

// decoder decompresses extents. It keeps its buffers and is to be closed.
type decoder struct {
	plain  []byte
	zlib   io.ReadCloser // also a zlib.Resetter
	zstd   *zstd.Decoder
	source bytes.Reader
}

// decode returns the first n bytes that data decompress to, filled up with
// zeros. Like the kernel it does not mind more, or less, than n: an extent may
// have been compressed up to the end of a sector, or only up to that of the file.
// The result is valid until the next call.
func (d *decoder) decode(kind uint32, data []byte, n int) ([]byte, error) {
	if n > maxUnencoded {
		return nil, fmt.Errorf("%d bytes in one extent: %w", n, errCorrupt)
	}
	if cap(d.plain) < n+maxSector {
		d.plain = make([]byte, max(n, 128<<10)+maxSector)
	}
	out := d.plain[:n]
	var got int
	var err error
	switch {
	case kind == compressNone:
		got = copy(out, data)
	case kind == compressZlib:
		got, err = d.inflate(out, data)
	case kind == compressZstd:
		got, err = d.unzstd(out, data)
	case kind >= compressLZO && kind <= compressLast:
		got, err = unlzo(out[:n+maxSector], data, n, 4096<<(kind-compressLZO))
	default:
		return nil, fmt.Errorf("compression %d is not known", kind)
	}
	if err != nil {
		return nil, err
	}
	clear(out[min(got, n):])
	return out, nil
}

func (d *decoder) inflate(out, data []byte) (int, error) {
	d.source.Reset(data)
	var err error
	if d.zlib == nil {
		d.zlib, err = zlib.NewReader(&d.source)
	} else {
		err = d.zlib.(zlib.Resetter).Reset(&d.source, nil)
	}
	if err != nil {
		d.zlib = nil
		return 0, fmt.Errorf("zlib: %w: %w", errCorrupt, err)
	}
	// ReadFull would not tell the end of the data from data that are cut short.
	got := 0
	for got < len(out) {
		n, err := d.zlib.Read(out[got:])
		got += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("zlib: %w: %w", errCorrupt, err)
		}
	}
	return got, nil
}

func (d *decoder) unzstd(out, data []byte) (int, error) {
	frame, err := firstFrame(data)
	if err != nil {
		return 0, err
	}
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxUnencoded), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return 0, fmt.Errorf("zstd: %w", err)
		}
	}
	plain, err := d.zstd.DecodeAll(frame, out[:0])
	if err != nil {
		return 0, fmt.Errorf("zstd: %w: %w", errCorrupt, err)
	}
	// The decoder takes a buffer of its own if out has no room.
	return copy(out, plain), nil
}

// firstFrame cuts data at the end of the first zstd frame (RFC 8878, 3.1.1).
// The kernel fills the rest of the last sector with zeros, which are no frame.
func firstFrame(data []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(data); err != nil || h.Skippable {
		return nil, fmt.Errorf("zstd: %w", errCorrupt)
	}
	at := h.HeaderSize
	for {
		if len(data)-at < 3 {
			return nil, fmt.Errorf("zstd: %w", errCorrupt)
		}
		block := uint32(data[at]) | uint32(data[at+1])<<8 | uint32(data[at+2])<<16
		size := int(block >> 3)
		if block>>1&3 == 1 {
			size = 1 // a run of one byte
		}
		at += 3 + size
		if block&1 != 0 {
			break
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	if at > len(data) {
		return nil, fmt.Errorf("zstd: %w", errCorrupt)
	}
	return data[:at], nil
}

// unlzo undoes what the kernel's fs/btrfs/lzo.c writes: the length of all, then
// segments, each of them its length and what at most one sector compresses to,
// as LZO1X. A length never crosses the end of a sector of the compressed data;
// if there is no room for one, it stands at the start of the next. It stops
// after n bytes, and needs room for one sector more.
func unlzo(out, data []byte, n, sector int) (int, error) {
	const width = 4
	if len(data) < width {
		return 0, fmt.Errorf("lzo: %w", errCorrupt)
	}
	total := int(binary.LittleEndian.Uint32(data))
	if total < width || total > len(data) {
		return 0, fmt.Errorf("lzo: %w", errCorrupt)
	}
	got, at := 0, width
	for at < total && got < n {
		if left := sector - at%sector; left < width {
			at += left
		}
		if total-at < width {
			return 0, fmt.Errorf("lzo: %w", errCorrupt)
		}
		size := int(binary.LittleEndian.Uint32(data[at:]))
		at += width
		if size > total-at {
			return 0, fmt.Errorf("lzo: %w", errCorrupt)
		}
		plain, err := lzo.Decompress(data[at:at+size], out[got:got+sector])
		if err != nil {
			return 0, fmt.Errorf("lzo: %w: %w", errCorrupt, err)
		}
		got += plain
		at += size
		if plain < sector {
			break
		}
	}
	return got, nil
}

// close frees the decoders; the next use makes new ones.
func (d *decoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
		d.zstd = nil
	}
}
