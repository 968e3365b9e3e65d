package glacier

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
)

// Names in the catalogue begin with what they are about.
const (
	stateName     = "vault"
	objectPrefix  = "object/"  // and the key, escaped
	gonePrefix    = "gone/"    // and the ID of an archive
	closingPrefix = "closing/" // and the ID of an upload
)

// entry is what the catalogue has of an object.
type entry struct {
	ID      string    `json:"id"`
	Size    int64     `json:"size"`
	Tree    string    `json:"tree"`
	Created time.Time `json:"created"`
	// Inline is set if Content is the object's.
	Inline  bool   `json:"inline,omitempty"`
	Content []byte `json:"content,omitempty"`
	// Empty is set if the object has no bytes, and its archive one.
	Empty bool `json:"empty,omitempty"`
	// Seen is when the inventory was taken that told of it; zero if we stored it.
	Seen time.Time `json:"seen,omitzero"`
	// Upload is the ID of the upload that it was made by, if we know of one.
	Upload string `json:"upload,omitempty"`
}

// readable reports whether an object can be read without asking the vault.
func (e *entry) readable() bool { return e.Inline || e.Empty }

// object is the object as a bucket tells of it.
func (e *entry) object(key string) archive.Object {
	o := archive.Object{Key: key, Size: e.Size, Modified: e.Created, Tag: e.Tree}
	if e.Empty {
		o.Size = 0
	}
	if !e.readable() {
		o.Class, o.Cold, o.Fixed = Class, true, true
	}
	return o
}

// entryOf is the entry of an archive.
func entryOf(s Stored, empty bool) *entry {
	return &entry{ID: s.ID, Size: s.Size, Tree: s.Tree.String(), Created: s.Created, Empty: empty}
}

// state is what is known of the catalogue itself.
type state struct {
	// Known is set if the catalogue tells what is in the vault.
	Known bool `json:"known"`
	// Settled is set if nothing can be in the vault that the catalogue does not tell
	// of: as long as it is not, a newer inventory is waited for.
	Settled bool `json:"settled"`
	// Taken is when the newest inventory was taken that has been merged, and Merged
	// when it was.
	Taken  time.Time `json:"taken,omitzero"`
	Merged time.Time `json:"merged,omitzero"`
	// After is when the inventory has to have been taken that settles it.
	After time.Time `json:"after,omitzero"`
	// Vault is the vault's name for itself, with the account, and Made when it was
	// made, as it says that. Both are empty as long as it has not been asked.
	Vault string `json:"vault,omitempty"`
	Made  string `json:"made,omitempty"`
}

// gone is an archive that has been deleted. Inventories go on telling of it for a
// day or two.
type gone struct {
	When time.Time `json:"when"`
	// Owed is set if it has still to be deleted.
	Owed bool `json:"owed,omitempty"`
}

// closing is an upload that is about to be completed. It is written down before,
// so that the archive is not lost sight of when nobody learns how that ended.
type closing struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	PartSize int64     `json:"part_size"`
	Tree     string    `json:"tree"`
	Content  []byte    `json:"content,omitempty"`
	Begun    time.Time `json:"begun"`
}

// read reads an entry of the catalogue, and names it in an error.
func read[T any](place, name string, data []byte) (*T, error) {
	t := new(T)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("reading the catalogue of %s: %.200q: %w", place, name, err)
	}
	return t, nil
}

// enter writes an entry.
func (b *bucket) enter(name string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return b.c.Enter(b.place, name, data)
}

// enterNew writes an entry if there is none.
func (b *bucket) enterNew(name string, what any) (bool, error) {
	data, err := json.Marshal(what)
	if err != nil {
		return false, err
	}
	return b.c.EnterNew(b.place, name, data)
}

// find returns the entry of an object; nil if there is none.
func (b *bucket) find(key string) (*entry, error) {
	name := objectPrefix + escape(key)
	data, ok, err := b.c.Entry(b.place, name)
	if err != nil || !ok {
		return nil, err
	}
	return read[entry](b.place, name, data)
}

// contents is all that the catalogue has.
type contents struct {
	state   state
	objects map[string]*entry // by key
	gone    map[string]*gone
	closing map[string]*closing
	doubles map[string]*double // by name
}

// load reads the whole catalogue. What it does not know it leaves alone.
func (b *bucket) load() (*contents, error) {
	entries, err := b.c.Entries(b.place)
	if err != nil {
		return nil, err
	}
	all := &contents{objects: map[string]*entry{}, gone: map[string]*gone{}, closing: map[string]*closing{}, doubles: map[string]*double{}}
	for name, data := range entries {
		var err error
		if rest, ok := strings.CutPrefix(name, objectPrefix); ok {
			key, ok := unescape(rest)
			if !ok {
				return nil, fmt.Errorf("reading the catalogue of %s: %.200q is no key", b.place, name)
			}
			all.objects[key], err = read[entry](b.place, name, data)
		} else if id, ok := strings.CutPrefix(name, gonePrefix); ok {
			all.gone[id], err = read[gone](b.place, name, data)
		} else if id, ok := strings.CutPrefix(name, closingPrefix); ok {
			all.closing[id], err = read[closing](b.place, name, data)
		} else if strings.HasPrefix(name, doublePrefix) {
			all.doubles[name], err = read[double](b.place, name, data)
		} else if name == stateName {
			var s *state
			if s, err = read[state](b.place, name, data); err == nil {
				all.state = *s
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
