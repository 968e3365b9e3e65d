package glaciertest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// mostParts is how many an upload may have
// (docs.aws.amazon.com/amazonglacier/latest/dev/uploading-archive-mpu.html).
const mostParts = 10000

// uploadJSON is an upload as it is listed.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-multipart-list-uploads.html
type uploadJSON struct {
	ArchiveDescription *string
	CreationDate       string
	MultipartUploadID  string `json:"MultipartUploadId"`
	PartSizeInBytes    int64
	VaultARN           string
}

type partJSON struct {
	RangeInBytes   string
	SHA256TreeHash string
}

// open returns the upload a call names, if it can be gone on with, and the vault.
func (s *Server) open(c *call) (*vault, *upload, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, nil, err
	}
	u := v.uploads[c.id]
	if u == nil || !s.state.alive(u) {
		return nil, nil, notFound("The upload ID was not found: %s", c.id)
	}
	return v, u, nil
}

func (s *Server) initiateUpload(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	about, err := description(c)
	if err != nil {
		return nil, err
	}
	size, err := number(c, "X-Amz-Part-Size")
	if err != nil {
		return nil, err
	}
	if size < megabyte || size > most || bits.OnesCount64(uint64(size)) != 1 {
		return nil, invalid("Part size must be a power of two megabytes between 1 MB and 4 GB: %d", size)
	}
	u := &upload{Number: s.state.number(), ID: newID(uploadID), Description: about, PartSize: size, Begun: s.state.now(), Parts: map[int64]part{}}
	u.Touched = u.Begun
	if err := os.MkdirAll(filepath.Dir(s.state.partFile(u.ID, 0)), 0o700); err != nil {
		return nil, err
	}
	if err := s.state.save(v.Name, "uploads", u.ID, u); err != nil {
		return nil, err
	}
	v.uploads[u.ID] = u
	h := location(v.Name, "multipart-uploads", u.ID)
	h["X-Amz-Multipart-Upload-Id"] = u.ID
	return &answer{status: http.StatusCreated, header: h}, nil
}

var partRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/\*$`)

// uploadPart follows docs.aws.amazon.com/amazonglacier/latest/dev/api-upload-part.html:
// that a part which is not the last is too short is seen on completing.
func (s *Server) uploadPart(c *call) (*answer, error) {
	v, u, err := s.open(c)
	if err != nil {
		return nil, err
	}
	text := c.Header.Get("Content-Range")
	if text == "" {
		return nil, missing("Content-Range")
	}
	m := partRange.FindStringSubmatch(text)
	if m == nil {
		return nil, invalid("Invalid Content-Range: %s", text)
	}
	from, _ := strconv.ParseInt(m[1], 10, 64)
	to, _ := strconv.ParseInt(m[2], 10, 64)
	switch {
	case to < from || to-from+1 > u.PartSize || from%u.PartSize != 0:
		return nil, invalid("Content-Range: %s is incompatible with part size: %d", text, u.PartSize)
	case from/u.PartSize >= mostParts:
		return nil, invalid("Content-Range: %s is beyond part %d", text, mostParts)
	case to-from+1 != c.body.size:
		return nil, invalid("Content-Range: %s does not match the content length %d", text, c.body.size)
	}
	if err := treeHash(c); err != nil {
		return nil, err
	}
	if err := os.Rename(c.body.file, s.state.partFile(u.ID, from)); err != nil {
		return nil, err
	}
	u.Parts[from] = part{Size: c.body.size, Tree: c.body.tree}
	u.Touched = s.state.now()
	if err := s.state.save(v.Name, "uploads", u.ID, u); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent, header: map[string]string{"X-Amz-Sha256-Tree-Hash": c.body.tree}}, nil
}

// completeUpload follows
// docs.aws.amazon.com/amazonglacier/latest/dev/api-multipart-complete-upload.html.
func (s *Server) completeUpload(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	size, err := number(c, "X-Amz-Archive-Size")
	if err != nil {
		return nil, err
	}
	sum := c.Header.Get("X-Amz-Sha256-Tree-Hash")
	if sum == "" {
		return nil, missing("x-amz-sha256-tree-hash")
	}
	u := v.uploads[c.id]
	if u != nil && !u.Completed.IsZero() && s.state.now().Before(u.Completed.Add(RepeatKept)) {
		if a := v.archives[u.Archive]; a != nil && a.Size == size && a.Tree == sum {
			return s.created(v, a), nil
		}
	}
	if _, u, err = s.open(c); err != nil {
		return nil, err
	}
	offsets := slices.Sorted(maps.Keys(u.Parts))
	var at int64
	var trees [][]byte
	for i, offset := range offsets {
		p := u.Parts[offset]
		if offset != at || p.Size != u.PartSize && i+1 < len(offsets) {
			return nil, invalid("Missing content ranges: nothing begins at byte %d.", at)
		}
		at += p.Size
		tree, err := hex.DecodeString(p.Tree)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	if len(trees) == 0 {
		return nil, invalid("Missing content ranges: there are no parts.")
	}
	if at != size {
		return nil, invalid("The archive size %d does not match the %d bytes of the parts.", size, at)
	}
	if tree := hex.EncodeToString(join(trees)); tree != sum {
		return nil, invalid("Checksum mismatch: expected %s and received %s", sum, tree)
	}
	b, err := s.assemble(u, offsets)
	if err != nil {
		return nil, err
	}
	if b.tree != sum || b.size != size {
		return nil, fmt.Errorf("the tree hash of an archive is %s, and of its parts %s", b.tree, sum)
	}
	a, err := s.state.add(v, u.Description, b)
	if err != nil {
		return nil, err
	}
	u.Archive, u.Completed = a.ID, a.Created
	if err := s.state.save(v.Name, "uploads", u.ID, u); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Dir(s.state.partFile(u.ID, 0))); err != nil {
		return nil, err
	}
	return s.created(v, a), nil
}

// assemble makes one file of parts.
func (s *Server) assemble(u *upload, offsets []int64) (*body, error) {
	var parts []io.Reader
	for _, offset := range offsets {
		parts = append(parts, &lazy{file: s.state.partFile(u.ID, offset)})
	}
	return s.state.spool(io.MultiReader(parts...))
}

// lazy reads a file that it opens when its turn comes.
type lazy struct {
	file string
	open *os.File
}

func (l *lazy) Read(b []byte) (n int, err error) {
	if l.open == nil {
		if l.open, err = os.Open(l.file); err != nil {
			return 0, err
		}
	}
	n, err = l.open.Read(b)
	if err != nil {
		err = errors.Join(err, l.open.Close())
		if errors.Is(err, io.EOF) {
			err = io.EOF
		}
	}
	return n, err
}

func (s *Server) abortUpload(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	u, now := v.uploads[c.id], s.state.now()
	if u != nil && !u.Aborted.IsZero() && now.Before(u.Aborted.Add(RepeatKept)) {
		return &answer{status: http.StatusNoContent}, nil
	}
	if _, u, err = s.open(c); err != nil {
		return nil, err
	}
	u.Aborted = now
	if err := s.state.save(v.Name, "uploads", u.ID, u); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Dir(s.state.partFile(u.ID, 0))); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Server) describeUpload(v *vault, u *upload) uploadJSON {
	return uploadJSON{
		ArchiveDescription: orNull(u.Description), CreationDate: u.Begun.Format(timeFormat),
		MultipartUploadID: u.ID, PartSizeInBytes: u.PartSize, VaultARN: arn(v.Name),
	}
}

func (s *Server) listUploads(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	limit, err := limit(q, 50, 50)
	if err != nil {
		return nil, err
	}
	var all []*upload
	for _, id := range slices.Sorted(maps.Keys(v.uploads)) {
		if u := v.uploads[id]; s.state.alive(u) {
			all = append(all, u)
		}
	}
	some, next, err := page(all, q.Get("marker"), limit, func(u *upload) string { return u.ID })
	if err != nil {
		return nil, err
	}
	reply := struct {
		Marker      *string
		UploadsList []uploadJSON
	}{Marker: next, UploadsList: []uploadJSON{}}
	for _, u := range some {
		reply.UploadsList = append(reply.UploadsList, s.describeUpload(v, u))
	}
	return &answer{status: http.StatusOK, json: reply}, nil
}

// listParts gives ten at once unless it is asked for more: what the newest
// documentation says of the usual and the highest number differs.
func (s *Server) listParts(c *call) (*answer, error) {
	v, u, err := s.open(c)
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	limit, err := limit(q, 10, 50)
	if err != nil {
		return nil, err
	}
	some, next, err := page(slices.Sorted(maps.Keys(u.Parts)), q.Get("marker"), limit,
		func(offset int64) string { return strconv.FormatInt(offset, 10) })
	if err != nil {
		return nil, err
	}
	reply := struct {
		uploadJSON
		Marker *string
		Parts  []partJSON
	}{uploadJSON: s.describeUpload(v, u), Marker: next, Parts: []partJSON{}}
	for _, offset := range some {
		p := u.Parts[offset]
		reply.Parts = append(reply.Parts, partJSON{
			RangeInBytes: fmt.Sprintf("%d-%d", offset, offset+p.Size-1), SHA256TreeHash: p.Tree,
		})
	}
	return &answer{status: http.StatusOK, json: reply}, nil
}
