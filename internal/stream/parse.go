package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	magic      = "btrfs-stream\x00"
	headerSize = len(magic) + 4 // and the version
	headSize   = 10             // of a command: length of its attributes, kind, checksum

	// maxCommand bounds a command, head included. The kernel's own are at most
	// 144 KiB long on machines with pages of 4 KiB, 192 KiB with 64 KiB.
	maxCommand = 1 << 20

	maxPath      = 4095 // PATH_MAX less its NUL
	maxElement   = 255  // BTRFS_NAME_LEN
	maxXattrName = 255  // XATTR_NAME_MAX
	maxXattrData = 1 << 16
)

// parse reads the attributes of the command in frame into c. Of c it keeps
// nothing. On an error c.Path is set if it was reached.
func (c *Command) parse(frame []byte, version uint32) error {
	*c = Command{Kind: Kind(binary.LittleEndian.Uint16(frame[4:])), Frame: frame}
	if c.Kind == 0 || c.Kind > kindLast {
		return fmt.Errorf("%w: there is no %s", ErrMalformed, c.Kind)
	}
	if c.Kind.since() > version {
		return fmt.Errorf("%w: version %d has no %s", ErrMalformed, version, c.Kind)
	}
	carries := &carried[version][c.Kind]
	for rest := frame[headSize:]; len(rest) > 0; {
		if len(rest) < 2 {
			return fmt.Errorf("%w: its last attribute is cut off", ErrMalformed)
		}
		a := Attr(binary.LittleEndian.Uint16(rest))
		if a > attrLast || carries.may&(1<<a) == 0 {
			return fmt.Errorf("%w: a %s of version %d carries no %s", ErrMalformed, c.Kind, version, a)
		}
		if c.has&(1<<a) != 0 {
			return fmt.Errorf("%w: it carries %s twice", ErrMalformed, a)
		}
		c.has |= 1 << a
		var value []byte
		if a == AttrData && version >= 2 {
			// Without a length: it is the last one and takes all that is left.
			value, rest = rest[2:], nil
		} else {
			if len(rest) < 4 || len(rest)-4 < int(binary.LittleEndian.Uint16(rest[2:])) {
				return fmt.Errorf("%w: its %s is cut off", ErrMalformed, a)
			}
			n := 4 + int(binary.LittleEndian.Uint16(rest[2:]))
			value, rest = rest[4:n:n], rest[n:]
		}
		if err := c.set(a, value); err != nil {
			return err
		}
	}
	if missing := carries.must &^ c.has; missing != 0 {
		a := Attr(1)
		for missing&(1<<a) == 0 {
			a++
		}
		return fmt.Errorf("%w: it lacks its %s", ErrMalformed, a)
	}
	return c.check()
}

func (c *Command) set(a Attr, value []byte) error {
	want := -1
	switch f := c.field(a).(type) {
	case *[]byte:
		*f = value
		return nil
	case *uint64:
		if want = 8; len(value) == want {
			*f = binary.LittleEndian.Uint64(value)
		}
	case *uint32:
		if want = 4; len(value) == want {
			*f = binary.LittleEndian.Uint32(value)
		}
	case *uint8:
		if want = 1; len(value) == want {
			*f = value[0]
		}
	case *Time:
		if want = 12; len(value) == want {
			f.Sec = int64(binary.LittleEndian.Uint64(value))
			f.Nsec = binary.LittleEndian.Uint32(value[8:])
		}
	case *UUID:
		if want = len(f); len(value) == want {
			*f = UUID(value)
		}
	}
	if len(value) != want {
		return fmt.Errorf("%w: its %s has %d bytes instead of %d", ErrMalformed, a, len(value), want)
	}
	return nil
}

// check looks at the values of a command that has all its attributes.
func (c *Command) check() error {
	switch c.Kind {
	case End:
		return nil
	case Subvol, Snapshot:
		if bytes.IndexByte(c.Path, '/') >= 0 {
			return fmt.Errorf("%w: the snapshot's name %q has a slash", ErrUnsafePath, c.Path)
		}
	case Symlink:
		// The target of a symbolic link is any text.
		if err := checkText(AttrPathLink, c.PathLink, maxPath); err != nil {
			return err
		}
	case Link:
		if err := checkPath(AttrPathLink, c.PathLink); err != nil {
			return err
		}
	case Rename:
		if err := checkPath(AttrPathTo, c.PathTo); err != nil {
			return err
		}
	case Clone:
		if err := checkPath(AttrClonePath, c.ClonePath); err != nil {
			return err
		}
		if c.CloneLen > math.MaxInt64 || c.CloneOffset > math.MaxInt64-c.CloneLen {
			return fmt.Errorf("%w: it clones %d bytes at %d, out of any file", ErrMalformed, c.CloneLen, c.CloneOffset)
		}
	case EncodedWrite:
		if c.UnencodedLen > maxCommand {
			return fmt.Errorf("its extent is %w: %d bytes decoded", ErrTooLong, c.UnencodedLen)
		}
		if c.UnencodedOffset > c.UnencodedLen || c.UnencodedFileLen > c.UnencodedLen-c.UnencodedOffset {
			return fmt.Errorf("%w: %d bytes at %d are out of its extent of %d bytes decoded",
				ErrMalformed, c.UnencodedFileLen, c.UnencodedOffset, c.UnencodedLen)
		}
	case SetXattr, RemoveXattr:
		if err := checkText(AttrXattrName, c.XattrName, maxXattrName); err != nil {
			return err
		}
		if len(c.XattrData) > maxXattrData {
			return fmt.Errorf("its %s is %w: %d bytes", AttrXattrData, ErrTooLong, len(c.XattrData))
		}
	}
	if err := c.checkExtent(); err != nil {
		return err
	}
	if len(c.Path) == 0 && kinds[c.Kind].root {
		return nil
	}
	return checkPath(AttrPath, c.Path)
}

// checkExtent refuses what lies beyond the end of any file. Of its summands
// only those differ from zero that the command carries.
func (c *Command) checkExtent() error {
	end := c.FileOffset
	for _, n := range [...]uint64{c.Size, c.CloneLen, c.UnencodedFileLen, uint64(len(c.Data))} {
		if end > math.MaxInt64 || n > math.MaxInt64-end {
			return fmt.Errorf("%w: %d bytes at %d are out of any file", ErrMalformed, n, c.FileOffset)
		}
		end += n
	}
	return nil
}

// checkPath refuses every path that is not a plain way down from the
// snapshot's root.
func checkPath(a Attr, path []byte) error {
	if err := checkText(a, path, maxPath); err != nil {
		return err
	}
	if path[0] == '/' {
		return fmt.Errorf("%w: %s %q is absolute", ErrUnsafePath, a, path)
	}
	for rest, more := path, true; more; {
		i := bytes.IndexByte(rest, '/')
		element := rest
		if more = i >= 0; more {
			element, rest = rest[:i], rest[i+1:]
		}
		switch {
		case len(element) == 0:
			return fmt.Errorf("%w: %s %q has an empty element", ErrUnsafePath, a, path)
		case string(element) == "." || string(element) == "..":
			return fmt.Errorf("%w: %s %q has an element %q", ErrUnsafePath, a, path, element)
		case len(element) > maxElement:
			return fmt.Errorf("an element of %s is %w: %d bytes", a, ErrTooLong, len(element))
		}
	}
	return nil
}

func checkText(a Attr, text []byte, most int) error {
	switch {
	case len(text) == 0:
		return fmt.Errorf("%w: its %s is empty", ErrMalformed, a)
	case len(text) > most:
		return fmt.Errorf("its %s is %w: %d bytes", a, ErrTooLong, len(text))
	case bytes.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%w: %s %q has a NUL byte", ErrUnsafePath, a, text)
	}
	return nil
}
