package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// raw returns a command with a good checksum around any attributes.
func raw(k Kind, attrs ...[]byte) []byte {
	f := slices.Concat(append([][]byte{make([]byte, headSize)}, attrs...)...)
	binary.LittleEndian.PutUint32(f, uint32(len(f)-headSize))
	binary.LittleEndian.PutUint16(f[4:], uint16(k))
	putChecksum(f)
	return f
}

func attr(a Attr, value ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(a))
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...)
}

func text(a Attr, s string) []byte { return attr(a, []byte(s)...) }

func num(a Attr, n uint64) []byte { return attr(a, binary.LittleEndian.AppendUint64(nil, n)...) }

// around puts commands behind the header and first command of a good stream,
// and END behind them.
func around(version uint32, commands ...[]byte) []byte {
	head := binary.LittleEndian.AppendUint32([]byte(magic), version)
	first := raw(Subvol, text(AttrPath, "s"), attr(AttrUUID, make([]byte, 16)...), num(AttrTransid, 7))
	return slices.Concat(head, first, slices.Concat(commands...), raw(End))
}

func TestBadCommands(t *testing.T) {
	path, ino := text(AttrPath, "dir/f"), num(AttrIno, 300)
	otime := attr(AttrOtime, make([]byte, 12)...)
	times := slices.Concat(attr(AttrAtime, make([]byte, 12)...), attr(AttrMtime, make([]byte, 12)...), attr(AttrCtime, make([]byte, 12)...))
	bare := []byte{byte(AttrData), 0, 'x', 'y'}
	extent := func(fileLen, n, offset uint64) []byte {
		return raw(EncodedWrite, path, num(AttrFileOffset, 0), num(AttrUnencodedFileLen, fileLen), num(AttrUnencodedLen, n),
			num(AttrUnencodedOffset, offset), attr(AttrCompression, 2, 0, 0, 0), bare)
	}
	deep := strings.Repeat("d/", 2047) + "f"
	for name, test := range map[string]struct {
		version uint32
		command []byte
		want    error // nil: it is good
	}{
		"good":                         {1, raw(MkFile, path, ino), nil},
		"another order":                {1, raw(MkFile, ino, path), nil},
		"kind 0":                       {1, raw(0), ErrMalformed},
		"zeros":                        {1, make([]byte, headSize), ErrMalformed},
		"kind 27":                      {3, raw(27), ErrMalformed},
		"kind of version 2":            {1, raw(FileAttr, path, num(AttrFileAttr, 8)), ErrMalformed},
		"kind of version 2 in 2":       {2, raw(FileAttr, path, num(AttrFileAttr, 8)), nil},
		"kind of version 3":            {2, raw(EnableVerity, path, attr(AttrVerityAlgorithm, 1), attr(AttrVerityBlockSize, 0, 16, 0, 0), attr(AttrVeritySalt), attr(AttrVeritySig)), ErrMalformed},
		"kind of version 3 in 3":       {3, raw(EnableVerity, path, attr(AttrVerityAlgorithm, 1), attr(AttrVerityBlockSize, 0, 16, 0, 0), attr(AttrVeritySalt), attr(AttrVeritySig)), nil},
		"lacks an attribute":           {1, raw(MkFile, path), ErrMalformed},
		"attribute of another kind":    {1, raw(MkFile, path, ino, num(AttrSize, 1)), ErrMalformed},
		"attribute 0":                  {1, raw(MkFile, path, ino, attr(0)), ErrMalformed},
		"attribute 36":                 {3, raw(MkFile, path, ino, attr(36)), ErrMalformed},
		"attribute 65535":              {3, raw(MkFile, path, ino, attr(65535)), ErrMalformed},
		"attribute twice":              {1, raw(MkFile, path, ino, ino), ErrMalformed},
		"integer too short":            {1, raw(MkFile, path, attr(AttrIno, 1, 2, 3, 4)), ErrMalformed},
		"integer too long":             {1, raw(MkFile, path, attr(AttrIno, 1, 2, 3, 4, 5, 6, 7, 8, 9)), ErrMalformed},
		"time too short":               {1, raw(Utimes, path, attr(AttrAtime, 1), attr(AttrMtime, 1), attr(AttrCtime, 1)), ErrMalformed},
		"attribute cut":                {1, raw(MkFile, path, ino[:len(ino)-1]), ErrMalformed},
		"attribute's head cut":         {1, raw(MkFile, path, ino, []byte{1}), ErrMalformed},
		"attribute's length cut":       {1, raw(MkFile, path, ino[:3]), ErrMalformed},
		"creation time in 1":           {1, raw(Utimes, path, times, otime), ErrMalformed},
		"no creation time in 1":        {1, raw(Utimes, path, times), nil},
		"creation time in 2":           {2, raw(Utimes, path, times, otime), nil},
		"no creation time in 2":        {2, raw(Utimes, path, times), ErrMalformed},
		"data in 1":                    {1, raw(Write, path, num(AttrFileOffset, 0), text(AttrData, "xy")), nil},
		"data in 2":                    {2, raw(Write, path, num(AttrFileOffset, 0), bare), nil},
		"data not last in 2":           {2, raw(Write, path, bare, num(AttrFileOffset, 0)), ErrMalformed},
		"data without length in 1":     {1, raw(Write, path, num(AttrFileOffset, 0), bare), ErrMalformed},
		"end with something":           {1, raw(End, path), ErrMalformed},
		"another subvol":               {1, raw(Subvol, text(AttrPath, "t"), attr(AttrUUID, make([]byte, 16)...), num(AttrTransid, 7)), ErrMalformed},
		"longest":                      {2, raw(Write, path, num(AttrFileOffset, 0), []byte{byte(AttrData), 0}, make([]byte, maxCommand-headSize-9-12-2)), nil},
		"too long":                     {2, raw(Write, path, num(AttrFileOffset, 0), []byte{byte(AttrData), 0}, make([]byte, maxCommand-headSize-9-12-1)), ErrTooLong},
		"root's times":                 {1, raw(Utimes, text(AttrPath, ""), times), nil},
		"root's mode":                  {1, raw(Chmod, text(AttrPath, ""), num(AttrMode, 0o755)), nil},
		"root's owner":                 {1, raw(Chown, text(AttrPath, ""), num(AttrUID, 0), num(AttrGID, 0)), nil},
		"root's xattr":                 {1, raw(SetXattr, text(AttrPath, ""), text(AttrXattrName, "user.a"), attr(AttrXattrData)), nil},
		"root's xattr removed":         {1, raw(RemoveXattr, text(AttrPath, ""), text(AttrXattrName, "user.a")), nil},
		"root's attributes":            {2, raw(FileAttr, text(AttrPath, ""), num(AttrFileAttr, 0)), nil},
		"root removed":                 {1, raw(RmDir, text(AttrPath, "")), ErrMalformed},
		"root renamed":                 {1, raw(Rename, text(AttrPath, ""), text(AttrPathTo, "a")), ErrMalformed},
		"renamed to the root":          {1, raw(Rename, text(AttrPath, "a"), text(AttrPathTo, "")), ErrMalformed},
		"absolute":                     {1, raw(Unlink, text(AttrPath, "/etc/passwd")), ErrUnsafePath},
		"up":                           {1, raw(Unlink, text(AttrPath, "..")), ErrUnsafePath},
		"up in the middle":             {1, raw(Unlink, text(AttrPath, "a/../b")), ErrUnsafePath},
		"up at the end":                {1, raw(Unlink, text(AttrPath, "a/..")), ErrUnsafePath},
		"here":                         {1, raw(Unlink, text(AttrPath, "./a")), ErrUnsafePath},
		"empty element":                {1, raw(Unlink, text(AttrPath, "a//b")), ErrUnsafePath},
		"slash at the end":             {1, raw(Unlink, text(AttrPath, "a/")), ErrUnsafePath},
		"NUL":                          {1, raw(Unlink, text(AttrPath, "a\x00b")), ErrUnsafePath},
		"dots that are names":          {1, raw(Unlink, text(AttrPath, "...//.."[:3])), nil},
		"renamed outside":              {1, raw(Rename, path, text(AttrPathTo, "../x")), ErrUnsafePath},
		"linked from outside":          {1, raw(Link, path, text(AttrPathLink, "/etc/shadow")), ErrUnsafePath},
		"symlink to anywhere":          {1, raw(Symlink, path, ino, text(AttrPathLink, "/../..//")), nil},
		"symlink to nowhere":           {1, raw(Symlink, path, ino, text(AttrPathLink, "")), ErrMalformed},
		"symlink with NUL":             {1, raw(Symlink, path, ino, text(AttrPathLink, "a\x00")), ErrUnsafePath},
		"symlink too long":             {1, raw(Symlink, path, ino, text(AttrPathLink, strings.Repeat("x", 4096))), ErrTooLong},
		"longest symlink":              {1, raw(Symlink, path, ino, text(AttrPathLink, strings.Repeat("x", 4095))), nil},
		"longest path":                 {1, raw(Unlink, text(AttrPath, deep)), nil},
		"path too long":                {1, raw(Unlink, text(AttrPath, deep+"f")), ErrTooLong},
		"longest name":                 {1, raw(Unlink, text(AttrPath, "a/"+strings.Repeat("x", 255))), nil},
		"name too long":                {1, raw(Unlink, text(AttrPath, "a/"+strings.Repeat("x", 256)+"/b")), ErrTooLong},
		"cloned from outside":          {1, raw(Clone, path, num(AttrFileOffset, 0), num(AttrCloneLen, 1), attr(AttrCloneUUID, make([]byte, 16)...), num(AttrCloneTransid, 1), text(AttrClonePath, "a/../../b"), num(AttrCloneOffset, 0)), ErrUnsafePath},
		"cloned beyond the end":        {1, raw(Clone, path, num(AttrFileOffset, 0), num(AttrCloneLen, 1), attr(AttrCloneUUID, make([]byte, 16)...), num(AttrCloneTransid, 1), text(AttrClonePath, "a"), num(AttrCloneOffset, 1<<63-1)), ErrMalformed},
		"xattr without name":           {1, raw(RemoveXattr, path, text(AttrXattrName, "")), ErrMalformed},
		"xattr's longest name":         {1, raw(RemoveXattr, path, text(AttrXattrName, strings.Repeat("n", 255))), nil},
		"xattr's name too long":        {1, raw(RemoveXattr, path, text(AttrXattrName, strings.Repeat("n", 256))), ErrTooLong},
		"xattr's name with NUL":        {1, raw(RemoveXattr, path, text(AttrXattrName, "user.\x00")), ErrUnsafePath},
		"xattr's longest data":         {1, raw(SetXattr, path, text(AttrXattrName, "user.a"), attr(AttrXattrData, make([]byte, 65535)...)), nil},
		"offset beyond any file":       {1, raw(Write, path, num(AttrFileOffset, 1<<63), text(AttrData, "")), ErrMalformed},
		"write beyond any file":        {1, raw(Write, path, num(AttrFileOffset, 1<<63-2), text(AttrData, "xy")), ErrMalformed},
		"size beyond any file":         {1, raw(Truncate, path, num(AttrSize, 1<<63)), ErrMalformed},
		"extent beyond any file":       {1, raw(UpdateExtent, path, num(AttrFileOffset, 1<<62), num(AttrSize, 1<<62)), ErrMalformed},
		"encoded":                      {2, extent(8, 10, 2), nil},
		"encoded, out of its extent":   {2, extent(9, 10, 2), ErrMalformed},
		"encoded, offset out of it":    {2, extent(0, 10, 11), ErrMalformed},
		"encoded, sum beyond integers": {2, extent(1<<63-1, 10, 1<<63), ErrMalformed},
		"encoded, extent too long":     {2, extent(1, 1<<40, 0), ErrTooLong},
	} {
		data := around(test.version, test.command)
		if test.want == nil {
			if _, _, err := Verify(bytes.NewReader(data)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if e := failure(t, data); !errors.Is(e, test.want) || e.Number != 2 || !errors.Is(e.Err, test.want) {
			t.Errorf("%s: want %v, got %v", name, test.want, e)
		}
	}
}

func TestFirstCommand(t *testing.T) {
	uuid, transid := attr(AttrUUID, make([]byte, 16)...), num(AttrTransid, 7)
	parent := slices.Concat(attr(AttrCloneUUID, make([]byte, 16)...), num(AttrCloneTransid, 3))
	header := binary.LittleEndian.AppendUint32([]byte(magic), 1)
	for name, test := range map[string]struct {
		command []byte
		want    error
	}{
		"subvol":       {raw(Subvol, text(AttrPath, "s"), uuid, transid), nil},
		"snapshot":     {raw(Snapshot, text(AttrPath, "s"), uuid, transid, parent), nil},
		"with parent":  {raw(Subvol, text(AttrPath, "s"), uuid, transid, parent), ErrMalformed},
		"no parent":    {raw(Snapshot, text(AttrPath, "s"), uuid, transid), ErrMalformed},
		"mkfile":       {raw(MkFile, text(AttrPath, "s"), num(AttrIno, 1)), ErrMalformed},
		"end":          {raw(End), ErrMalformed},
		"slash":        {raw(Subvol, text(AttrPath, "a/b"), uuid, transid), ErrUnsafePath},
		"absolute":     {raw(Subvol, text(AttrPath, "/a"), uuid, transid), ErrUnsafePath},
		"up":           {raw(Subvol, text(AttrPath, ".."), uuid, transid), ErrUnsafePath},
		"no name":      {raw(Subvol, text(AttrPath, ""), uuid, transid), ErrMalformed},
		"name of 256":  {raw(Subvol, text(AttrPath, strings.Repeat("s", 256)), uuid, transid), ErrTooLong},
		"name of 255":  {raw(Subvol, text(AttrPath, strings.Repeat("s", 255)), uuid, transid), nil},
		"path is last": {raw(Subvol, uuid, transid, text(AttrPath, "s")), nil},
	} {
		data := slices.Concat(header, test.command)
		if test.command[4] != byte(End) {
			data = append(data, raw(End)...)
		}
		if test.want == nil {
			r := NewReader(bytes.NewReader(data))
			before, err := r.Identity()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_, after, err := Verify(bytes.NewReader(data))
			if err != nil || before != after || after.Transid != 7 || after.HasParent != (name == "snapshot") {
				t.Errorf("%s: %+v, %+v, %v", name, before, after, err)
			}
			if runs, err := r.NextRun(); err != nil || !bytes.Equal(runs, data) {
				t.Errorf("%s: after Identity the first run is %q, %v", name, runs, err)
			}
			if _, err := r.NextRun(); err != io.EOF {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if e := failure(t, data); !errors.Is(e, test.want) || e.Number != 1 || e.Offset != int64(headerSize) {
			t.Errorf("%s: want %v, got %v", name, test.want, e)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := failure(t, around(1, raw(Unlink, text(AttrPath, "a/../b"))))
	const want = `stream command 2 (unlink) at byte 64, near "a/../b": unsafe path: path "a/../b" has an element ".."`
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
}
