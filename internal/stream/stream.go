// Package stream is a pure codec for btrfs send streams, versions 1, 2 and 3.
// It reads, checks, writes, rewrites, measures and prints them. It opens no
// file, makes no system call and knows nothing of what a command does to a
// directory: that is for the room that carries streams out.
//
// The format is that of the Linux kernel (fs/btrfs/send.h): a header of 17
// bytes, then commands of a 10-byte head and a list of attributes, each
// command with its own CRC-32C, the last one END.
//
// # What may be relied on
//
//   - A command that [Reader.Next] or [Reader.NextRun] returns has a valid
//     checksum and exactly the attributes of its kind with their exact widths.
//   - Its paths are relative, inside the snapshot, at most 4095 bytes long, and
//     without NUL bytes, empty, "." or ".." elements. The empty path, which is
//     the snapshot's root, occurs only in commands that change metadata.
//   - File offsets, sizes and the lengths of clones fit in an int64, and so do
//     their sums where a command has both.
//   - The first command, and only the first, is SUBVOL or SNAPSHOT.
//   - io.EOF follows a whole stream with nothing behind its END. All other
//     endings are an [*Error], which is a verdict on the stream and names the
//     place, or a [*ReadError], which is none. Every error is sticky.
//
// A stream whose beginning has been carried out before can be read on from
// there: [Reader.Mark] names a place, [Reader.State] is what another process needs
// to [Continue] at it.
//
// A Reader holds a buffer of 32 KiB, or of 1 MiB for streams that are longer
// than that, and allocates nothing per command. A Writer holds one command.
//
//	r := stream.NewReader(f)
//	for {
//		c, err := r.Next()
//		if err == io.EOF {
//			break
//		} else if err != nil {
//			return err
//		}
//		fmt.Printf("%s %q\n", c.Kind, c.Path)
//	}
package stream

// UUID is 16 bytes in the order in which btrfs stores them.
type UUID = [16]byte

// Time is a time as streams carry it: seconds since 1970, negative before, and
// nanoseconds after them.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Command is one command of a stream. Of its fields only those are set whose
// attribute the command carries; [Command.Has] tells. A command that a Reader
// returned is valid until the next call on it, and so are its byte slices.
type Command struct {
	Kind   Kind
	Number int64  // 1 is the first command
	Offset int64  // of the command's head in the stream
	Frame  []byte // the command as it stands: head and attributes

	Path, PathTo, PathLink []byte // of Link, PathLink is the existing file; of Symlink, the target
	XattrName, XattrData   []byte
	Data                   []byte // of EncodedWrite as the file system stores it
	UUID                   UUID   // of the snapshot
	Transid                uint64

	ClonePath             []byte // in the snapshot CloneUUID
	CloneUUID             UUID   // of Snapshot, the parent; of Clone, the snapshot to clone from
	CloneTransid          uint64
	CloneOffset, CloneLen uint64
	FileOffset, Size      uint64
	Ino, Mode, UID, GID   uint64
	Rdev                  uint64 // as the kernel's new_encode_dev packs it
	Atime, Mtime          Time
	Ctime, Otime          Time
	FallocateMode         uint32
	FileAttr              uint64
	UnencodedFileLen      uint64
	UnencodedLen          uint64
	UnencodedOffset       uint64
	Compression           uint32 // BTRFS_ENCODED_IO_COMPRESSION_*: 1 zlib, 2 zstd, 3 to 7 lzo
	Encryption            uint32
	VerityAlgorithm       uint8
	VerityBlockSize       uint32
	VeritySalt, VeritySig []byte

	has uint64 // bit n: attribute n is carried
}

// Has reports whether the command carries the attribute.
func (c *Command) Has(a Attr) bool { return a <= attrLast && c.has&(1<<a) != 0 }

// Identity is what the first command of a stream says about the snapshot that
// the stream makes, and about the one that it starts from.
type Identity struct {
	Path          string // a single name
	UUID          UUID
	Transid       uint64
	HasParent     bool // the stream is incremental; else the next two are zero
	Parent        UUID
	ParentTransid uint64
}

// Stats counts what a Reader has returned so far.
type Stats struct {
	Commands  int64
	Bytes     int64 // of the stream, header included
	DataBytes int64 // of file contents, as carried: compressed where the stream is
	Files     int64 // regular files made
	Dirs      int64 // directories made
	Clones    int64
}

func identityOf(c *Command) Identity {
	id := Identity{Path: string(c.Path), UUID: c.UUID, Transid: c.Transid}
	if c.Kind == Snapshot {
		id.HasParent, id.Parent, id.ParentTransid = true, c.CloneUUID, c.CloneTransid
	}
	return id
}
