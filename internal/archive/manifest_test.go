package archive

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sampleManifest(t testing.TB) *Manifest {
	s := open(t, newMemoryBucket(), "backups")
	s.now = func() time.Time { return time.Date(2026, 11, 21, 15, 4, 5, 678, time.FixedZone("CET", 3600)) }
	o := &stored{
		Object: Object{Size: 734031, Tag: "5d41402abc4b2a76b9719d911017c592-2"},
		Edge:   snapshot.Edge{To: parsed(t, uuidB), From: parsed(t, uuidA)}, Path: "home/<2026>\n", Form: seal.Form{Compressed: true, Cipher: seal.Age},
	}
	o.Key = s.canonical(o.Path, o.Edge, o.Form)
	m := s.describe(o)
	m.Protocol, m.ToTransid, m.FromTransid = 1, 1207, 1190
	m.Plain = Content{Bytes: 1501459, SHA256: Hash{1, 2, 3}}
	m.Object.SHA256 = Hash{0xff}
	m.Stream = StreamCount{Commands: 812, DataBytes: 1400021, Files: 31, Dirs: 2}
	m.Parts = ManifestParts{Size: 100 << 20, Count: 1}
	return m
}

// TestManifestGolden: format 1 stays as it is.
func TestManifestGolden(t *testing.T) {
	least := &Manifest{
		Format: 1, To: parsed(t, uuidA), Path: "A", Key: "A/" + uuidA + "_None", Object: ObjectContent{Bytes: 17},
	}
	for name, m := range map[string]*Manifest{"manifest.json": sampleManifest(t), "manifest-least.json": least} {
		file := filepath.Join("testdata", "v1", name)
		text := m.encode()
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, text, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), string(text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		got, err := parseManifest(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	good := func(change func(*Manifest)) []byte {
		m := sampleManifest(t)
		change(m)
		return m.encode()
	}
	// A manifest of another program may have no checksum.
	edited := func(old, now string) []byte {
		text := string(good(func(*Manifest) {}))
		at := strings.Index(text, `,
  "crc32c"`)
		changed := strings.Replace(text[:at]+"}", old, now, 1)
		if _, err := parseManifest([]byte(text[:at] + "}")); err != nil || changed == text[:at]+"}" {
			t.Errorf("%q: without a checksum: %v", old, err)
		}
		return []byte(changed)
	}
	for name, text := range map[string][]byte{
		"empty":              nil,
		"no JSON":            []byte("a manifest"),
		"two":                append(good(func(*Manifest) {}), good(func(*Manifest) {})...),
		"long":               append(good(func(*Manifest) {}), bytes.Repeat([]byte(" "), maxManifest)...),
		"no format":          good(func(m *Manifest) { m.Format = 0 }),
		"no edge":            good(func(m *Manifest) { m.To = snapshot.ID{} }),
		"a circle":           good(func(m *Manifest) { m.To = m.From }),
		"a path elsewhere":   good(func(m *Manifest) { m.Path = "a/../b" }),
		"a path unescaped":   good(func(m *Manifest) { m.Path = "a\nb" }),
		"no key":             good(func(m *Manifest) { m.Key = "" }),
		"an unknown cipher":  good(func(m *Manifest) { m.Form.Cipher = "rot13" }),
		"no length":          good(func(m *Manifest) { m.Object.Bytes = 0 }),
		"a negative length":  good(func(m *Manifest) { m.Plain.Bytes = -1 }),
		"a huge length":      good(func(m *Manifest) { m.Stream.DataBytes = 1<<62 + 1 }),
		"too many parts":     good(func(m *Manifest) { m.Parts.Count = 1 << 30 }),
		"an odd tag":         good(func(m *Manifest) { m.Object.Tag = "\x1b[2J" }),
		"a long author":      good(func(m *Manifest) { m.By = strings.Repeat("x", 300) }),
		"before computers":   edited("2026-11-21", "1816-11-21"),
		"half a hash":        edited("ff00", ""),
		"a hash in capitals": edited(`"ff00`, `"FF00`),
		"no text":            edited("buttersink", "butter\xff"),
	} {
		if m, err := parseManifest(text); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	_, err := parseManifest([]byte(`{"format": 2, "to": 7}`))
	if _, ok := errors.AsType[*newerError](err); !ok {
		t.Errorf("a newer one: %v", err)
	}
}

func TestPutManifest(t *testing.T) {
	b := newMemoryBucket()
	s := open(t, b, "backups")
	m := sampleManifest(t)
	o := &stored{Object: Object{Key: m.Key, Size: m.Object.Bytes}, Edge: snapshot.Edge{To: m.To, From: m.From}, Path: snapshot.UnescapePath(m.Path), Form: seal.Form{Compressed: true, Cipher: seal.Age}}
	if _, err := s.manifest(t.Context(), o); !errors.Is(err, ErrNoObject) {
		t.Errorf("before there is one: %v", err)
	}
	if err := s.putManifest(t.Context(), o.Key, m); err != nil {
		t.Fatal(err)
	}
	got, err := s.manifest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	o.Form = seal.Form{}
	if _, err := s.manifest(t.Context(), o); err == nil {
		t.Error("the manifest of another stream is taken")
	}
	m.Object.Bytes = -1
	if err := s.putManifest(t.Context(), o.Key, m); err == nil {
		t.Error("a manifest that cannot be read is put")
	}
}

func FuzzManifest(f *testing.F) {
	m := sampleManifest(f)
	f.Add(m.encode())
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`{"format":1,"to":"` + uuidA + `","path":"A","key":"A/x","object":{"bytes":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		again, err := parseManifest(m.encode())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, m.encode())
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
