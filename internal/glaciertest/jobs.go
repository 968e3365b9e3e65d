package glaciertest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// job is a retrieval. It succeeds when it is due, unless it was made to fail.
type job struct {
	Number                    int64
	ID, Description, SNSTopic string
	Archive                   string // empty for an inventory
	Tier                      string
	Asked, Due                time.Time
	Failed                    bool
	// From and To are the first byte of an archive that is asked for and the one
	// after the last.
	From, To int64
	Size     int64  // of the whole archive
	Tree     string // of the whole archive
	// Format and Output are those of an inventory, taken when it is asked for.
	Format string
	Output []byte
	Filter *filter
	Next   string // where the next inventory has to begin
}

// filter is which part of an inventory is asked for.
type filter struct {
	StartDate, EndDate, Limit, Marker *string
}

func (j *job) done(now time.Time) bool    { return !now.Before(j.Due) }
func (j *job) expired(now time.Time) bool { return !now.Before(j.Due.Add(OutputKept)) }

// jobJSON is a job as it is described.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-describe-job-get.html
type jobJSON struct {
	Action                       string
	ArchiveID                    *string `json:"ArchiveId"`
	ArchiveSHA256TreeHash        *string
	ArchiveSizeInBytes           *int64
	Completed                    bool
	CompletionDate               *string
	CreationDate                 string
	InventoryRetrievalParameters *filterJSON `json:",omitempty"`
	InventorySizeInBytes         *int64
	JobDescription               *string
	JobID                        string `json:"JobId"`
	RetrievalByteRange           *string
	SHA256TreeHash               *string
	SNSTopic                     *string
	StatusCode                   string
	StatusMessage                string
	Tier                         *string
	VaultARN                     string
}

type filterJSON struct {
	StartDate, EndDate, Format, Limit, Marker *string
}

// The states of a job.
const (
	inProgress = "InProgress"
	succeeded  = "Succeeded"
	failed     = "Failed"
)

func (j *job) status(now time.Time) string {
	switch {
	case !j.done(now):
		return inProgress
	case j.Failed:
		return failed
	}
	return succeeded
}

// tiers says how long retrievals of archives take.
var tiers = map[string]time.Duration{"Expedited": ExpeditedTime, "Standard": StandardTime, "Bulk": BulkTime}

var retrievalRange = regexp.MustCompile(`^(\d{1,18})-(\d{1,18})$`)

// initiateJob follows
// docs.aws.amazon.com/amazonglacier/latest/dev/api-initiate-job-post.html.
func (s *Server) initiateJob(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.body.file)
	if err != nil {
		return nil, err
	}
	var p struct {
		Type, ArchiveID, Description, SNSTopic, Format, Tier string
		RetrievalByteRange                                   string
		InventoryRetrievalParameters                         *filter
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fail("SerializationException", "The request body cannot be read.")
	}
	s.faults.note(func() { c.seen.ID, c.seen.Tier, c.seen.Type = p.ArchiveID, p.Tier, p.Type })
	now := s.state.now()
	j := &job{Number: s.state.number(), ID: newID(jobID), Description: p.Description, SNSTopic: p.SNSTopic, Asked: now}
	switch p.Type {
	case "":
		return nil, missing("Type")
	case "archive-retrieval":
		if p.ArchiveID == "" {
			return nil, missing("ArchiveId")
		}
		if p.Format != "" || p.InventoryRetrievalParameters != nil {
			return nil, invalid("Format and InventoryRetrievalParameters are for inventory retrievals.")
		}
		err = s.ofArchive(v, j, p.ArchiveID, p.RetrievalByteRange, p.Tier)
	case "inventory-retrieval":
		if p.ArchiveID != "" || p.RetrievalByteRange != "" {
			return nil, invalid("ArchiveId and RetrievalByteRange are for archive retrievals.")
		}
		err = s.ofInventory(v, j, p.Format, p.InventoryRetrievalParameters)
	default:
		return nil, invalid("Invalid job type: %s", p.Type)
	}
	if err != nil {
		return nil, err
	}
	if err := s.state.save(v.Name, "jobs", j.ID, j); err != nil {
		return nil, err
	}
	v.jobs[j.ID] = j
	h := location(v.Name, "jobs", j.ID)
	h["X-Amz-Job-Id"] = j.ID
	return &answer{status: http.StatusAccepted, header: h}, nil
}

// ofArchive fills in the retrieval of an archive.
func (s *Server) ofArchive(v *vault, j *job, id, span, tier string) error {
	a := v.archives[id]
	// A retrieval of what has been deleted may be accepted, and fails.
	if a == nil || !a.Deleted.IsZero() && j.Asked.After(a.Deleted.Add(OutputKept)) {
		return notFound("The archive ID was not found: %s", id)
	}
	if tier == "" {
		tier = "Standard"
	}
	takes, ok := tiers[tier]
	if !ok {
		return invalid("Invalid tier: %s", tier)
	}
	j.Archive, j.Tier, j.Due, j.Failed = id, tier, j.Asked.Add(takes), !a.Deleted.IsZero()
	j.Size, j.Tree, j.From, j.To = a.Size, a.Tree, 0, a.Size
	if span == "" {
		return nil
	}
	m := retrievalRange.FindStringSubmatch(span)
	if m == nil {
		return invalid("Invalid range: %s", span)
	}
	j.From, _ = strconv.ParseInt(m[1], 10, 64)
	j.To, _ = strconv.ParseInt(m[2], 10, 64)
	j.To++
	if j.From >= j.To || j.To > a.Size || j.From%megabyte != 0 || j.To%megabyte != 0 && j.To != a.Size {
		return invalid("The retrieval range is not aligned to megabytes: %s", span)
	}
	return nil
}

// recent returns the job a call names, if it is still known.
func (s *Server) recent(c *call) (*vault, *job, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, nil, err
	}
	j := v.jobs[c.id]
	if j == nil || j.expired(s.state.now()) {
		return nil, nil, notFound("The job ID was not found: %s", c.id)
	}
	return v, j, nil
}

func (s *Server) describeJob(c *call) (*answer, error) {
	v, j, err := s.recent(c)
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, json: s.jobJSON(v, j)}, nil
}

func (s *Server) jobJSON(v *vault, j *job) jobJSON {
	now := s.state.now()
	d := jobJSON{
		Action: "ArchiveRetrieval", Completed: j.done(now), CreationDate: j.Asked.Format(timeFormat),
		JobDescription: orNull(j.Description), JobID: j.ID, SNSTopic: orNull(j.SNSTopic),
		StatusCode: j.status(now), StatusMessage: j.status(now), Tier: orNull(j.Tier), VaultARN: arn(v.Name),
	}
	if d.Completed {
		d.CompletionDate = timeOrNull(j.Due)
	} else {
		d.StatusMessage = "Operation in progress."
	}
	if j.Archive == "" {
		d.Action = "InventoryRetrieval"
		if d.StatusCode == succeeded {
			size := int64(len(j.Output))
			d.InventorySizeInBytes = &size
		}
		d.InventoryRetrievalParameters = &filterJSON{Format: &j.Format}
		if j.Filter != nil {
			p := d.InventoryRetrievalParameters
			p.StartDate, p.EndDate, p.Limit, p.Marker = j.Filter.StartDate, j.Filter.EndDate, j.Filter.Limit, orNull(j.Next)
		}
		return d
	}
	d.ArchiveID, d.ArchiveSHA256TreeHash, d.ArchiveSizeInBytes = &j.Archive, &j.Tree, &j.Size
	d.RetrievalByteRange = orNull(fmt.Sprintf("%d-%d", j.From, j.To-1))
	if d.StatusCode == succeeded {
		d.SHA256TreeHash = s.treeOf(j, j.From, j.To)
	}
	return d
}

// treeOf is the tree hash of a range of an archive, or nil where there is none.
func (s *Server) treeOf(j *job, from, to int64) *string {
	if from == 0 && to == j.Size {
		return &j.Tree
	}
	if !treeAligned(from, to, j.Size) {
		return nil
	}
	f, err := os.Open(s.state.data(j.Archive))
	if err != nil {
		return nil
	}
	defer f.Close()
	sum := newTree()
	if n, err := io.Copy(sum, io.NewSectionReader(f, from, to-from)); err != nil || n != to-from {
		return nil
	}
	return orNull(hex.EncodeToString(sum.root()))
}

// listJobs follows docs.aws.amazon.com/amazonglacier/latest/dev/api-jobs-get.html.
func (s *Server) listJobs(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	limit, err := limit(q, 50, 50)
	if err != nil {
		return nil, err
	}
	status, completed := q.Get("statuscode"), q.Get("completed")
	if !slices.Contains([]string{"", inProgress, succeeded, failed}, status) {
		return nil, invalid("The job status code is not valid: %s", status)
	}
	if !slices.Contains([]string{"", "true", "false"}, completed) {
		return nil, invalid("The completed flag is not valid: %s", completed)
	}
	now := s.state.now()
	var all []*job
	for _, id := range slices.Sorted(maps.Keys(v.jobs)) {
		j := v.jobs[id]
		if j.expired(now) || status != "" && j.status(now) != status || completed != "" && fmt.Sprint(j.done(now)) != completed {
			continue
		}
		all = append(all, j)
	}
	some, next, err := page(all, q.Get("marker"), limit, func(j *job) string { return j.ID })
	if err != nil {
		return nil, err
	}
	reply := struct {
		JobList []jobJSON
		Marker  *string
	}{JobList: []jobJSON{}, Marker: next}
	for _, j := range some {
		reply.JobList = append(reply.JobList, s.jobJSON(v, j))
	}
	return &answer{status: http.StatusOK, json: reply}, nil
}

var outputRange = regexp.MustCompile(`^bytes=(\d{1,18})-(\d{0,18})$`)

// getOutput follows
// docs.aws.amazon.com/amazonglacier/latest/dev/api-job-output-get.html.
func (s *Server) getOutput(c *call) (*answer, error) {
	_, j, err := s.recent(c)
	if err != nil {
		return nil, err
	}
	if j.status(s.state.now()) != succeeded {
		return nil, invalid("The job is not currently available for download: %s", j.ID)
	}
	size := int64(len(j.Output))
	if j.Archive != "" {
		size = j.To - j.From
	}
	from, to, a := int64(0), size, &answer{status: http.StatusOK, header: map[string]string{"Accept-Ranges": "bytes"}}
	if text := c.Header.Get("Range"); text != "" {
		m := outputRange.FindStringSubmatch(text)
		if m == nil {
			return nil, invalid("Invalid range: %s", text)
		}
		from, _ = strconv.ParseInt(m[1], 10, 64)
		if m[2] != "" {
			to, _ = strconv.ParseInt(m[2], 10, 64)
			to = min(to+1, size)
		}
		if from >= to {
			return nil, invalid("Invalid range: %s of %d bytes", text, size)
		}
		a.status = http.StatusPartialContent
		a.header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)
	}
	a.length = to - from
	if j.Archive == "" {
		a.header["Content-Type"] = "application/json"
		if j.Format == "CSV" {
			a.header["Content-Type"] = "text/csv"
		}
		a.file = io.NopCloser(bytes.NewReader(j.Output[from:to]))
		return a, nil
	}
	a.header["Content-Type"] = "application/octet-stream"
	if about := s.descriptionOf(c.vault, j.Archive); about != "" {
		a.header["X-Amz-Archive-Description"] = about
	}
	if s.treeOf(j, j.From, j.To) != nil {
		if sum := s.treeOf(j, j.From+from, j.From+to); sum != nil {
			a.header["X-Amz-Sha256-Tree-Hash"] = *sum
		}
	}
	f, err := os.Open(s.state.data(j.Archive))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(j.From+from, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	a.file = f
	return a, nil
}

func (s *Server) descriptionOf(vault, archive string) string {
	if a := s.state.vaults[vault].archives[archive]; a != nil {
		return strings.TrimSpace(a.Description)
	}
	return ""
}
