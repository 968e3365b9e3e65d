package s3test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// What S3 says of classes, in the place of a server that has none. A request is
// looked at before the server gets it where that must not do what is asked for, and
// otherwise after it has been answered: only what the server allows is done.

// bodyKey is where the body of a restore request is kept.
type bodyKey struct{}

// asked looks at a request before the server gets it.
func (c *Cold) asked(r *http.Request) (*http.Request, *refusal, error) {
	q := r.URL.Query()
	if class := r.Header.Get("X-Amz-Storage-Class"); class != "" && !classes[class] {
		return r, &refusal{status: http.StatusBadRequest, code: "InvalidStorageClass", message: "The storage class you specified is not valid"}, nil
	}
	if q.Has("restore") {
		const most = 1 << 20
		text, err := io.ReadAll(io.LimitReader(r.Body, most))
		if err != nil {
			return r, nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		return r.WithContext(context.WithValue(r.Context(), bodyKey{}, text)), nil, nil
	}
	if from := r.Header.Get("X-Amz-Copy-Source"); from != "" {
		path, version, _ := strings.Cut(from, "?versionId=")
		path, err := url.PathUnescape(path)
		if err != nil {
			return r, nil, nil // the server says what is wrong
		}
		bucket, key := split(path)
		c.mu.Lock()
		defer c.mu.Unlock()
		if o := c.state.find(bucket, key, version); !o.readable(c.state.now()) {
			return r, &refusal{
				status: http.StatusForbidden, code: "InvalidObjectState",
				message: "Operation is not valid for the source object's storage class",
			}, nil
		}
	}
	return r, nil, nil
}

// answered looks at what the server has answered, and changes it.
func (c *Cold) answered(r *http.Response) error {
	req := r.Request
	q := req.URL.Query()
	bucket, key := split(req.URL.Path)
	var (
		ok      = r.StatusCode/100 == 2
		version = q.Get("versionId")
		aside   = false // not about the object itself
	)
	for _, what := range []string{"tagging", "retention", "legal-hold", "acl", "attributes", "torrent"} {
		aside = aside || q.Has(what)
	}
	switch {
	case bucket == "" || !ok && !q.Has("restore") || aside:
		return nil
	case req.Method == http.MethodPost && q.Has("restore"):
		return c.restore(r, bucket, key, version)
	case req.Method == http.MethodGet && (key == "" || q.Has("uploadId")):
		return c.listed(r, bucket, q)
	case req.Method == http.MethodPost && q.Has("uploads"):
		return c.begun(r)
	case req.Method == http.MethodPost && q.Has("uploadId"):
		return c.completed(r, bucket, key, q.Get("uploadId"))
	case key == "" || q.Has("partNumber") && req.Method == http.MethodPut:
		return nil
	case req.Method == http.MethodPut:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.put(r, bucket, key, req.Header.Get("X-Amz-Storage-Class"))
	case req.Method == http.MethodDelete && q.Has("uploadId"):
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state.write(change{Upload: q.Get("uploadId")})
	case req.Method == http.MethodDelete:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.state.find(bucket, key, version) == nil {
			return nil
		}
		return c.state.set(name(bucket, key, version), nil)
	case req.Method == http.MethodGet || req.Method == http.MethodHead:
		return c.read(r, bucket, key, version)
	}
	return nil
}

// put notes the class of an object that has been made.
func (c *Cold) put(r *http.Response, bucket, key, class string) error {
	if class == "" {
		class = "STANDARD"
	}
	o := &coldObject{Class: class}
	if v := r.Header.Get("X-Amz-Version-Id"); v != "" && v != "null" {
		if err := c.state.set(name(bucket, key, v), o); err != nil {
			return err
		}
	}
	return c.state.set(name(bucket, key, ""), o)
}

// begun notes the class of an upload.
func (c *Cold) begun(r *http.Response) error {
	text, err := whole(r)
	if err != nil {
		return err
	}
	var x struct {
		ID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(text, &x); err != nil {
		return err
	}
	class := r.Request.Header.Get("X-Amz-Storage-Class")
	if class == "" {
		class = "STANDARD"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.write(change{Upload: x.ID, Class: class})
}

// completed notes the class of an object that an upload has become.
func (c *Cold) completed(r *http.Response, bucket, key, id string) error {
	text, err := whole(r)
	if err != nil || bytes.Contains(text, []byte("<Error>")) { // with status 200, as S3 may
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(r, bucket, key, c.state.Uploads[id])
}

// read is GetObject and HeadObject.
func (c *Cold) read(r *http.Response, bucket, key, version string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, now := c.state.find(bucket, key, version), c.state.now()
	if r.Request.Method == http.MethodGet && !o.readable(now) {
		extra := "<StorageClass>" + o.Class + "</StorageClass>"
		if o.Archive != "" {
			extra += "<AccessTier>" + o.Archive + "</AccessTier>"
		}
		return replace(r, &refusal{
			status: http.StatusForbidden, code: "InvalidObjectState",
			message: "The operation is not valid for the object's storage class", extra: extra,
		})
	}
	o.headers(r.Header, now)
	return nil
}

// ranks orders the tiers: a restore that goes on can be made faster.
var ranks = map[string]int{"Bulk": 1, "Standard": 2, "Expedited": 3}

// restore is RestoreObject
// (docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html), which the server
// does not know: what it answers says whether the request is signed and allowed.
func (c *Cold) restore(r *http.Response, bucket, key, version string) error {
	if r.StatusCode != http.StatusNotImplemented {
		return nil
	}
	text, _ := r.Request.Context().Value(bodyKey{}).([]byte)
	var x struct {
		Days *int
		Tier string // the old place
		Job  string `xml:"GlacierJobParameters>Tier"`
	}
	if err := xml.Unmarshal(text, &x); err != nil {
		return replace(r, &refusal{status: http.StatusBadRequest, code: "MalformedXML", message: "The XML you provided was not well-formed"})
	}
	ask := Ask{Bucket: bucket, Key: key, Version: version, Tier: "Standard"}
	for _, tier := range []string{x.Tier, x.Job} {
		if tier != "" {
			ask.Tier = tier
		}
	}
	if x.Days != nil {
		ask.Days = *x.Days
	}
	there, err := c.there(bucket, key, version)
	if err != nil {
		return err
	}
	if !there {
		return replace(r, &refusal{status: http.StatusNotFound, code: "NoSuchKey", message: "The specified key does not exist."})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	no, err := c.grant(&ask, x.Days != nil)
	if err != nil {
		return err
	}
	if no != nil {
		ask.Status, ask.Code = no.status, no.code
	}
	c.asks = append(c.asks, ask)
	if no != nil {
		return replace(r, no)
	}
	return replace(r, &refusal{status: ask.Status})
}

// there asks the server whether it has an object: to be restored it answers the
// same to all.
func (c *Cold) there(bucket, key, version string) (bool, error) {
	ctx, cancel := soon()
	defer cancel()
	in := &s3.HeadObjectInput{Bucket: &bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	_, err := c.server.client.HeadObject(ctx, in)
	if _, ok := errors.AsType[*types.NotFound](err); ok {
		return false, nil
	}
	return err == nil, err
}

// grant does what is asked for, or says why not.
func (c *Cold) grant(ask *Ask, days bool) (*refusal, error) {
	ask.At = c.state.now()
	known, now := c.state.find(ask.Bucket, ask.Key, ask.Version), ask.At
	takes, ok := times[known.place()][ask.Tier]
	switch {
	case known.place() == "" || known.Archive != "" && known.restored(now):
		return &refusal{
			status: http.StatusForbidden, code: "InvalidObjectState",
			message: "Restore is not allowed for the object's current storage class",
		}, nil
	case !ok:
		return &refusal{
			status: http.StatusBadRequest, code: "InvalidArgument",
			message: fmt.Sprintf("%s retrievals are not available for %s", ask.Tier, known.place()),
		}, nil
	case known.Archive != "" && days:
		return &refusal{
			status: http.StatusBadRequest, code: "InvalidArgument", message: "Days must not be given for INTELLIGENT_TIERING",
		}, nil
	case known.Archive == "" && ask.Days < 1:
		return &refusal{status: http.StatusBadRequest, code: "MalformedXML", message: "The XML you provided was not well-formed or did not validate against our published schema"}, nil
	}
	o := *known
	ask.Status = http.StatusAccepted
	switch {
	case o.restoring(now):
		sooner := now.Add(takes)
		if !sooner.Before(o.Ready) || ranks[ask.Tier] == 1 {
			return &refusal{status: http.StatusConflict, code: "RestoreAlreadyInProgress", message: "Object restore is already in progress"}, nil
		}
		o.Ready = sooner
	case o.Archive == "" && o.restored(now):
		ask.Status = http.StatusOK
		o.Until = until(now, ask.Days)
		return nil, c.state.set(name(ask.Bucket, ask.Key, ask.Version), &o)
	default:
		o.Ready = now.Add(takes)
	}
	if o.Archive == "" {
		o.Until = until(o.Ready, ask.Days)
	}
	return nil, c.state.write(change{Name: name(ask.Bucket, ask.Key, ask.Version), Object: &o, Asked: true})
}

var (
	entryOf   = regexp.MustCompile(`(?s)<(Contents|Version|Upload)>.*?</(Contents|Version|Upload)>`)
	keyOf     = regexp.MustCompile(`(?s)<Key>(.*?)</Key>`)
	versionOf = regexp.MustCompile(`<VersionId>(.*?)</VersionId>`)
	uploadOf  = regexp.MustCompile(`<UploadId>(.*?)</UploadId>`)
	classOf   = regexp.MustCompile(`<StorageClass>.*?</StorageClass>`)
)

// listed puts the classes into a list of objects or uploads, and with
// x-amz-optional-object-attributes what is restored
// (docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreStatus.html).
func (c *Cold) listed(r *http.Response, bucket string, q url.Values) error {
	text, err := whole(r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.state.now()
	status := strings.Contains(r.Request.Header.Get("X-Amz-Optional-Object-Attributes"), "RestoreStatus")
	text = entryOf.ReplaceAllFunc(text, func(entry []byte) []byte {
		if m := uploadOf.FindSubmatch(entry); m != nil {
			if class := c.state.Uploads[string(m[1])]; class != "" {
				entry = setClass(entry, class)
			}
			return entry
		}
		m := keyOf.FindSubmatch(entry)
		if m == nil {
			return entry
		}
		key := html.UnescapeString(string(m[1]))
		if q.Get("encoding-type") == "url" {
			if plain, err := url.QueryUnescape(key); err == nil {
				key = plain
			}
		}
		version := ""
		if m := versionOf.FindSubmatch(entry); m != nil {
			version = string(m[1])
		}
		o := c.state.find(bucket, key, version)
		if o == nil {
			return entry
		}
		entry = setClass(entry, o.Class)
		if more := o.restoreStatus(now); status && more != "" {
			at := bytes.LastIndex(entry, []byte("</"))
			entry = append(append(bytes.Clone(entry[:at]), more...), entry[at:]...)
		}
		return entry
	})
	if id := q.Get("uploadId"); id != "" && c.state.Uploads[id] != "" {
		text = setClass(text, c.state.Uploads[id])
	}
	body(r, text)
	return nil
}

// setClass replaces a class, or adds it where there is none.
func setClass(entry []byte, class string) []byte {
	element := []byte("<StorageClass>" + class + "</StorageClass>")
	if classOf.Match(entry) {
		return classOf.ReplaceAllLiteral(entry, element)
	}
	at := bytes.LastIndex(entry, []byte("</"))
	return append(append(bytes.Clone(entry[:at]), element...), entry[at:]...)
}

func (o *coldObject) restoreStatus(now time.Time) string {
	switch {
	case o.restoring(now):
		return "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
	case o.restored(now) && !o.Until.IsZero():
		return "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>" +
			o.Until.Format("2006-01-02T15:04:05.000Z") + "</RestoreExpiryDate></RestoreStatus>"
	}
	return ""
}

// whole reads an answer, and leaves it to be read again.
func whole(r *http.Response) ([]byte, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(text))
	return text, nil
}

// body replaces that of an answer.
func body(r *http.Response, text []byte) {
	r.Body = io.NopCloser(bytes.NewReader(text))
	r.ContentLength = int64(len(text))
	r.TransferEncoding = nil
	r.Header.Set("Content-Length", strconv.Itoa(len(text)))
}

// replace gives another answer than the server did: without a code it is empty.
func replace(r *http.Response, with *refusal) error {
	r.Body.Close()
	r.StatusCode, r.Status = with.status, fmt.Sprintf("%d %s", with.status, http.StatusText(with.status))
	for h := range r.Header {
		if h == "Etag" || h == "Content-Range" || h == "Last-Modified" || strings.HasPrefix(h, "X-Amz-Checksum") || strings.HasPrefix(h, "X-Amz-Meta") {
			r.Header.Del(h)
		}
	}
	if with.code == "" {
		body(r, nil)
		return nil
	}
	r.Header.Set("Content-Type", "application/xml")
	body(r, []byte(with.xml()))
	return nil
}
