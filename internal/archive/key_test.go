package archive

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

const (
	uuidA = "ea7c1d34-c782-584b-8144-845760163ea1"
	uuidB = "6dc79d55-8f46-da4f-a5a3-f63b54ac3ad8"
	uuidC = "5a5f33ad-6afd-f441-8011-36b78461c527"
)

func parsed(t testing.TB, text string) snapshot.ID {
	t.Helper()
	v, err := snapshot.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func open(t testing.TB, b Bucket, prefix string) *Store {
	t.Helper()
	s, err := Open(t.Context(), b, Options{Prefix: prefix, Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestParseKey(t *testing.T) {
	a, b, c := parsed(t, uuidA), parsed(t, uuidB), parsed(t, uuidC)
	stream := func(path string, to, from snapshot.ID, f seal.Form) named {
		return named{isObject, path, snapshot.Edge{To: to, From: from}, f}
	}
	plain, zstAge := seal.Form{}, seal.Form{Compressed: true, Cipher: seal.Age}
	for _, tt := range []struct {
		prefix, key string
		want        named
	}{
		// What ButterSink writes.
		{"pre/fix", "pre/fix/B/" + uuidB + "_" + uuidC, stream("B", b, c, plain)},
		{"pre/fix", "pre/fix/C/" + uuidC + "_None", stream("C", c, snapshot.ID{}, plain)},
		{"pre/fix", "pre/fix/B.bs", named{kind: isSizes, path: "B"}},
		{"", "pre/fix/C/" + uuidC + "_None", stream("pre/fix/C", c, snapshot.ID{}, plain)},
		{"pre/fix", "trash/pre/fix/C/" + uuidC + "_None", named{kind: silent}},
		{"", "trash/pre/fix/C.bs", named{kind: silent}},
		// What old versions of it wrote.
		{"pre/fix", "/pre/fix/C/" + uuidC + "_None", stream("C", c, snapshot.ID{}, plain)},
		{"", "/C/" + uuidC + "_None", stream("C", c, snapshot.ID{}, plain)},
		{"", "/C.bs", named{kind: isSizes, path: "C"}},
		{"", "/trash/C/" + uuidC + "_None", named{kind: silent}},
		// What we write.
		{"p", "p/x/A/" + uuidA + "_None.zst.age", stream("x/A", a, snapshot.ID{}, zstAge)},
		{"p", "p/x/A/" + uuidA + "_" + uuidB + ".gpg", stream("x/A", a, b, seal.Form{Cipher: seal.GPG})},
		{"p", "p/x/A/" + uuidA + "_" + uuidB + ".zst.json", named{isDescr, "x/A", snapshot.Edge{To: a, From: b}, seal.Form{Compressed: true}}},
		{"p", "p/" + markerName, named{kind: silent}},
		{"p", "p/sub/" + markerName, named{kind: silent}},
		{"", uploadsFolder + "/x", named{kind: silent}},
		{"p", "p/a%01%80%25AF%zz%/" + uuidA + "_None", stream("a\x01\x80%AF%zz%", a, snapshot.ID{}, plain)},
		{"p", "p/caf%C3%A9 100%25/" + uuidA + "_None", stream("caf%C3%A9 100%", a, snapshot.ID{}, plain)},
		{"p", "p/A/" + strings.ToUpper(uuidA) + "_None", stream("A", a, snapshot.ID{}, plain)},
		// Of other prefixes.
		{"p", "p2/A/" + uuidA + "_None", named{kind: elsewhere}},
		{"p", "p.bs", named{kind: elsewhere}},
		{"p", "/p2/A/" + uuidA + "_None", named{kind: elsewhere}},
		{"p", "q/A/" + uuidA + "_None", named{kind: elsewhere}},
		// Folders, as tools make them.
		{"p", "p/", named{kind: silent}},
		{"p", "p/A/", named{kind: silent}},
		{"p", "p/../", named{kind: silent}},
		// What would lead elsewhere.
		{"p", "p/../A/" + uuidA + "_None", named{kind: unsafe}},
		{"p", "p/A/../../" + uuidA + "_None", named{kind: unsafe}},
		{"p", "p/./A/" + uuidA + "_None", named{kind: unsafe}},
		{"p", "p//A/" + uuidA + "_None", named{kind: unsafe}},
		{"p", "//p/A/" + uuidA + "_None", named{kind: elsewhere}},
		{"", "//A/" + uuidA + "_None", named{kind: unsafe}},
		{"", "A//" + uuidA + "_None", named{kind: unsafe}},
		{"p", "p/..", named{kind: unsafe}},
		{"p", "p/../A.bs", named{kind: unsafe}},
		{"p", "p/%2E%2E/" + uuidA + "_None", stream("%2E%2E", a, snapshot.ID{}, plain)},
		{"p", "p/a%2Fb/" + uuidA + "_None", stream("a%2Fb", a, snapshot.ID{}, plain)},
		// What is no archive's.
		{"p", "p/" + uuidA + "_None", named{kind: foreign}},
		{"p", "p/A/notes.txt", named{kind: foreign}},
		{"p", "p/A/" + uuidA, named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_none", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_", named{kind: foreign}},
		{"p", "p/A/_" + uuidA, named{kind: foreign}},
		{"p", "p/A/None_None", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_" + uuidA, named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_" + uuidB + "_" + uuidC, named{kind: foreign}},
		{"p", "p/A/00000000-0000-0000-0000-000000000000_None", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_00000000-0000-0000-0000-000000000000", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_None.age.zst", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_None.json.json", named{kind: foreign}},
		{"p", "p/A/" + uuidA + "_None~2", named{kind: foreign}},
		{"p", "p/.bs", named{kind: foreign}},
		{"p", "p/x/.bs", named{kind: foreign}},
		{"p", "p/x.json", named{kind: foreign}},
		{"p", "", named{kind: elsewhere}},
	} {
		got := parseKey(tt.prefix, tt.key)
		if got.kind == foreign || got.kind == unsafe {
			got = named{kind: got.kind}
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(named{})); diff != "" {
			t.Errorf("%q below %q: %s", tt.key, tt.prefix, diff)
		}
	}
}

func TestKeyFor(t *testing.T) {
	a, b := parsed(t, uuidA), parsed(t, uuidB)
	for _, tt := range []struct {
		prefix, path, want string
	}{
		{"pre/fix", "A", "pre/fix/A/" + uuidA + "_" + uuidB},
		{"", "x/A", "x/A/" + uuidA + "_" + uuidB},
		{"p", "a\n\x7f\xff%41%4z%", "p/a%0A%7F%FF%2541%4z%/" + uuidA + "_" + uuidB},
		{"p", "trash/A", "p/trash/A/" + uuidA + "_" + uuidB},
		{"p", "Trash/A", "p/Trash/A/" + uuidA + "_" + uuidB},
		{"", "trashed/A", "trashed/A/" + uuidA + "_" + uuidB},
		{"", "x/trash", "x/trash/" + uuidA + "_" + uuidB},
		{"p", "A.bs.x", "p/A.bs.x/" + uuidA + "_" + uuidB},
		{"p", strings.Repeat("x", 248), "p/" + strings.Repeat("x", 248) + "/" + uuidA + "_" + uuidB},
	} {
		s := open(t, newMemoryBucket(), tt.prefix)
		if got, err := s.keyFor(tt.path, snapshot.Edge{To: a, From: b}, seal.Form{}); err != nil || got != tt.want {
			t.Errorf("keyFor(%q) below %q = %q, %v", tt.path, tt.prefix, got, err)
		}
	}
	for _, tt := range []struct{ prefix, path string }{
		{"p", ""},
		{"p", "."},
		{"p", ".."},
		{"p", "../A"},
		{"p", "x/../A"},
		{"p", "/A"},
		{"p", "A/"},
		{"p", "x//A"},
		{"p", "A\x00"},
		{"p", "A.part"},
		{"", "trash"},
		{"", "trash/A"},
		{"", "Trash"},
		{"", "TRASH/A"},
		{"", ".buttersink-uploads/A"},
		{"p", "A.bs"},
		{"p", "A.bs/B"},
		{"p", ".buttersink-archive.json"},
		{"p", ".buttersink-archive.json/A"},
		{"p", "A/" + uuidA + "_None"},
		{"p", "A/" + uuidA + "_None.zst.json/x"},
		{"p", strings.Repeat("x", 252)},
		{"p", strings.Repeat("\x01", 85)},
		{"p", strings.Repeat("x/", 500) + "A"},
	} {
		s := open(t, newMemoryBucket(), tt.prefix)
		if got, err := s.keyFor(tt.path, snapshot.Edge{To: a, From: b}, seal.Form{}); err == nil {
			t.Errorf("keyFor(%q) below %q = %q", tt.path, tt.prefix, got)
		}
	}
}

// TestLongestKey: what is made from the key of a stream fits too.
func TestLongestKey(t *testing.T) {
	s := open(t, newMemoryBucket(), "p")
	e := snapshot.Edge{To: parsed(t, uuidA), From: parsed(t, uuidB)}
	for n := 1; ; n++ {
		p := strings.TrimSuffix(strings.Repeat("x/", n), "/")
		key, err := s.keyFor(p, e, seal.Form{Compressed: true, Cipher: seal.Age})
		if err != nil {
			if n < 400 {
				t.Errorf("a path of %d bytes does not fit", len(p))
			}
			return
		}
		if longest := manifestKey(trashKey(key, maxNumber)); len(longest) > maxKey {
			t.Fatalf("%d bytes", len(longest))
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, bad := range []string{"a//b", ".", "a/..", "trash", "trash/x", ".buttersink-uploads", strings.Repeat("x", 600)} {
		if s, err := Open(t.Context(), newMemoryBucket(), Options{Prefix: bad}); err == nil {
			t.Errorf("%q is taken, as %s", bad, s)
		}
	}
	for prefix, want := range map[string]string{"": "mem://bucket", "/a/b/": "mem://bucket/a/b", "trashed": "mem://bucket/trashed"} {
		if s := open(t, newMemoryBucket(), prefix); s.String() != want {
			t.Errorf("%q is %s", prefix, s)
		}
	}
}

// TestEscapeProperty: every path comes back from its key, and there is nothing in
// a key that is not text.
func TestEscapeProperty(t *testing.T) {
	names := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("aA0F29%éß\x01\x7f\n\ufffd")), 1, 12, -1),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte("aA0F29%\xc3\xa9\x80\xff\xe2\x82\xac\x1f")), 1, 12), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 12), func(b []byte) string { return string(b) }),
	).Filter(func(s string) bool { return !strings.ContainsAny(s, "/\x00") && s != "." && s != ".." })
	rapid.Check(t, func(t *rapid.T) {
		p := strings.Join(rapid.SliceOfN(names, 1, 4).Draw(t, "names"), "/")
		key := snapshot.EscapePath(p)
		if got := snapshot.UnescapePath(key); got != p {
			t.Fatalf("%q is %q in keys, which is %q", p, key, got)
		}
		if strings.ToValidUTF8(key, "") != key || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			t.Fatalf("%q is %q in keys", p, key)
		}
		var e snapshot.Edge
		e.To[0] = 1
		copy(e.From[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "from"))
		f := rapid.SampledFrom(forms).Draw(t, "form")
		prefix := rapid.SampledFrom([]string{"", "p", "p/q"}).Draw(t, "prefix")
		s := &Store{bucket: newMemoryBucket(), o: Options{Prefix: prefix}}
		whole, err := s.keyFor(p, e, f)
		if err != nil {
			return
		}
		want := named{isObject, p, e, f}
		if got := parseKey(prefix, whole); got != want {
			t.Fatalf("%q is read as %+v", whole, got)
		}
		want.kind = isDescr
		if got := parseKey(prefix, manifestKey(whole)); got != want {
			t.Fatalf("%q is read as %+v", manifestKey(whole), got)
		}
		for _, n := range []int{1, 2, maxNumber} {
			if got, ok := trashed(trashKey(whole, n)); !ok || got != whole {
				t.Fatalf("%q comes back from the trash as %q", whole, got)
			}
		}
		if got := parseKey(prefix, sizesKey(prefix, p)); got.kind != isSizes || got.path != p {
			t.Fatalf("%q is read as %+v", sizesKey(prefix, p), got)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, key := range []string{
		"p/A/" + uuidA + "_None", "/p/A/" + uuidA + "_" + uuidB + ".zst.age.json", "p/A.bs", "trash/p/A", "p/%01/../x", "p2/x", "p/%C3%A9%FF/" + uuidA + "_None",
	} {
		f.Add("p", key)
		f.Add("", key)
	}
	f.Fuzz(func(t *testing.T, prefix, key string) {
		if checkPrefix(prefix) != nil {
			return
		}
		n := parseKey(prefix, key)
		switch n.kind {
		case isObject, isDescr:
			if !clean(n.path) || n.edge.To.IsZero() || n.edge.To == n.edge.From {
				t.Fatalf("%q: %+v", key, n)
			}
			again := parseKey(prefix, streamKey(prefix, n.path, n.edge, n.form))
			if n.kind = isObject; again != n && checkPrefix(n.path) == nil {
				t.Fatalf("%q: %+v, but then %+v", key, n, again)
			}
		case isSizes:
			if !clean(n.path) {
				t.Fatalf("%q: %+v", key, n)
			}
		default:
			if n.path != "" && n.kind != foreign {
				t.Fatalf("%q: %+v", key, n)
			}
		}
	})
}
