package glaciertest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// most is how long an archive of one request, or a part, may be.
const most = 4 << 30

// description reads and checks that of an archive.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-archive-post.html
func description(c *call) (string, error) {
	text := strings.TrimLeft(c.Header.Get("X-Amz-Archive-Description"), " \t")
	if len(text) > 1024 {
		return "", invalid("The archive description is longer than 1024 characters.")
	}
	for _, b := range []byte(text) {
		if b < 0x20 || b > 0x7e {
			return "", invalid("Invalid archive description: it has the byte %#x.", b)
		}
	}
	return text, nil
}

// tree checks the tree hash that was sent with data.
func treeHash(c *call) error {
	switch sum := c.Header.Get("X-Amz-Sha256-Tree-Hash"); sum {
	case "":
		return missing("x-amz-sha256-tree-hash")
	case c.body.tree:
		return nil
	default:
		return invalid("Checksum mismatch: expected %s and received %s", sum, c.body.tree)
	}
}

func (s *Server) uploadArchive(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	about, err := description(c)
	if err != nil {
		return nil, err
	}
	if c.ContentLength < 0 {
		return nil, missing("Content-Length")
	}
	if err := treeHash(c); err != nil {
		return nil, err
	}
	if c.body.size < 1 || c.body.size > most {
		return nil, invalid("Invalid Content-Length: %d", c.body.size)
	}
	a, err := s.state.add(v, about, c.body)
	if err != nil {
		return nil, err
	}
	return s.created(v, a), nil
}

// created tells of a new archive.
func (s *Server) created(v *vault, a *archive) *answer {
	h := location(v.Name, "archives", a.ID)
	h["X-Amz-Archive-Id"] = a.ID
	h["X-Amz-Sha256-Tree-Hash"] = a.Tree
	return &answer{status: http.StatusCreated, header: h}
}

func (s *Server) deleteArchive(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	if v.archives[c.id] == nil {
		return nil, notFound("The archive ID was not found: %s", c.id)
	}
	if err := s.state.remove(v, c.id); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}

// inventory returns the archives that were in the vault when the newest inventory
// was taken that can be had at a time: at the first midnight after the last change
// before the midnight a day ago. ok is false if there is none yet.
// docs.aws.amazon.com/amazonglacier/latest/dev/vault-inventory.html
func (v *vault) inventory(now time.Time) (taken time.Time, all []*archive, ok bool) {
	const day = 24 * time.Hour
	newest := now.Add(-InventoryDelay).Truncate(day)
	var last time.Time
	for _, a := range v.archives {
		for _, at := range []time.Time{a.Created, a.Deleted} {
			if !at.After(newest) && at.After(last) {
				last = at
			}
		}
	}
	if last.IsZero() {
		return time.Time{}, nil, false
	}
	taken = last.Truncate(day)
	if taken.Before(last) {
		taken = taken.Add(day)
	}
	for _, a := range v.archives {
		if !a.Created.After(taken) && (a.Deleted.IsZero() || a.Deleted.After(taken)) {
			all = append(all, a)
		}
	}
	return taken, all, true
}

// number reads a header that has to be one.
func number(c *call, header string) (int64, error) {
	text := c.Header.Get(header)
	if text == "" {
		return 0, missing(strings.ToLower(header))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalid("Invalid %s: %s", strings.ToLower(header), text)
	}
	return n, nil
}
