package dir

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Folder is the folder at the top of a bucket that holds what is not finished.
const Folder = ".buttersink-uploads"

// maxKey is how long a key may be: a path for openat2(2) has 4096 bytes at most,
// with the NUL.
const maxKey = 4095

// naming says what names a file system takes.
type naming struct {
	longest int  // bytes of a name
	fat     bool // it takes what Windows takes, and gives names a second, short form
}

// exfatMagic is EXFAT_SUPER_MAGIC of linux/magic.h.
const exfatMagic = 0x2011BAB0

func namingOf(about unix.Statfs_t) naming {
	n := naming{longest: 255}
	if about.Namelen > 0 && about.Namelen < 255 {
		n.longest = int(about.Namelen)
	}
	n.fat = about.Type == unix.MSDOS_SUPER_MAGIC || about.Type == exfatMagic
	return n
}

// CheckKey says why there can be no object with a key: it is no path, or not one
// that the file system has.
func (b *Bucket) CheckKey(key string) error { return b.names.check(key) }

func (n naming) check(key string) error {
	switch {
	case key == "":
		return errors.New("it is empty")
	case len(key) > maxKey:
		return fmt.Errorf("it is longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		return errors.New("it is not valid UTF-8")
	case strings.IndexByte(key, 0) >= 0:
		return errors.New("it has a NUL in it")
	}
	first := true
	for name := range strings.SplitSeq(key, "/") {
		if err := n.checkName(name); err != nil {
			return err
		}
		if first && n.reserved(name) {
			return fmt.Errorf("what is below %q is the bucket's own", Folder)
		}
		first = false
	}
	return nil
}

func (n naming) checkName(name string) error {
	switch {
	case name == "":
		return errors.New("it begins or ends with a slash, or has two in a row")
	case name == "." || name == "..":
		return fmt.Errorf("it has %q for a name", name)
	case len(name) > n.longest:
		return fmt.Errorf("it has a name of more than %d bytes", n.longest)
	case !n.fat:
		return nil
	}
	// fs/fat/namei_vfat.c and fs/exfat/nls.c of Linux: these are refused, and dots
	// and spaces at the end silently dropped.
	if strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return errors.New("it has a name that ends in a dot or a space, which this file system does not keep")
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || strings.ContainsRune(`"*:<>?\|`, r) }); i >= 0 {
		return fmt.Errorf("it has %q in it, which this file system does not take", name[i])
	}
	return nil
}

// reserved reports whether a name at the top could lead to our folder. Some file
// systems do not tell upper from lower case, and FAT finds files by their short
// names too (BUTTER~1, or BU1234~1).
func (n naming) reserved(name string) bool {
	if strings.EqualFold(name, Folder) {
		return true
	}
	return n.fat && len(name) <= 12 && strings.Contains(name, "~") && strings.HasPrefix(strings.ToLower(name), "bu")
}
