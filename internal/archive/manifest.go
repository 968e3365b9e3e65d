package archive

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
)

const (
	// manifestFormat is the version of manifests that we write, and read.
	manifestFormat = 1
	// maxManifest is how many bytes a manifest may have.
	maxManifest = 64 << 10
	// maxLength is the greatest length that is believed, in bytes: 4 EiB.
	maxLength = 1 << 62
	// maxWords is how many bytes a text in a manifest may have that is no key.
	maxWords = 256
)

// Manifest describes an object that holds a stream, and proves it. What is not
// known is zero.
type Manifest struct {
	Format int         `json:"format"`
	To     snapshot.ID `json:"to"`
	From   snapshot.ID `json:"from,omitzero"`
	// Path and Key are as they stand in keys: escaped. Key is what it was when the
	// object was stored; an archive may have been copied since.
	Path string       `json:"path"`
	Key  string       `json:"key"`
	Form ManifestForm `json:"form"`
	// Protocol is the version of the send stream.
	Protocol uint32 `json:"protocol,omitzero"`
	// Plain is the stream itself, Object what is stored of it.
	Plain  Content       `json:"plain,omitzero"`
	Object ObjectContent `json:"object"`
	Stream StreamCount   `json:"stream,omitzero"`
	// The effective transaction numbers of both ends.
	ToTransid   uint64        `json:"to_transid,omitzero"`
	FromTransid uint64        `json:"from_transid,omitzero"`
	Parts       ManifestParts `json:"parts,omitzero"`
	Created     time.Time     `json:"created,omitzero"`
	By          string        `json:"by,omitzero"`
}

// ManifestForm is a seal.Form.
type ManifestForm struct {
	Compressed bool        `json:"compressed"`
	Cipher     seal.Cipher `json:"cipher,omitzero"`
}

// Content is a length and what proves it.
type Content struct {
	Bytes  int64 `json:"bytes"`
	SHA256 Hash  `json:"sha256,omitzero"`
}

// ObjectContent is the content of an object, and what its bucket calls it.
type ObjectContent struct {
	Bytes  int64  `json:"bytes"`
	SHA256 Hash   `json:"sha256,omitzero"`
	Tag    string `json:"tag,omitzero"`
}

// StreamCount counts what is in a stream.
type StreamCount struct {
	Commands  int64 `json:"commands"`
	DataBytes int64 `json:"data_bytes"`
	Files     int64 `json:"files"`
	Dirs      int64 `json:"dirs"`
	Clones    int64 `json:"clones"`
}

// ManifestParts say how an object was uploaded.
type ManifestParts struct {
	Size  int64 `json:"size"` // bytes of each but the last
	Count int   `json:"count"`
}

// Hash is a SHA-256. Zero is one that is not known.
type Hash [32]byte

// IsZero reports whether the hash is not known.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the hash in lower-case hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) || bytes.ContainsAny(text, "ABCDEF") {
		return errors.New("a SHA-256 has 64 lower-case hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// describe begins the manifest of an object: what it is, less what is in it.
func (s *Store) describe(o *stored) *Manifest {
	m := &Manifest{
		Format: manifestFormat, To: o.Edge.To, From: o.Edge.From,
		Path: snapshot.EscapePath(o.Path), Key: strings.ToValidUTF8(o.Key, "\ufffd"),
		Form: ManifestForm{Compressed: o.Form.Compressed, Cipher: o.Form.Cipher},
		By:   "buttersink", Created: s.now().UTC().Truncate(time.Second),
		Object: ObjectContent{Bytes: o.Size, Tag: o.Tag},
	}
	if s.o.Version != "" {
		m.By += " " + s.o.Version
	}
	return m
}

// of reports whether the manifest is about the stream of an edge in a form.
func (m *Manifest) of(e snapshot.Edge, f seal.Form) bool {
	return m.To == e.To && m.From == e.From && m.Form.Compressed == f.Compressed && m.Form.Cipher == f.Cipher
}

// encode returns the text of a manifest.
func (m *Manifest) encode() []byte {
	written := *m
	if !sensible(m.Created) {
		written.Created = time.Time{} // JSON has no such years
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(&written); err != nil {
		return nil // nothing in it can fail; an empty text is no manifest
	}
	return addSum(b.Bytes())
}

// sensible reports whether a time is one that a clock may have shown.
func sensible(t time.Time) bool { return t.IsZero() || t.Year() >= 1970 && t.Year() <= 9999 }

// newerError says that something was written in a format that we do not know.
type newerError struct {
	what    string
	version int
}

func (e *newerError) Error() string {
	return fmt.Sprintf("%s has format %d, which this version does not know: use a newer one", e.what, e.version)
}

// parseManifest reads a manifest that somebody has written. Fields that it does
// not know do not matter.
func parseManifest(text []byte) (*Manifest, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("reading a manifest: it has more than %d bytes", maxManifest)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("reading a manifest: it is not UTF-8")
	}
	if err := checkSum(text); err != nil && !errors.Is(err, errNoSum) {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if version.Format > manifestFormat {
		return nil, &newerError{"the manifest", version.Format}
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	return m, nil
}

// check says what cannot be in a manifest.
func (m *Manifest) check() error {
	path := snapshot.UnescapePath(m.Path)
	switch {
	case m.Format != manifestFormat:
		return fmt.Errorf("its format is %d", m.Format)
	case m.To.IsZero() || m.To == m.From:
		return errors.New("it names no edge")
	case len(m.Path) > maxKey || !clean(m.Path) || !clean(path) || snapshot.EscapePath(path) != m.Path:
		return errors.New("its path is none that keys have")
	case m.Key == "" || len(m.Key) > maxKey:
		return errors.New("its key is none that a bucket has")
	case m.Form.Cipher != seal.None && m.Form.Cipher != seal.Age && m.Form.Cipher != seal.GPG:
		return fmt.Errorf("its cipher is %s", printable(string(m.Form.Cipher)))
	case !sensible(m.Created):
		return errors.New("its time is none that a clock has shown")
	case m.Object.Bytes <= 0:
		return errors.New("its object has no length")
	case m.Parts.Count > maxParts:
		return fmt.Errorf("its object has %d parts", m.Parts.Count)
	}
	for _, n := range []int64{
		m.Plain.Bytes, m.Object.Bytes, m.Stream.Commands, m.Stream.DataBytes, m.Stream.Files, m.Stream.Dirs,
		m.Stream.Clones, m.Parts.Size, int64(m.Parts.Count), int64(m.Protocol),
	} {
		if n < 0 || n > maxLength {
			return fmt.Errorf("it counts %d of something", n)
		}
	}
	for _, text := range []string{m.Object.Tag, m.By} {
		if printable(text) != text || len(text) > maxWords {
			return errors.New("there is a text in it that no program has written")
		}
	}
	m.Created = m.Created.UTC()
	return nil
}

// maxParts is how many parts are believed of an object.
const maxParts = 1_000_000

// manifest reads the manifest of an object. ErrNoObject if there is none; any
// other error, unless it is temporary, says that what is there is not its
// manifest. Whether the manifest tells the truth is not looked at.
func (s *Store) manifest(ctx context.Context, o *stored) (*Manifest, error) {
	text, err := s.small(ctx, manifestKey(o.Key), maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	if !m.of(o.Edge, o.Form) {
		return nil, errors.New("the manifest is about another stream")
	}
	return m, nil
}

// putManifest stores the manifest of the object with a key, in place of the one
// that is there.
func (s *Store) putManifest(ctx context.Context, key string, m *Manifest) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("describing %s: %w", printable(key), err)
	}
	if err := s.bucket.Put(ctx, manifestKey(key), m.encode(), false); err != nil {
		return fmt.Errorf("describing %s: %w", printable(key), err)
	}
	return nil
}

// small reads an object as a whole that should have at most a number of bytes.
func (s *Store) small(ctx context.Context, key string, most int64) (_ []byte, err error) {
	r, err := s.bucket.Get(ctx, key, 0, most+1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", printable(key), err)
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("reading %s: it has more than %d bytes", printable(key), most)
	}
	return text, nil
}
