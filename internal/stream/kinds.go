package stream

import "fmt"

// Kind is what a command does, as the stream numbers it (enum btrfs_send_cmd
// in fs/btrfs/send.h).
type Kind uint16

// The kinds. Fallocate, FileAttr and EncodedWrite came with version 2,
// EnableVerity with version 3.
const (
	Subvol Kind = iota + 1
	Snapshot
	MkFile
	MkDir
	MkNod
	MkFifo
	MkSock
	Symlink
	Rename
	Link
	Unlink
	RmDir
	SetXattr
	RemoveXattr
	Write
	Clone
	Truncate
	Chmod
	Chown
	Utimes
	End
	UpdateExtent
	Fallocate
	FileAttr
	EncodedWrite
	EnableVerity

	kindLast = EnableVerity
)

// String returns the name under which `btrfs receive --dump` prints the kind.
func (k Kind) String() string {
	if k == 0 || k > kindLast {
		return fmt.Sprintf("kind %d", uint16(k))
	}
	return kinds[k].name
}

// Attr is an attribute of a command, as the stream numbers it (enum in
// fs/btrfs/send.h).
type Attr uint16

// The attributes.
const (
	AttrUUID Attr = iota + 1
	AttrTransid
	AttrIno
	AttrSize
	AttrMode
	AttrUID
	AttrGID
	AttrRdev
	AttrCtime
	AttrMtime
	AttrAtime
	AttrOtime
	AttrXattrName
	AttrXattrData
	AttrPath
	AttrPathTo
	AttrPathLink
	AttrFileOffset
	AttrData
	AttrCloneUUID
	AttrCloneTransid
	AttrClonePath
	AttrCloneOffset
	AttrCloneLen
	AttrFallocateMode // version 2
	AttrFileAttr
	AttrUnencodedFileLen
	AttrUnencodedLen
	AttrUnencodedOffset
	AttrCompression
	AttrEncryption
	AttrVerityAlgorithm // version 3
	AttrVerityBlockSize
	AttrVeritySalt
	AttrVeritySig

	attrLast = AttrVeritySig
)

// String returns the attribute's name, "file_offset".
func (a Attr) String() string {
	if a == 0 || a > attrLast {
		return fmt.Sprintf("attribute %d", uint16(a))
	}
	return attrNames[a]
}

var attrNames = [attrLast + 1]string{
	AttrUUID: "uuid", AttrTransid: "transid", AttrIno: "ino", AttrSize: "size", AttrMode: "mode",
	AttrUID: "uid", AttrGID: "gid", AttrRdev: "rdev",
	AttrCtime: "ctime", AttrMtime: "mtime", AttrAtime: "atime", AttrOtime: "otime",
	AttrXattrName: "xattr_name", AttrXattrData: "xattr_data",
	AttrPath: "path", AttrPathTo: "path_to", AttrPathLink: "path_link",
	AttrFileOffset: "file_offset", AttrData: "data",
	AttrCloneUUID: "clone_uuid", AttrCloneTransid: "clone_transid", AttrClonePath: "clone_path",
	AttrCloneOffset: "clone_offset", AttrCloneLen: "clone_len",
	AttrFallocateMode: "fallocate_mode", AttrFileAttr: "fileattr",
	AttrUnencodedFileLen: "unencoded_file_len", AttrUnencodedLen: "unencoded_len",
	AttrUnencodedOffset: "unencoded_offset", AttrCompression: "compression", AttrEncryption: "encryption",
	AttrVerityAlgorithm: "verity_algorithm", AttrVerityBlockSize: "verity_block_size",
	AttrVeritySalt: "verity_salt", AttrVeritySig: "verity_sig",
}

// kinds holds what each kind carries, in the order in which the kernel writes
// it, so that a stream of the kernel's is written again byte for byte.
var kinds = [kindLast + 1]struct {
	name  string
	attrs []Attr
	root  bool // may concern the snapshot's root, whose path is empty
}{
	Subvol:      {"subvol", []Attr{AttrPath, AttrUUID, AttrTransid}, false},
	Snapshot:    {"snapshot", []Attr{AttrPath, AttrUUID, AttrTransid, AttrCloneUUID, AttrCloneTransid}, false},
	MkFile:      {"mkfile", []Attr{AttrPath, AttrIno}, false},
	MkDir:       {"mkdir", []Attr{AttrPath, AttrIno}, false},
	MkNod:       {"mknod", []Attr{AttrPath, AttrIno, AttrRdev, AttrMode}, false},
	MkFifo:      {"mkfifo", []Attr{AttrPath, AttrIno, AttrRdev, AttrMode}, false},
	MkSock:      {"mksock", []Attr{AttrPath, AttrIno, AttrRdev, AttrMode}, false},
	Symlink:     {"symlink", []Attr{AttrPath, AttrIno, AttrPathLink}, false},
	Rename:      {"rename", []Attr{AttrPath, AttrPathTo}, false},
	Link:        {"link", []Attr{AttrPath, AttrPathLink}, false},
	Unlink:      {"unlink", []Attr{AttrPath}, false},
	RmDir:       {"rmdir", []Attr{AttrPath}, false},
	SetXattr:    {"set_xattr", []Attr{AttrPath, AttrXattrName, AttrXattrData}, true},
	RemoveXattr: {"remove_xattr", []Attr{AttrPath, AttrXattrName}, true},
	Write:       {"write", []Attr{AttrPath, AttrFileOffset, AttrData}, false},
	Clone: {"clone", []Attr{
		AttrFileOffset, AttrCloneLen, AttrPath, AttrCloneUUID, AttrCloneTransid,
		AttrClonePath, AttrCloneOffset,
	}, false},
	Truncate:     {"truncate", []Attr{AttrPath, AttrSize}, false},
	Chmod:        {"chmod", []Attr{AttrPath, AttrMode}, true},
	Chown:        {"chown", []Attr{AttrPath, AttrUID, AttrGID}, true},
	Utimes:       {"utimes", []Attr{AttrPath, AttrAtime, AttrMtime, AttrCtime, AttrOtime}, true},
	End:          {"end", nil, false},
	UpdateExtent: {"update_extent", []Attr{AttrPath, AttrFileOffset, AttrSize}, false},
	Fallocate:    {"fallocate", []Attr{AttrPath, AttrFallocateMode, AttrFileOffset, AttrSize}, false},
	FileAttr:     {"fileattr", []Attr{AttrPath, AttrFileAttr}, true},
	EncodedWrite: {"encoded_write", []Attr{
		AttrPath, AttrFileOffset, AttrUnencodedFileLen, AttrUnencodedLen,
		AttrUnencodedOffset, AttrCompression, AttrEncryption, AttrData,
	}, false},
	EnableVerity: {"enable_verity", []Attr{
		AttrPath, AttrVerityAlgorithm, AttrVerityBlockSize,
		AttrVeritySalt, AttrVeritySig,
	}, false},
}

// optional reports whether a command of the kind may lack the attribute: the
// kernel leaves the encryption out for extents that lie inline.
func optional(k Kind, a Attr) bool { return k == EncodedWrite && a == AttrEncryption }

const lastVersion = 3

// since returns the first version of the format that has the attribute. The
// creation time has a number in version 1, but no command carries it.
func (a Attr) since() uint32 {
	switch {
	case a >= AttrVerityAlgorithm:
		return 3
	case a >= AttrFallocateMode, a == AttrOtime:
		return 2
	}
	return 1
}

// since returns the first version of the format that has the kind.
func (k Kind) since() uint32 {
	switch {
	case k >= EnableVerity:
		return 3
	case k >= Fallocate:
		return 2
	}
	return 1
}

// carried holds, for each version and kind, which attributes a command must
// and may carry: bit n stands for attribute n.
var carried = func() (t [lastVersion + 1][kindLast + 1]struct{ must, may uint64 }) {
	for v := range uint32(lastVersion + 1) {
		for k := range kinds {
			for _, a := range kinds[k].attrs {
				if a.since() > v {
					continue
				}
				t[v][k].may |= 1 << a
				if !optional(Kind(k), a) {
					t[v][k].must |= 1 << a
				}
			}
		}
	}
	return t
}()

// field returns a pointer to the command's field for the attribute.
func (c *Command) field(a Attr) any {
	switch a {
	case AttrUUID:
		return &c.UUID
	case AttrTransid:
		return &c.Transid
	case AttrIno:
		return &c.Ino
	case AttrSize:
		return &c.Size
	case AttrMode:
		return &c.Mode
	case AttrUID:
		return &c.UID
	case AttrGID:
		return &c.GID
	case AttrRdev:
		return &c.Rdev
	case AttrCtime:
		return &c.Ctime
	case AttrMtime:
		return &c.Mtime
	case AttrAtime:
		return &c.Atime
	case AttrOtime:
		return &c.Otime
	case AttrXattrName:
		return &c.XattrName
	case AttrXattrData:
		return &c.XattrData
	case AttrPath:
		return &c.Path
	case AttrPathTo:
		return &c.PathTo
	case AttrPathLink:
		return &c.PathLink
	case AttrFileOffset:
		return &c.FileOffset
	case AttrData:
		return &c.Data
	case AttrCloneUUID:
		return &c.CloneUUID
	case AttrCloneTransid:
		return &c.CloneTransid
	case AttrClonePath:
		return &c.ClonePath
	case AttrCloneOffset:
		return &c.CloneOffset
	case AttrCloneLen:
		return &c.CloneLen
	case AttrFallocateMode:
		return &c.FallocateMode
	case AttrFileAttr:
		return &c.FileAttr
	case AttrUnencodedFileLen:
		return &c.UnencodedFileLen
	case AttrUnencodedLen:
		return &c.UnencodedLen
	case AttrUnencodedOffset:
		return &c.UnencodedOffset
	case AttrCompression:
		return &c.Compression
	case AttrEncryption:
		return &c.Encryption
	case AttrVerityAlgorithm:
		return &c.VerityAlgorithm
	case AttrVerityBlockSize:
		return &c.VerityBlockSize
	case AttrVeritySalt:
		return &c.VeritySalt
	case AttrVeritySig:
		return &c.VeritySig
	}
	return nil
}
