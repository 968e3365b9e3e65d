package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/stream"
)

// recordXattr is the attribute of a checkpoint's root directory that says what
// the checkpoint is. Only who may do anything can set it.
const recordXattr = "trusted.buttersink.checkpoint"

// record is all that a receiver knows at a checkpoint besides the tree.
type record struct {
	name     string // of the snapshot that is being made
	rootTime *[2]unix.Timespec
	state    []byte // of the stream's reader

	mark     stream.Mark     // from state
	identity stream.Identity // from state
}

// What a record consists of, integers in little endian: recordMagic with the
// number of the format; a byte that is 1 if the root's times are known, and
// these, atime and mtime, as seconds and nanoseconds; then, each after its length
// in four bytes, name and state; and the CRC-32C of all that.
const recordMagic = "buttersink checkpoint 1\n"

const (
	recordTimes = 1 + 4*8
	maxRecord   = 64 << 10 // as long as an attribute can be
)

var recordTable = crc32.MakeTable(crc32.Castagnoli)

func (c *record) encode() []byte {
	b := []byte(recordMagic)
	times := [recordTimes]byte{}
	if c.rootTime != nil {
		times[0] = 1
		for i, t := range c.rootTime {
			binary.LittleEndian.PutUint64(times[1+16*i:], uint64(t.Sec))
			binary.LittleEndian.PutUint64(times[9+16*i:], uint64(t.Nsec))
		}
	}
	b = append(b, times[:]...)
	for _, part := range [][]byte{[]byte(c.name), c.state} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, recordTable))
}

var errRecord = errors.New("its record cannot be read")

// decodeRecord reads what encode wrote.
func decodeRecord(b []byte) (*record, error) {
	body, ok := bytes.CutPrefix(b, []byte(recordMagic))
	if !ok {
		return nil, fmt.Errorf("%w: it is of another format", errRecord)
	}
	if len(body) < recordTimes+4 || crc32.Checksum(b[:len(b)-4], recordTable) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("%w: it is damaged", errRecord)
	}
	body = body[:len(body)-4]
	c := &record{}
	if body[0] == 1 {
		c.rootTime = &[2]unix.Timespec{}
		for i := range c.rootTime {
			c.rootTime[i] = unix.Timespec{
				Sec:  int64(binary.LittleEndian.Uint64(body[1+16*i:])),
				Nsec: int64(binary.LittleEndian.Uint64(body[9+16*i:])),
			}
		}
	}
	body = body[recordTimes:]
	var parts [2][]byte
	for i := range parts {
		if len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4) {
			return nil, fmt.Errorf("%w: it makes no sense", errRecord)
		}
		n := int(binary.LittleEndian.Uint32(body))
		parts[i], body = body[4:4+n], body[4+n:]
	}
	c.name, c.state = string(parts[0]), bytes.Clone(parts[1])
	r, err := stream.Continue(eof{}, c.state)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	c.mark = r.Mark()
	if c.identity, err = r.Identity(); err != nil || len(body) > 0 || checkName(c.name) != nil {
		return nil, fmt.Errorf("%w: it makes no sense", errRecord)
	}
	return c, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
