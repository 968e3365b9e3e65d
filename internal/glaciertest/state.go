package glaciertest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// state is everything the service knows. Each thing is a small file of its own,
// replaced as a whole, so that whatever was answered is there after any end:
//
//	clock.json
//	data/ID                      the bytes of an archive
//	parts/UPLOAD/OFFSET          those of a part
//	spool/                       bodies on their way in
//	vaults/=NAME/vault.json
//	vaults/=NAME/archives/ID.json, uploads/ID.json, jobs/ID.json
type state struct {
	dir    string
	offset time.Duration // of the clock to the real time
	vaults map[string]*vault
	made   int64 // the number of the last thing that was made
}

type vault struct {
	Name    string
	Created time.Time

	archives map[string]*archive
	uploads  map[string]*upload
	jobs     map[string]*job
}

// archive stays known after it was deleted, as old inventories have it.
type archive struct {
	Number          int64 // of all things made, in their order
	ID, Description string
	Size            int64
	Tree            string
	Created         time.Time
	Deleted         time.Time // zero as long as it is not
}

type upload struct {
	Number          int64
	ID, Description string
	PartSize        int64
	Begun, Touched  time.Time
	Parts           map[int64]part // by offset
	// Archive is what it became, and Completed when; Aborted when it was dropped.
	Archive            string
	Completed, Aborted time.Time
}

type part struct {
	Size int64
	Tree string
}

// load reads what is in a directory, and makes it if it is not there. The offset
// is for a new one.
func load(dir string, offset time.Duration) (*state, error) {
	s := &state{dir: dir, offset: offset, vaults: map[string]*vault{}}
	for _, d := range []string{"data", "parts", "spool", "vaults"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	err := readJSON(filepath.Join(dir, "clock.json"), &s.offset)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.saveClock()
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "vaults"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		v := newVault(strings.TrimPrefix(e.Name(), "="))
		at := filepath.Join(dir, "vaults", e.Name())
		if err := readJSON(filepath.Join(at, "vault.json"), v); errors.Is(err, fs.ErrNotExist) {
			continue // killed while it was made, or deleted
		} else if err != nil {
			return nil, err
		}
		if err := errors.Join(
			readAll(filepath.Join(at, "archives"), v.archives),
			readAll(filepath.Join(at, "uploads"), v.uploads),
			readAll(filepath.Join(at, "jobs"), v.jobs),
		); err != nil {
			return nil, err
		}
		s.vaults[v.Name] = v
		for _, a := range v.archives {
			s.made = max(s.made, a.Number)
		}
		for _, u := range v.uploads {
			s.made = max(s.made, u.Number)
		}
		for _, j := range v.jobs {
			s.made = max(s.made, j.Number)
		}
	}
	return s, nil
}

// number is that of something new.
func (s *state) number() int64 {
	s.made++
	return s.made
}

func newVault(name string) *vault {
	return &vault{Name: name, archives: map[string]*archive{}, uploads: map[string]*upload{}, jobs: map[string]*job{}}
}

func readAll[T any](dir string, all map[string]*T) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue // a write that a kill has cut
		}
		one := new(T)
		if err := readJSON(filepath.Join(dir, e.Name()), one); err != nil {
			return err
		}
		all[id] = one
	}
	return nil
}

func readJSON(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}

func writeJSON(file string, from any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (s *state) now() time.Time { return time.Now().Add(s.offset).UTC().Truncate(time.Millisecond) }

func (s *state) saveClock() error { return writeJSON(filepath.Join(s.dir, "clock.json"), s.offset) }

func (s *state) at(vault string) string { return filepath.Join(s.dir, "vaults", "="+vault) }

// save keeps one thing of a vault.
func (s *state) save(vault, kind, id string, what any) error {
	return writeJSON(filepath.Join(s.at(vault), kind, id+".json"), what)
}

// data is where the bytes of an archive are.
func (s *state) data(id string) string { return filepath.Join(s.dir, "data", id) }

func (s *state) partFile(upload string, offset int64) string {
	return filepath.Join(s.dir, "parts", upload, fmt.Sprint(offset))
}

func (s *state) names() []string { return slices.Sorted(maps.Keys(s.vaults)) }

// create makes a vault, or returns it if it is there.
func (s *state) create(name string) (*vault, error) {
	if v := s.vaults[name]; v != nil {
		return v, nil
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	v := newVault(name)
	v.Created = s.now()
	for _, kind := range []string{"archives", "uploads", "jobs"} {
		if err := os.MkdirAll(filepath.Join(s.at(name), kind), 0o700); err != nil {
			return nil, err
		}
	}
	if err := writeJSON(filepath.Join(s.at(name), "vault.json"), v); err != nil {
		return nil, err
	}
	s.vaults[name] = v
	return v, nil
}

// drop forgets a vault. Its description goes first, without which there is none.
func (s *state) drop(v *vault) error {
	if err := os.Remove(filepath.Join(s.at(v.Name), "vault.json")); err != nil {
		return err
	}
	delete(s.vaults, v.Name)
	return os.RemoveAll(s.at(v.Name))
}

// add makes an archive of a body.
func (s *state) add(v *vault, description string, b *body) (*archive, error) {
	a := &archive{Number: s.number(), ID: newID(archiveID), Description: description, Size: b.size, Tree: b.tree, Created: s.now()}
	if err := os.Rename(b.file, s.data(a.ID)); err != nil {
		return nil, err
	}
	if err := s.save(v.Name, "archives", a.ID, a); err != nil {
		return nil, err
	}
	v.archives[a.ID] = a
	return a, nil
}

// remove deletes an archive, if it is there. Its bytes stay for retrievals.
func (s *state) remove(v *vault, id string) error {
	a := v.archives[id]
	if a == nil || !a.Deleted.IsZero() {
		return nil
	}
	a.Deleted = s.now()
	needed := false
	for _, j := range v.jobs {
		if j.Archive != id || j.expired(a.Deleted) {
			continue
		}
		if a.Deleted.Before(j.Due) {
			j.Failed = true
			if err := s.save(v.Name, "jobs", j.ID, j); err != nil {
				return err
			}
			continue
		}
		needed = true
	}
	if err := s.save(v.Name, "archives", id, a); err != nil {
		return err
	}
	if needed {
		return nil
	}
	return os.Remove(s.data(id))
}

// alive tells whether an upload can still be gone on with.
func (s *state) alive(u *upload) bool {
	return u.Completed.IsZero() && u.Aborted.IsZero() && s.now().Before(u.Touched.Add(UploadKept))
}

// body is what a request has sent, in a file.
type body struct {
	file   string
	size   int64
	linear string // SHA-256, in hexadecimal
	tree   string
}

// spool takes a body in.
func (s *state) spool(r io.Reader) (*body, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "spool"), "")
	if err != nil {
		return nil, err
	}
	linear, tree := sha256.New(), newTree()
	n, err := io.Copy(io.MultiWriter(f, linear, tree), r)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return nil, err
	}
	return &body{
		file: f.Name(), size: n, linear: hex.EncodeToString(linear.Sum(nil)), tree: hex.EncodeToString(tree.root()),
	}, nil
}

// The IDs of the service are of these many characters, and may begin with any of
// their alphabet, a minus sign included.
const (
	archiveID = 138
	uploadID  = 92
	jobID     = 92
)

func newID(length int) string {
	b := make([]byte, length)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)[:length]
}
