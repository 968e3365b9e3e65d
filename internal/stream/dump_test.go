package stream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What btrfs-progs 6.2 cannot print, or prints otherwise, has its lines here;
// all else is held against it by TestRealStreams.
func TestDump(t *testing.T) {
	time := func(a Attr, sec int64) []byte { return attr(a, append(num(0, uint64(sec))[4:], 1, 0, 0, 0)...) }
	data := around(
		3,
		raw(MkFile, text(AttrPath, "a b"), num(AttrIno, 257)),
		raw(SetXattr, text(AttrPath, ""), text(AttrXattrName, "user.a b"), text(AttrXattrData, "1\x00\xff\n2")),
		raw(RemoveXattr, text(AttrPath, "f"), text(AttrXattrName, "user.\x1b[31m")),
		raw(FileAttr, text(AttrPath, "f"), num(AttrFileAttr, 31)),
		raw(Clone, num(AttrFileOffset, 0), num(AttrCloneLen, 4096), text(AttrPath, "f"), attr(AttrCloneUUID, make([]byte, 16)...),
			num(AttrCloneTransid, 1), text(AttrClonePath, "g\nh"), num(AttrCloneOffset, 8192)),
		raw(Utimes, text(AttrPath, "f"), time(AttrAtime, -1), time(AttrMtime, 1<<62), time(AttrCtime, 1<<33), time(AttrOtime, 0)),
		raw(EnableVerity, text(AttrPath, "f"), attr(AttrVerityAlgorithm, 1), attr(AttrVerityBlockSize, 0, 16, 0, 0), attr(AttrVeritySalt, 1, 2), attr(AttrVeritySig)),
		raw(Unlink, text(AttrPath, strings.Repeat("d/", 2047)+"f")),
	)
	const want = `subvol          ./s                             uuid=00000000-0000-0000-0000-000000000000 transid=7
mkfile          ./s/a\ b
set_xattr       ./s/                            name=user.a\ b data=1\000\377\n2 len=5
remove_xattr    ./s/f                           name=user.\e[31m
fileattr        ./s/f                           fileattr=0x1f
clone           ./s/f                           offset=0 len=4096 from=./s/g\nh clone_offset=8192
utimes          ./s/f                           atime=1969-12-31T23:59:59+0000 mtime=@4611686018427387904 ctime=2242-03-16T12:56:32+0000
enable_verity   ./s/f                           algorithm=1 block_size=4096 salt_len=2 sig_len=0
`
	var out bytes.Buffer
	if err := Dump(&out, NewReader(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want+"unlink          ./s/"+strings.Repeat("d/", 2047)+"f\n", out.String()); diff != "" {
		t.Error(diff)
	}

	const wantJSON = `{"command":2,"offset":64,"bytes":29,"kind":"mkfile","path":"a b","ino":257}
{"command":3,"offset":93,"bytes":35,"kind":"set_xattr","path":"","xattr_name":"user.a b","xattr_data_base64":"MQD/CjI="}
{"command":4,"offset":128,"bytes":29,"kind":"remove_xattr","path":"f","xattr_name":"user.\u001b[31m"}
{"command":5,"offset":157,"bytes":27,"kind":"fileattr","path":"f","fileattr":31}
{"command":6,"offset":184,"bytes":90,"kind":"clone","file_offset":0,"clone_len":4096,"path":"f","clone_uuid":"00000000-0000-0000-0000-000000000000","clone_transid":1,"clone_path":"g\nh","clone_offset":8192}
{"command":7,"offset":274,"bytes":79,"kind":"utimes","path":"f","atime":{"sec":-1,"nsec":1},"mtime":{"sec":4611686018427387904,"nsec":1},"ctime":{"sec":8589934592,"nsec":1},"otime":{"sec":0,"nsec":1}}
{"command":8,"offset":353,"bytes":38,"kind":"enable_verity","path":"f","verity_algorithm":1,"verity_block_size":4096,"verity_salt":"\u0001\u0002","verity_sig":""}
`
	out.Reset()
	if err := DumpJSON(&out, NewReader(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	if diff := cmp.Diff(wantJSON, strings.Join(lines[1:8], "")); diff != "" {
		t.Error(diff)
	}
}

// Every JSON line says all of its command but the file data.
func TestDumpJSON(t *testing.T) {
	for name, data := range corpus(t) {
		var out bytes.Buffer
		if err := DumpJSON(&out, NewReader(bytes.NewReader(data))); err != nil {
			t.Fatal(err)
		}
		lines := json.NewDecoder(&out)
		r := NewReader(bytes.NewReader(data))
		for {
			c, err := r.Next()
			if err == io.EOF {
				break
			}
			line := map[string]any{}
			if err := errors.Join(err, lines.Decode(&line)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := map[string]any{
				"command": float64(c.Number), "offset": float64(c.Offset),
				"bytes": float64(len(c.Frame)), "kind": c.Kind.String(),
			}
			for _, a := range kinds[c.Kind].attrs {
				if !c.Has(a) {
					continue
				}
				switch v := c.field(a).(type) {
				case *[]byte:
					if a == AttrData {
						want["data_len"] = float64(len(*v))
					} else if coded, ok := line[a.String()+"_base64"]; ok {
						want[a.String()+"_base64"] = base64.StdEncoding.EncodeToString(*v)
						_ = coded
					} else {
						want[a.String()] = string(*v)
					}
				case *uint64:
					want[a.String()] = float64(*v)
				case *uint32:
					want[a.String()] = float64(*v)
				case *Time:
					want[a.String()] = map[string]any{"sec": float64(v.Sec), "nsec": float64(v.Nsec)}
				case *UUID:
					want[a.String()] = uuidText(*v)
				}
			}
			if diff := cmp.Diff(want, line); diff != "" {
				t.Fatalf("%s: %s", name, diff)
			}
		}
		if lines.More() {
			t.Errorf("%s: more lines than commands", name)
		}
	}
}

func TestDumpErrors(t *testing.T) {
	data := corpus(t)["v2-metadata"]
	full := errors.New("disk full")
	for _, dump := range []func(io.Writer, *Reader) error{Dump, DumpJSON} {
		var whole, part bytes.Buffer
		if err := dump(&whole, NewReader(bytes.NewReader(data))); err != nil {
			t.Fatal(err)
		}
		err := dump(&part, NewReader(bytes.NewReader(data[:len(data)-20])))
		if !errors.Is(err, ErrTruncated) || part.Len() == 0 || !bytes.HasPrefix(whole.Bytes(), part.Bytes()) {
			t.Errorf("%v after %d bytes", err, part.Len())
		}
		if err := dump(failing{full}, NewReader(bytes.NewReader(data))); !errors.Is(err, full) {
			t.Error(err)
		}
	}
}
