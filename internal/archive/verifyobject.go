package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/stream"
)

// result is what was found out about one object.
type result struct {
	grade     grade
	why       string
	read      int64
	whole     bool // all of it was read
	manifest  bool // it has one
	described bool // it got one
}

// worse adds to what is the matter with an object.
func (r *result) worse(g grade, why string) {
	r.grade = min(r.grade, g)
	if r.why != "" {
		why = r.why + "; " + why
	}
	r.why = why
}

// look finds out about an object.
func (v *verifier) look(ctx context.Context, o *stored) result {
	r := result{grade: sound, manifest: true}
	m := v.manifest(ctx, o, &r)
	if v.o.Data {
		v.readAll(ctx, o, m, &r)
	}
	return r
}

// manifest reads the manifest of an object, and compares it with what is listed,
// but for the path: an archive may have been moved. It returns nil where there is
// none, or none that says anything.
func (v *verifier) manifest(ctx context.Context, o *stored, r *result) *Manifest {
	if !o.Described {
		r.manifest = false
		return nil
	}
	text, err := v.s.small(ctx, manifestKey(o.Key), maxManifest)
	if err != nil {
		r.worse(unchecked, fmt.Sprintf("its manifest could not be read: %v", err))
		return nil
	}
	if err := checkSum(text); err != nil {
		r.worse(damaged, fmt.Sprintf("its manifest is damaged: %v", err))
		return nil
	}
	m, err := parseManifest(text)
	if newer, ok := errors.AsType[*newerError](err); ok {
		r.worse(unchecked, newer.Error())
		return nil
	}
	if err != nil {
		r.worse(damaged, fmt.Sprintf("its manifest is damaged: %v", err))
		return nil
	}
	switch {
	case !m.of(o.Edge, o.Form) || path.Base(m.Key) != path.Base(o.Key):
		r.worse(damaged, fmt.Sprintf("its manifest is that of %s", printable(m.Key)))
		return nil
	case m.Object.Bytes != o.Size:
		r.worse(damaged, fmt.Sprintf("it has %d bytes, and %d by its manifest", o.Size, m.Object.Bytes))
	}
	return m
}

// readAll reads an object to its end, and what is in it if there is a key.
func (v *verifier) readAll(ctx context.Context, o *stored, m *Manifest, r *result) {
	if o.Cold {
		// A listing need not know what has been thawed.
		if there, err := v.s.bucket.Stat(ctx, o.Key); err != nil || there.Cold {
			r.worse(unchecked, (&ColdError{Key: printable(o.Key), Class: o.Class}).Error())
			return
		}
	}
	raw := v.s.raw(ctx, o.Key, o.Size)
	defer raw.Close()
	src := &watched{src: raw, digest: digest{sum: sha256.New()}, passed: v.passed}
	if a, ok := raw.(*ahead); ok {
		a.sum, src.elsewhere = src.sum, true
	}
	found, bad := v.open(ctx, o, src)
	// The digest of the object is worth knowing whatever is wrong with the stream,
	// and nothing may follow unseen.
	_, _ = io.CopyBuffer(onlyWriter{io.Discard}, struct{ io.Reader }{src}, make([]byte, 64<<10))
	r.read = src.n
	if src.err != nil {
		r.worse(unchecked, fmt.Sprintf("it could not be read behind byte %d of %d: %v", src.n, o.Size, src.err))
		return
	}
	r.whole = true
	if src.n != o.Size {
		r.worse(damaged, fmt.Sprintf("it has %d bytes, and is listed with %d", src.n, o.Size))
	}
	found.object = Content{Bytes: src.n, SHA256: src.hash()}
	if o.Form.Plain() {
		found.plain = found.object
	}
	compared := m != nil && !m.Object.SHA256.IsZero()
	if compared && m.Object.SHA256 != found.object.SHA256 {
		r.worse(damaged, "its SHA-256 is not the one in its manifest")
	}
	var noKey *seal.NoKeyError
	var isBad *seal.DamagedError
	var isBroken *stream.Error
	switch {
	case bad == nil:
		if why := found.differs(o, m); why != "" {
			r.worse(damaged, why)
		}
	case errors.As(bad, &noKey) && compared:
		r.worse(unchecked, fmt.Sprintf("its SHA-256 was looked at, and nothing else: %v", bad))
	case errors.As(bad, &isBad), errors.As(bad, &isBroken):
		r.worse(damaged, bad.Error())
	default:
		r.worse(unchecked, bad.Error())
	}
	if v.o.Write && !r.manifest && r.grade == sound {
		r.described = v.describe(ctx, o, found)
	}
}

// contents are what was found in an object.
type contents struct {
	object, plain Content
	identity      stream.Identity
	version       uint32
	stats         stream.Stats
}

// open reads the stream in an object from its beginning to its end, with all of
// its checksums. Its error is about the stream, or what keeps it from being known.
func (v *verifier) open(ctx context.Context, o *stored, src io.Reader) (found contents, err error) {
	opened, err := seal.NewReader(ctx, src, o.Form, v.s.o.Keys)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	in := &watched{src: opened}
	if !o.Form.Plain() {
		in.sum = sha256.New()
		in.beside = &sideSum{sum: in.sum}
		defer in.beside.end()
	}
	r := stream.NewReader(in)
	for err == nil {
		_, err = r.NextRun()
	}
	if err != io.EOF { //nolint:errorlint // Reader says io.EOF itself
		return found, err
	}
	found.version, found.stats = r.Version(), r.Stats()
	found.identity, err = r.Identity()
	if in.sum != nil {
		found.plain = Content{Bytes: in.n, SHA256: in.hash()}
	}
	return found, err
}

// count is what a manifest says of a stream.
func (c *contents) count() StreamCount {
	return StreamCount{
		Commands: c.stats.Commands, DataBytes: c.stats.DataBytes, Files: c.stats.Files, Dirs: c.stats.Dirs, Clones: c.stats.Clones,
	}
}

// differs says in what a whole stream is not the one that was announced; nothing
// if it is.
func (c *contents) differs(o *stored, m *Manifest) string {
	is := snapshot.Edge{To: c.identity.UUID, From: c.identity.Parent}
	if is != o.Edge {
		return "its stream is that of " + edgeName(is, seal.Form{})
	}
	if m == nil {
		return ""
	}
	switch {
	case m.Plain.Bytes != 0 && m.Plain.Bytes != c.plain.Bytes, !m.Plain.SHA256.IsZero() && m.Plain.SHA256 != c.plain.SHA256:
		return "its stream is whole, but not the one of its manifest"
	case m.Protocol != 0 && m.Protocol != c.version:
		return fmt.Sprintf("its stream is of protocol %d, and %d by its manifest", c.version, m.Protocol)
	case m.Stream != (StreamCount{}) && m.Stream != c.count():
		return "its manifest has watched another stream"
	}
	return ""
}

// describe stores a manifest of what was found, and reports whether that worked.
func (v *verifier) describe(ctx context.Context, o *stored, c contents) bool {
	m := v.s.describe(o)
	m.Protocol, m.Plain, m.Stream = c.version, c.plain, c.count()
	m.Object.Bytes, m.Object.SHA256 = c.object.Bytes, c.object.SHA256
	m.ToTransid, m.FromTransid = c.identity.Transid, c.identity.ParentTransid
	if err := v.s.putManifest(ctx, o.Key, m); err != nil {
		v.s.log.Warn("a stream did not get its manifest", "object", printable(o.Key), "error", err)
		return false
	}
	return true
}

// watched passes bytes on, and knows how many, their digest, and what kept them
// from coming. Gpg may still be reading when others do.
type watched struct {
	mu  sync.Mutex
	src io.Reader
	digest
	passed func(int) // may be nil
	n      int64
	err    error // not io.EOF
}

func (c *watched) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.src.Read(p)
	c.n += int64(n)
	c.add(p[:n])
	if c.passed != nil && n > 0 {
		c.passed(n)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader says io.EOF itself
		c.err = err
	}
	return n, err
}

// onlyWriter hides ReadFrom, which has small buffers.
type onlyWriter struct{ io.Writer }
