package s3test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// The classes and tiers that are told apart.
const (
	glacier           = "GLACIER"
	deepArchive       = "DEEP_ARCHIVE"
	tiering           = "INTELLIGENT_TIERING"
	archiveAccess     = "ARCHIVE_ACCESS"
	deepArchiveAccess = "DEEP_ARCHIVE_ACCESS"
)

// classes are those an object can be put into
// (docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, x-amz-storage-class).
var classes = map[string]bool{
	"STANDARD": true, "REDUCED_REDUNDANCY": true, "STANDARD_IA": true, "ONEZONE_IA": true, tiering: true,
	glacier: true, deepArchive: true, "GLACIER_IR": true,
}

// times says how long restores take, by where an object is and how it is asked
// for.
var times = map[string]map[string]time.Duration{
	glacier:           {"Expedited": ExpeditedTime, "Standard": StandardTime, "Bulk": BulkTime},
	deepArchive:       {"Standard": DeepStandardTime, "Bulk": DeepBulkTime},
	archiveAccess:     {"Expedited": ExpeditedTime, "Standard": StandardTime, "Bulk": BulkTime},
	deepArchiveAccess: {"Standard": DeepStandardTime, "Bulk": DeepBulkTime},
}

// coldState is what a Cold knows: a journal, one line for a change, read again at
// the start.
type coldState struct {
	journal *os.File

	Offset  time.Duration // of the clock to the real time
	Objects map[string]*coldObject
	Uploads map[string]string // the class by the ID of the upload
	Asked   map[string]int    // how many restores were begun
}

// coldObject is what is known of an object, or of a version of it. Of what is not
// known the class is STANDARD.
type coldObject struct {
	Class   string
	Archive string    `json:",omitempty"` // the archive tier of INTELLIGENT_TIERING it is in
	Ready   time.Time `json:",omitzero"`  // when a restore is, or was, done; zero if none was begun
	Until   time.Time `json:",omitzero"`  // how long the copy stays; zero if it stays for good
	Days    int       `json:",omitempty"`
}

// change is a line of the journal.
type change struct {
	Offset *time.Duration `json:",omitempty"`
	Name   string         `json:",omitempty"`
	Object *coldObject    `json:",omitempty"` // nil with a name: it is gone
	Asked  bool           `json:",omitempty"` // a restore of it was begun
	Upload string         `json:",omitempty"`
	Class  string         `json:",omitempty"` // of the upload; none: it is gone
}

func openCold(file string) (*coldState, error) {
	s := &coldState{Objects: map[string]*coldObject{}, Uploads: map[string]string{}, Asked: map[string]int{}}
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var c change
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		s.apply(c)
	}
	s.journal, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return s, err
}

func (s *coldState) apply(c change) {
	switch {
	case c.Offset != nil:
		s.Offset = *c.Offset
	case c.Upload != "" && c.Class == "":
		delete(s.Uploads, c.Upload)
	case c.Upload != "":
		s.Uploads[c.Upload] = c.Class
	case c.Object == nil:
		delete(s.Objects, c.Name)
	default:
		s.Objects[c.Name] = c.Object
	}
	if c.Asked {
		s.Asked[c.Name]++
	}
}

func (s *coldState) write(c change) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := s.journal.Write(append(line, '\n')); err != nil {
		return err
	}
	s.apply(c)
	return nil
}

func (s *coldState) now() time.Time { return time.Now().Add(s.Offset).UTC() }

func (s *coldState) advance(d time.Duration) error {
	offset := s.Offset + d
	return s.write(change{Offset: &offset})
}

func (s *coldState) set(name string, o *coldObject) error {
	return s.write(change{Name: name, Object: o})
}

func (s *coldState) find(bucket, key, version string) *coldObject {
	return s.Objects[name(bucket, key, version)]
}

func (o *coldObject) class() string {
	if o == nil {
		return "STANDARD"
	}
	return o.Class
}

// place is where it is frozen; empty if it is not.
func (o *coldObject) place() string {
	switch {
	case o == nil:
		return ""
	case o.Class == glacier || o.Class == deepArchive:
		return o.Class
	}
	return o.Archive
}

// restored tells whether there is a copy that can be read, or, of
// INTELLIGENT_TIERING, the object is back from the archive.
func (o *coldObject) restored(now time.Time) bool {
	return o != nil && !o.Ready.IsZero() && !now.Before(o.Ready) && (o.Until.IsZero() || now.Before(o.Until))
}

func (o *coldObject) restoring(now time.Time) bool {
	return o != nil && !o.Ready.IsZero() && now.Before(o.Ready)
}

func (o *coldObject) readable(now time.Time) bool { return o.place() == "" || o.restored(now) }

// headers are what S3 says of an object beside what the server says
// (docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html).
func (o *coldObject) headers(h http.Header, now time.Time) {
	h.Del("X-Amz-Storage-Class")
	if class := o.class(); class != "STANDARD" {
		h.Set("X-Amz-Storage-Class", class)
	}
	switch {
	case o.restoring(now):
		h.Set("X-Amz-Restore", `ongoing-request="true"`)
	case o.restored(now) && !o.Until.IsZero():
		h.Set("X-Amz-Restore", fmt.Sprintf(`ongoing-request="false", expiry-date="%s"`, o.Until.Format(http.TimeFormat)))
	}
	if o != nil && o.Archive != "" && !o.restored(now) {
		h.Set("X-Amz-Archive-Status", o.Archive)
	}
}

// until is how long a copy stays that is to be had from a time on for so many days:
// up to the midnight after
// (docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html).
func until(from time.Time, days int) time.Time {
	const day = 24 * time.Hour
	end := from.Add(time.Duration(days) * day)
	if cut := end.Truncate(day); !cut.Equal(end) {
		return cut.Add(day)
	}
	return end
}
