package dir

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// An unfinished upload is a folder in Folder, named by 32 hexadecimal digits:
//
//	upload.json   what it is (description)
//	data          the parts, each where it belongs in the object
//	parts         what parts there are (record), a line each, the last one counts
//
// Nothing of it is synchronised before Complete. Instead everything has a checksum
// and is compared when an upload is carried on: what a power cut has left half on
// the disk is not there, and costs storing it again.
const (
	describedIn = "upload.json"
	dataIn      = "data"
	recordsIn   = "parts"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(text string) uint32 { return crc32.Checksum([]byte(text), castagnoli) }

// description says what an upload is.
type description struct {
	Version  int       `json:"version"`
	Key      string    `json:"key"`
	PartSize int64     `json:"part_size"`
	Begun    time.Time `json:"begun"`
	Check    uint32    `json:"check"` // CRC32C of the others
}

const descriptionVersion = 1

// longestDescription is what a description may have, in bytes.
const longestDescription = 64 << 10

func (d description) check() uint32 {
	return sum(fmt.Sprintf("%d %d %d %s", d.Version, d.PartSize, d.Begun.UnixNano(), d.Key))
}

func (d description) encode() ([]byte, error) {
	d.Check = d.check()
	raw, err := json.Marshal(d)
	return append(raw, '\n'), err
}

// parseDescription reads what encode wrote.
func parseDescription(raw []byte) (description, error) {
	var d description
	if len(raw) > longestDescription {
		return d, errors.New("it is too long")
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, err
	}
	switch {
	case d.Version != descriptionVersion:
		return d, fmt.Errorf("it has version %d, and this program knows %d", d.Version, descriptionVersion)
	case d.Check != d.check():
		return d, errors.New("it is damaged")
	case d.PartSize < 1:
		return d, errors.New("it has no length of parts")
	}
	return d, nil
}

// record says that a part is stored, or, without a tag, that it is not any more.
type record struct {
	archive.Part
	CRC uint32 // CRC32C of the data
}

// A line is "part NUMBER SIZE MD5 CRC32C CHECK", the last being the CRC32C of what
// is before it, with the blank.
func (r record) String() string {
	text := fmt.Sprintf("part %d %d %s %08x ", r.Number, r.Size, r.tag(), r.CRC)
	return fmt.Sprintf("%s%08x", text, sum(text))
}

func (r record) tag() string {
	if r.Tag == "" {
		return "-"
	}
	return r.Tag
}

// parseRecord reads a line. What is not exactly what String gives is no record.
func parseRecord(line string) (record, bool) {
	var r record
	var check uint32
	n, err := fmt.Sscanf(line, "part %d %d %s %x %x", &r.Number, &r.Size, &r.Tag, &r.CRC, &check)
	if err != nil || n != 5 {
		return record{}, false
	}
	if r.Tag == "-" {
		r.Tag = ""
	}
	return r, r.String() == line && r.Number >= 1 && r.Number <= maxParts && r.Size >= 0
}

// append writes a record behind the others. A line that was torn before it does no
// harm to it.
func (r record) append(f *os.File) error {
	_, err := f.WriteString("\n" + r.String() + "\n")
	return err
}

// readRecords returns what parts there are, and how many lines are no records.
func readRecords(in io.Reader) (map[int]record, int, error) {
	all, bad := map[int]record{}, 0
	lines := bufio.NewReaderSize(in, 4096)
	for {
		line, long, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return all, bad, nil
		}
		if err != nil {
			return nil, bad, err
		}
		if len(line) == 0 && !long {
			continue
		}
		r, ok := parseRecord(string(line))
		switch {
		case long || !ok:
			bad++
		case r.Tag == "":
			delete(all, r.Number)
		default:
			all[r.Number] = r
		}
	}
}

// same reports whether the data of a part are what a record says.
func (r record) same(data io.ReaderAt, partSize int64) (bool, error) {
	sum := crc32.New(castagnoli)
	n, err := io.CopyBuffer(sum, io.NewSectionReader(data, int64(r.Number-1)*partSize, r.Size), make([]byte, step))
	return err == nil && n == r.Size && sum.Sum32() == r.CRC, err
}

// startWriting has the kernel write a range of a file, and waits for it: the disk
// works while the next part is being made, and says in time what is wrong.
func startWriting(f *os.File, offset, length int64) error {
	const how = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if length == 0 {
		return nil // which would mean up to the end
	}
	err := retried(func() error { return unix.SyncFileRange(int(f.Fd()), offset, length, how) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
