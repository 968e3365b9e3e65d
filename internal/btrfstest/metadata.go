package btrfstest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of the xattrs that mean something to the kernel.
const (
	aclAccess           = "system.posix_acl_access"
	aclDefault          = "system.posix_acl_default"
	capability          = "security.capability"
	compressionProperty = "btrfs.compression"
)

var oddTimes = []unix.Timespec{
	{Sec: 0, Nsec: 0},
	{Sec: 0, Nsec: 1},
	{Sec: -1, Nsec: 999_999_999},
	{Sec: -2, Nsec: 500_000_000},
	{Sec: -86_400 * 365 * 50, Nsec: 0},
	{Sec: math.MinInt32 - 1, Nsec: 123_456_789},
	{Sec: math.MaxInt32, Nsec: 999_999_999},
	{Sec: math.MaxInt32 + 1, Nsec: 0},
	{Sec: math.MaxUint32 + 1, Nsec: 7},
	{Sec: 15_000_000_000, Nsec: 42},
}

var owners = []uint32{0, 1, 1000, 1001, 65534, 100_000, math.MaxInt32 + 1, math.MaxUint32 - 1}

// oddNames hold what naive code trips over. "%d" stands for a number that makes
// the name unique. The o…-… ones have the form of the temporary names that btrfs
// send uses in the root of a subvolume.
var oddNames = []string{
	"new\nline%d", "\nfirst%d", "tab\there%d", "invalid\xff\xfe%d", "\x80%d", "half\xc3%d",
	"-rf%d", "--help%d", "-%d", " leading%d", "trailing%d ", " %d ", "back\\slash%d", "\\%d\\",
	"quote'%d", "quote\"%d", "back`tick%d", "$HOME%d", "$(reboot)%d", "star*%d?", "[a-z]%d", "{a,b}%d",
	"semi;colon%d", "pipe|%d", "amp&%d", "#hash%d", "!bang%d", "~tilde%d", "per%%cent%d", "%%s%%n%d",
	"...%d", "..%d", ".%d", ".hidden%d", "\x01control%d", "esc\x1b[31m%d", "del\x7f%d", "bell\a%d",
	"caf\u00e9%d", "cafe\u0301%d", "日本語%d", "\u202eright-to-left%d", "\ufeffbom%d", "🧈%d",
	"name%d.part", "colon:%d", "comma,%d", "equals=%d", "\\040octal%d", "o%d-7-0", "o257-%d-0", "o258-8-%d", "o%d-9-1",
}

// name returns a name that is new in dir.
func (tr *Tree) name(dir string) string {
	tr.t.Helper()
	for range 1000 {
		tr.serial++
		name := fmt.Sprintf("%s%d", pick(tr, "file", "note", "img", "data.", "x"), tr.serial)
		if tr.has(OddNames) {
			switch tr.rng.IntN(8) {
			case 0, 1:
				number := tr.serial
				if tr.chance(2) {
					number = 257 + tr.serial%100 // near the inode numbers in use
				}
				name = fmt.Sprintf(pick(tr, oddNames...), number)
			case 2:
				name = tr.longName(255)
			}
		}
		if len(join(dir, name)) < maxPath-300 && !tr.exists(join(dir, name)) {
			return name
		}
	}
	tr.t.Fatalf("tree of seed %d: no room for a name in %q", tr.seed, dir)
	panic("unreachable")
}

// longName returns a name of exactly n bytes.
func (tr *Tree) longName(n int) string {
	tr.serial++
	name := fmt.Sprintf("long%d", tr.serial)
	return name + strings.Repeat(string(rune('a'+tr.rng.IntN(26))), n-len(name))
}

// acl returns a POSIX ACL in the form the kernel takes as an xattr: a version,
// 2, then entries of tag, permissions and id (linux/posix_acl_xattr.h). A
// default ACL may be minimal; an access ACL always names someone, for the kernel
// turns a minimal one into a mode.
func (tr *Tree) acl(isDefault bool) []byte {
	const userObj, user, groupObj, group, mask, other, noID = 1, 2, 4, 8, 16, 32, math.MaxUint32
	b := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(tag uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(tr.rng.IntN(8)))
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	users, groups := tr.rng.IntN(3), tr.rng.IntN(3)
	if users+groups == 0 && !isDefault {
		users = 1
	}
	add(userObj, noID)
	for i := range users {
		add(user, uint32(1000+i))
	}
	add(groupObj, noID)
	for i := range groups {
		add(group, uint32(2000+i))
	}
	if users+groups > 0 {
		add(mask, noID)
	}
	add(other, noID)
	return b
}

// capabilities returns file capabilities in the form the kernel takes as an
// xattr: revision 2 with the effective bit or not, then the permitted and the
// inheritable set, low halves first (linux/capability.h, struct vfs_cap_data).
func (tr *Tree) capabilities() []byte {
	const revision2, effective, allCaps = 0x02000000, 1, 1<<32 - 1
	b := binary.LittleEndian.AppendUint32(nil, revision2|uint32(tr.rng.IntN(2))*effective)
	b = binary.LittleEndian.AppendUint32(b, tr.rng.Uint32()&allCaps)
	b = binary.LittleEndian.AppendUint32(b, tr.rng.Uint32()&allCaps)
	b = binary.LittleEndian.AppendUint32(b, tr.rng.Uint32()&0xff)
	return binary.LittleEndian.AppendUint32(b, tr.rng.Uint32()&0xff)
}

func (tr *Tree) setxattr(path, name string, value []byte) {
	tr.t.Helper()
	tr.check("setting xattr "+name+" of", path, unix.Lsetxattr(tr.abs(path), name, value, 0))
}

// addXattr sets an xattr with a random value, now and then empty or large.
func (tr *Tree) addXattr(path, prefix string) {
	tr.t.Helper()
	size := tr.between(1, 60)
	switch tr.rng.IntN(8) {
	case 0:
		size = 0
	case 1:
		size = tr.between(1000, 3000)
	}
	name := prefix + pick(tr, "comment", "a", "with space", "newline\n", "bytes\xff", "DOSATTRIB", strings.Repeat("n", 240-len(prefix)))
	tr.setxattr(path, name, tr.content(size))
}

// chown sets owner and group.
func (tr *Tree) chown(path string) {
	tr.t.Helper()
	tr.check("changing the owner of", path, unix.Lchown(tr.abs(path), int(pick(tr, owners...)), int(pick(tr, owners...))))
}

func (tr *Tree) chmod(path string, mode uint32) {
	tr.t.Helper()
	tr.check("changing the mode of", path, unix.Chmod(tr.abs(path), mode))
}

// dress gives an entry other metadata than the usual. The order matters: a
// change of owner takes away setuid bits and capabilities.
func (tr *Tree) dress(path string) {
	tr.t.Helper()
	n := node{path, tr.lstat(path).Mode & unix.S_IFMT}
	if tr.has(Owners) && tr.chance(3) {
		tr.chown(path)
	}
	if n.kind == unix.S_IFLNK {
		if tr.has(TrustedXattrs) && tr.chance(6) {
			tr.addXattr(path, "trusted.")
		}
		return
	}
	mode := pick[uint32](tr, 0o644, 0o600, 0o755, 0o700, 0o666, 0o444, 0o777, 0o640)
	if tr.has(OddModes) && tr.chance(5) {
		mode = pick[uint32](tr, 0, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777, 0o2070, 0o111)
	}
	tr.chmod(path, mode)
	fileOrDir := n.isFile() || n.isDir()
	if fileOrDir && tr.has(UserXattrs) && tr.chance(5) {
		tr.addXattr(path, "user.")
	}
	if tr.has(TrustedXattrs) && tr.chance(12) {
		tr.addXattr(path, "trusted.")
	}
	if tr.has(SecurityXattrs) && tr.chance(12) {
		tr.addXattr(path, "security.")
	}
	if tr.has(ACLs) && tr.chance(8) {
		tr.setxattr(path, aclAccess, tr.acl(false))
	}
	if path != "" && n.isDir() && tr.has(DefaultACLs) && tr.chance(10) {
		tr.setxattr(path, aclDefault, tr.acl(true))
	}
	if path != "" && fileOrDir && tr.has(Compression) && tr.chance(12) {
		tr.setxattr(path, compressionProperty, []byte(pick(tr, compressions...)))
	}
	if n.isFile() && tr.has(Capabilities) && tr.chance(12) {
		tr.setxattr(path, capability, tr.capabilities())
	}
}

var compressions = []string{"zlib", "lzo", "zstd", "none"}
