package stream

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Dump prints the stream's commands, one line each, as `btrfs receive --dump`
// of btrfs-progs 6.2 prints them with the time zone UTC. Paths are put below
// "./" and the snapshot's name, and escaped in the manner of C. What was good
// before an error is printed.
//
// It differs where btrfs-progs drops facts or breaks the line: the sources of
// clones and the names and data of extended attributes are escaped like paths
// and printed to their ends, where btrfs-progs prints them raw and the data up
// to its first NUL; file attributes are hexadecimal, where btrfs-progs prints
// "0x" and a decimal number; paths that exceed PATH_MAX together with the
// snapshot's name are printed, where btrfs-progs gives up; and so are commands
// of version 3, which it refuses.
//
// Like btrfs-progs, it prints no END, and no inode numbers, nanoseconds or
// creation times, nor from which snapshot a clone is taken: its source is
// printed as if it lay in this one. DumpJSON has all that.
func Dump(w io.Writer, r *Reader) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	subvol := []byte("./")
	for {
		c, err := r.Next()
		if err != nil {
			return finishDump(out, err)
		}
		if c.Number == 1 {
			subvol = append(subvol, c.Path...)
		}
		if c.Kind == End {
			continue
		}
		line = append(appendDump(line[:0], subvol, c), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("writing the dump: %w", err)
		}
	}
}

// finishDump flushes out when a stream has ended as err says.
func finishDump(out *bufio.Writer, err error) error {
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the dump: %w", err)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// appendDump appends the line of one command.
func appendDump(b, subvol []byte, c *Command) []byte {
	b = fmt.Appendf(b, "%-16s", c.Kind)
	begin := len(b)
	b = appendEscaped(b, subvol)
	if c.Kind != Subvol && c.Kind != Snapshot {
		b = appendEscaped(append(b, '/'), c.Path)
	}
	switch c.Kind {
	case MkFile, MkDir, MkFifo, MkSock, Unlink, RmDir:
		return b
	}
	for pad := true; pad; pad = len(b)-begin < 32 {
		b = append(b, ' ')
	}
	switch c.Kind {
	case Subvol:
		return fmt.Appendf(b, "uuid=%s transid=%d", uuidText(c.UUID), c.Transid)
	case Snapshot:
		return fmt.Appendf(b, "uuid=%s transid=%d parent_uuid=%s parent_transid=%d",
			uuidText(c.UUID), c.Transid, uuidText(c.CloneUUID), c.CloneTransid)
	case MkNod:
		return fmt.Appendf(b, "mode=%o dev=0x%x", c.Mode, c.Rdev)
	case Symlink, Link:
		return appendEscaped(append(b, "dest="...), c.PathLink)
	case Rename:
		b = appendEscaped(append(b, "dest="...), subvol)
		return appendEscaped(append(b, '/'), c.PathTo)
	case Write:
		return fmt.Appendf(b, "offset=%d len=%d", c.FileOffset, len(c.Data))
	case UpdateExtent:
		return fmt.Appendf(b, "offset=%d len=%d", c.FileOffset, c.Size)
	case Clone:
		b = fmt.Appendf(b, "offset=%d len=%d from=", c.FileOffset, c.CloneLen)
		b = appendEscaped(append(appendEscaped(b, subvol), '/'), c.ClonePath)
		return fmt.Appendf(b, " clone_offset=%d", c.CloneOffset)
	case SetXattr:
		b = appendEscaped(append(b, "name="...), c.XattrName)
		b = appendEscaped(append(b, " data="...), c.XattrData)
		return fmt.Appendf(b, " len=%d", len(c.XattrData))
	case RemoveXattr:
		return appendEscaped(append(b, "name="...), c.XattrName)
	case Truncate:
		return fmt.Appendf(b, "size=%d", c.Size)
	case Chmod:
		return fmt.Appendf(b, "mode=%o", c.Mode)
	case Chown:
		return fmt.Appendf(b, "gid=%d uid=%d", c.GID, c.UID)
	case Utimes:
		b = appendTime(append(b, "atime="...), c.Atime)
		b = appendTime(append(b, " mtime="...), c.Mtime)
		return appendTime(append(b, " ctime="...), c.Ctime)
	case Fallocate:
		return fmt.Appendf(b, "mode=%d offset=%d len=%d", c.FallocateMode, c.FileOffset, c.Size)
	case FileAttr:
		return fmt.Appendf(b, "fileattr=0x%x", c.FileAttr)
	case EncodedWrite:
		return fmt.Appendf(b, "offset=%d len=%d, unencoded_file_len=%d, unencoded_len=%d, "+
			"unencoded_offset=%d, compression=%d, encryption=%d",
			c.FileOffset, len(c.Data), c.UnencodedFileLen, c.UnencodedLen,
			c.UnencodedOffset, c.Compression, c.Encryption)
	case EnableVerity:
		return fmt.Appendf(b, "algorithm=%d block_size=%d salt_len=%d sig_len=%d",
			c.VerityAlgorithm, c.VerityBlockSize, len(c.VeritySalt), len(c.VeritySig))
	}
	return b
}

// appendEscaped appends text with everything escaped that could break a line,
// or a word of it.
func appendEscaped(b, text []byte) []byte {
	const named = "\a\b\x1b\f\n\r\t\v \\"
	const names = "abefnrtv \\"
	for _, c := range text {
		if c > ' ' && c < 0x7f && c != '\\' {
			b = append(b, c)
			continue
		}
		b = append(b, '\\')
		escaped := false
		for i := 0; i < len(named) && !escaped; i++ {
			if escaped = named[i] == c; escaped {
				b = append(b, names[i])
			}
		}
		if !escaped {
			b = append(b, '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

// maxYearSec is a time beyond which years are of no use to anyone, and package
// time is at its end.
const maxYearSec = 1 << 55

func appendTime(b []byte, t Time) []byte {
	if t.Sec > maxYearSec || t.Sec < -maxYearSec {
		return strconv.AppendInt(append(b, '@'), t.Sec, 10)
	}
	return time.Unix(t.Sec, 0).UTC().AppendFormat(b, "2006-01-02T15:04:05-0700")
}

func uuidText(u UUID) string {
	x := hex.EncodeToString(u[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
