package glaciertest

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// The methods in this file look at the server from the side, past the program
// under test and past the API's delays.

// Archive is an archive as it is in a vault now.
type Archive struct {
	ID, Description string
	Size            int64
	Tree            string // the tree hash, in hexadecimal
	Created         time.Time
}

// Upload is a multipart upload that was begun and is not complete.
type Upload struct {
	ID, Description string
	PartSize        int64
	Begun           time.Time
	Parts           int
}

// Job is a job that was accepted, long ago perhaps.
type Job struct {
	ID      string
	Archive string // empty for an inventory
	Tier    string // "Bulk", as asked for or by default; empty for an inventory
	Asked   time.Time
	Due     time.Time // when it is, or was, done
	Expired bool      // its output is not there any more
	Failed  bool
}

// Make makes a vault.
func (s *Server) Make(t testing.TB, vault string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.state.create(vault); err != nil {
		t.Fatalf("making vault %s: %v", vault, err)
	}
}

// Drop deletes a vault, with what is in it.
func (s *Server) Drop(t testing.TB, vault string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.state.drop(s.vault(t, vault)); err != nil {
		t.Fatalf("deleting vault %s: %v", vault, err)
	}
}

// Vaults returns the names of all vaults, sorted.
func (s *Server) Vaults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.names()
}

// Put makes an archive and returns its ID. There may be the vault already.
func (s *Server) Put(t testing.TB, vault, description string, data []byte) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.state.create(vault)
	if err != nil {
		t.Fatalf("making vault %s: %v", vault, err)
	}
	body, err := s.state.spool(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("storing an archive: %v", err)
	}
	a, err := s.state.add(v, description, body)
	if err != nil {
		t.Fatalf("storing an archive: %v", err)
	}
	return a.ID
}

// Delete removes an archive.
func (s *Server) Delete(t testing.TB, vault, id string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.state.remove(s.vault(t, vault), id); err != nil {
		t.Fatalf("deleting %s: %v", id, err)
	}
}

// Archives returns the archives of a vault, the oldest first.
func (s *Server) Archives(t testing.TB, vault string) []Archive {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Archive
	for _, a := range inOrder(s.vault(t, vault).archives, func(a *archive) int64 { return a.Number }) {
		if a.Deleted.IsZero() {
			all = append(all, Archive{ID: a.ID, Description: a.Description, Size: a.Size, Tree: a.Tree, Created: a.Created})
		}
	}
	return all
}

// Content returns what an archive holds.
func (s *Server) Content(t testing.TB, vault, id string) []byte {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.vault(t, vault).archives[id]
	if a == nil || !a.Deleted.IsZero() {
		t.Fatalf("there is no archive %s", id)
	}
	f, err := os.Open(s.state.data(id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Uploads returns the uploads of a vault that are not complete, the oldest first.
func (s *Server) Uploads(t testing.TB, vault string) []Upload {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Upload
	for _, u := range inOrder(s.vault(t, vault).uploads, func(u *upload) int64 { return u.Number }) {
		if s.state.alive(u) {
			all = append(all, Upload{ID: u.ID, Description: u.Description, PartSize: u.PartSize, Begun: u.Begun, Parts: len(u.Parts)})
		}
	}
	return all
}

// Jobs returns all jobs that were ever accepted, the oldest first.
func (s *Server) Jobs(t testing.TB, vault string) []Job {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Job
	now := s.state.now()
	for _, j := range inOrder(s.vault(t, vault).jobs, func(j *job) int64 { return j.Number }) {
		all = append(all, Job{
			ID: j.ID, Archive: j.Archive, Tier: j.Tier, Asked: j.Asked, Due: j.Due,
			Expired: j.expired(now), Failed: j.Failed,
		})
	}
	return all
}

// Asked is how many times an archive was ever asked for, and for an empty ID, the
// inventory.
func (s *Server) Asked(t testing.TB, vault, id string) int {
	t.Helper()
	n := 0
	for _, j := range s.Jobs(t, vault) {
		if j.Archive == id {
			n++
		}
	}
	return n
}

// FailJob has a job that is in progress fail when it is due.
func (s *Server) FailJob(t testing.TB, vault, id string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.vault(t, vault).jobs[id]
	if j == nil {
		t.Fatalf("there is no job %s", id)
	}
	j.Failed = true
	if err := s.state.save(vault, "jobs", j.ID, j); err != nil {
		t.Fatalf("failing job %s: %v", id, err)
	}
}

func (s *Server) vault(t testing.TB, name string) *vault {
	t.Helper()
	v := s.state.vaults[name]
	if v == nil {
		t.Fatalf("there is no vault %s", name)
	}
	return v
}

// inOrder sorts things by when they were made.
func inOrder[T any](all map[string]*T, number func(*T) int64) []*T {
	return slices.SortedFunc(maps.Values(all), func(a, b *T) int { return cmp.Compare(number(a), number(b)) })
}
