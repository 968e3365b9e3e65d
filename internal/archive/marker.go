package archive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// markerVersion is the version of archives that we write into.
	markerVersion = 1
	// maxMarker is how many bytes a marker may have.
	maxMarker = 4 << 10
)

// marker is what an archive says of itself.
type marker struct {
	Version           int         `json:"version"`
	ID                snapshot.ID `json:"id"`
	Created           time.Time   `json:"created"`
	RequireEncryption bool        `json:"require_encryption"`

	hidden error // why it could not be read, if there may be one
}

// InitOptions say what an archive promises.
type InitOptions struct {
	// RequireEncryption has nothing stored that is not encrypted, by whomever.
	RequireEncryption bool
}

// Init makes the archive known as one, with a marker at its prefix. Where there
// is one already, it fails with *store.ExistsError, unless that does not require
// encryption yet and from now on should; there is no way back.
func (s *Store) Init(ctx context.Context, o InitOptions) error {
	key := below(s.o.Prefix, markerName)
	m := &marker{Version: markerVersion, Created: s.now().UTC().Truncate(time.Second), RequireEncryption: o.RequireEncryption}
	rand.Read(m.ID[:])
	m.ID[6], m.ID[8] = m.ID[6]&0x0f|0x40, m.ID[8]&0x3f|0x80 // RFC 9562, version 4
	err := s.putMarker(ctx, key, m, true)
	if errors.Is(err, ErrTaken) {
		there, err := s.readMarker(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("making an archive in %s: %w", s, err)
		case there == nil || there.RequireEncryption || !o.RequireEncryption:
			return &store.ExistsError{Path: s.String(), What: "an archive"}
		}
		there.RequireEncryption = true
		m = there
		if err := s.putMarker(ctx, key, m, false); err != nil {
			return fmt.Errorf("having %s require encryption: %w", s, err)
		}
	} else if err != nil {
		return fmt.Errorf("making an archive in %s: %w", s, err)
	}
	s.mu.Lock()
	s.marker = m
	s.mu.Unlock()
	return nil
}

func (s *Store) putMarker(ctx context.Context, key string, m *marker, once bool) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.bucket.Put(ctx, key, append(text, '\n'), once)
}

// readMarker returns what the archive says of itself, or nil.
func (s *Store) readMarker(ctx context.Context) (*marker, error) {
	text, err := s.small(ctx, below(s.o.Prefix, markerName), maxMarker)
	if errors.Is(err, ErrNoObject) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseMarker(text)
}

func parseMarker(text []byte) (*marker, error) {
	m := new(marker)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("reading the marker %s: %w", markerName, err)
	}
	if m.Version > markerVersion {
		return nil, &newerError{"the archive", m.Version}
	}
	if m.Version < 1 || !sensible(m.Created) {
		return nil, fmt.Errorf("reading the marker %s: it is not one", markerName)
	}
	return m, nil
}

// needsMarker reports whether nothing may be written without a marker: an empty
// mount point has none, and is no archive.
func (s *Store) needsMarker() bool { return strings.HasPrefix(s.bucket.String(), "dir:") }

// marked makes sure that the archive is one that may be changed, and returns what
// it says of itself. It asks the bucket once.
func (s *Store) marked(ctx context.Context) (*marker, error) {
	s.mu.Lock()
	m := s.marker
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := s.readMarker(ctx)
	switch {
	case (denied(err) || errors.Is(err, store.ErrCold)) && !s.needsMarker():
		m = &marker{hidden: err}
	case err != nil:
		return nil, fmt.Errorf("asking whether %s may be written to: %w", s, err)
	case m == nil && s.needsMarker():
		return nil, fmt.Errorf("%s is not an archive yet, or not mounted: there is no %s in it; \"buttersink init\" makes it one", s, markerName)
	case m == nil:
		m = new(marker)
	}
	s.mu.Lock()
	s.marker = m
	s.mu.Unlock()
	return m, nil
}

// writable says why no stream may be stored in the form in which we store
// streams.
func (s *Store) writable(ctx context.Context) error {
	m, err := s.marked(ctx)
	if err != nil {
		return err
	}
	if s.o.Seal.Form().Cipher != seal.None {
		return nil // all that a marker can ask for is done
	}
	if m.hidden != nil {
		return fmt.Errorf("asking whether %s takes what is not encrypted: %w", s, m.hidden)
	}
	if m.RequireEncryption || s.o.RequireEncryption {
		return fmt.Errorf("storing in %s: nothing is stored there that is not encrypted; say for whom, with --encrypt", s)
	}
	return nil
}
