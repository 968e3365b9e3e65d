package glaciertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// version is the only one there is of the API.
const version = "2012-06-01"

// apiError is an error of the API.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-error-responses.html
type apiError struct {
	code, message string
	status        int
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// statuses are those of errors that are not 400.
var statuses = map[string]int{
	"AccessDeniedException":         http.StatusForbidden,
	"ExpiredTokenException":         http.StatusForbidden,
	"InvalidSignatureException":     http.StatusForbidden,
	"ResourceNotFoundException":     http.StatusNotFound,
	"RequestTimeoutException":       http.StatusRequestTimeout,
	"InsufficientCapacityException": http.StatusServiceUnavailable,
	"ServiceUnavailableException":   http.StatusInternalServerError,
}

func fail(code, format string, args ...any) error {
	status := statuses[code]
	if status == 0 {
		status = http.StatusBadRequest
	}
	return &apiError{code: code, message: fmt.Sprintf(format, args...), status: status}
}

func invalid(format string, args ...any) error {
	return fail("InvalidParameterValueException", format, args...)
}

func missing(what string) error {
	return fail("MissingParameterValueException", "Required parameter missing: %s", what)
}

func notFound(format string, args ...any) error {
	return fail("ResourceNotFoundException", format, args...)
}

// call is a request on its way through the server.
type call struct {
	*http.Request
	account, vault, id string
	body               *body
	seen               *Request
}

// answer is what is said to it.
type answer struct {
	status int
	header map[string]string
	json   any // or
	file   io.ReadCloser
	length int64 // of the file
}

// operation is a row of the API.
type operation struct {
	name, method string
	path         *regexp.Regexp
	do           func(*Server, *call) (*answer, error)
	// streams is set if the body is data, whose SHA-256 has to be in a header.
	streams bool
}

// operations is the part of the API there is here
// (docs.aws.amazon.com/amazonglacier/latest/dev/amazon-glacier-api.html).
var operations = []operation{
	{name: "ListVaults", method: "GET", path: route(`/vaults`), do: (*Server).listVaults},
	{name: "CreateVault", method: "PUT", path: route(`/vaults/VAULT`), do: (*Server).createVault},
	{name: "DescribeVault", method: "GET", path: route(`/vaults/VAULT`), do: (*Server).describeVault},
	{name: "DeleteVault", method: "DELETE", path: route(`/vaults/VAULT`), do: (*Server).deleteVault},
	{name: "UploadArchive", method: "POST", path: route(`/vaults/VAULT/archives`), do: (*Server).uploadArchive, streams: true},
	{name: "DeleteArchive", method: "DELETE", path: route(`/vaults/VAULT/archives/ID`), do: (*Server).deleteArchive},
	{name: "InitiateMultipartUpload", method: "POST", path: route(`/vaults/VAULT/multipart-uploads`), do: (*Server).initiateUpload},
	{name: "ListMultipartUploads", method: "GET", path: route(`/vaults/VAULT/multipart-uploads`), do: (*Server).listUploads},
	{name: "UploadMultipartPart", method: "PUT", path: route(`/vaults/VAULT/multipart-uploads/ID`), do: (*Server).uploadPart, streams: true},
	{name: "CompleteMultipartUpload", method: "POST", path: route(`/vaults/VAULT/multipart-uploads/ID`), do: (*Server).completeUpload},
	{name: "ListParts", method: "GET", path: route(`/vaults/VAULT/multipart-uploads/ID`), do: (*Server).listParts},
	{name: "AbortMultipartUpload", method: "DELETE", path: route(`/vaults/VAULT/multipart-uploads/ID`), do: (*Server).abortUpload},
	{name: "InitiateJob", method: "POST", path: route(`/vaults/VAULT/jobs`), do: (*Server).initiateJob},
	{name: "ListJobs", method: "GET", path: route(`/vaults/VAULT/jobs`), do: (*Server).listJobs},
	{name: "DescribeJob", method: "GET", path: route(`/vaults/VAULT/jobs/ID`), do: (*Server).describeJob},
	{name: "GetJobOutput", method: "GET", path: route(`/vaults/VAULT/jobs/ID/output`), do: (*Server).getOutput},
}

func route(path string) *regexp.Regexp {
	path = strings.ReplaceAll(path, "VAULT", "([^/]+)")
	return regexp.MustCompile("^/([^/]+)" + strings.ReplaceAll(path, "ID", "([^/]+)") + "$")
}

// find tells which operation a request is.
func find(r *http.Request) (*operation, *call) {
	c := &call{Request: r, seen: &Request{Header: r.Header.Clone()}}
	for i := range operations {
		op := &operations[i]
		m := op.path.FindStringSubmatch(r.URL.Path)
		if m == nil || r.Method != op.method {
			continue
		}
		m = append(m, "", "")
		c.account, c.vault, c.id = m[1], m[2], m[3]
		c.seen.Op, c.seen.Vault, c.seen.ID = op.name, c.vault, c.id
		return op, c
	}
	c.seen.Op = r.Method + " " + r.URL.Path
	return nil, c
}

func (s *Server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.RLock()
		defer s.calls.RUnlock()
		op, c := find(r)
		rule := s.faults.match(c.seen)
		in := &incoming{Reader: r.Body, left: -1}
		if rule != nil && rule.early {
			in.left = rule.cut
		}
		err := s.take(c, in)
		s.faults.note(func() { c.seen.Sent = in.n })
		if err != nil {
			panic(http.ErrAbortHandler) // the client is gone, or was cut off
		}
		defer os.Remove(c.body.file) // if it has not become something
		var a *answer
		switch {
		case rule != nil && rule.status != 0:
			err = &apiError{code: rule.code, message: "A fault that was asked for.", status: rule.status}
		case op == nil:
			err = fail("BadRequest", "There is no such operation.")
		default:
			a, err = s.perform(op, c)
		}
		if a != nil && a.file != nil {
			defer a.file.Close()
		}
		if rule != nil && !rule.early && rule.status == 0 && rule.cut < 0 {
			panic(http.ErrAbortHandler)
		}
		out := &outgoing{ResponseWriter: w, left: -1}
		if rule != nil && !rule.early && rule.status == 0 {
			out.left = rule.cut
		}
		defer func() { s.faults.note(func() { c.seen.Answered = out.n }) }()
		s.reply(out, c, a, err)
	})
}

// take reads the body of a request.
func (s *Server) take(c *call, in io.Reader) (err error) {
	c.body, err = s.state.spool(in)
	return err
}

// perform checks what is the same for all operations, and does one.
func (s *Server) perform(op *operation, c *call) (*answer, error) {
	if err := s.verify(c.Request, c.body.linear, time.Now()); err != nil {
		return nil, err
	}
	switch v := c.Header.Get("X-Amz-Glacier-Version"); v {
	case version:
	case "":
		return nil, missing("API version")
	default:
		return nil, invalid("Invalid API version: %s", v)
	}
	if c.account != "-" && c.account != Account {
		return nil, fail("AccessDeniedException", "User is not authorized to use the account %s.", c.account)
	}
	switch sum := c.Header.Get("X-Amz-Content-Sha256"); {
	case sum == "" && op.streams:
		return nil, missing("x-amz-content-sha256")
	case sum != "" && sum != c.body.linear:
		return nil, invalid("The value passed in as x-amz-content-sha256 does not match the computed payload hash. Computed: %s", c.body.linear)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return op.do(s, c)
}

// reply sends an answer, or an error.
func (s *Server) reply(w *outgoing, c *call, a *answer, err error) {
	w.Header().Set("X-Amzn-Requestid", newID(requestID))
	if err != nil {
		api, ok := errors.AsType[*apiError](err)
		if !ok {
			api = &apiError{code: "ServiceUnavailableException", message: err.Error(), status: http.StatusInternalServerError}
		}
		s.faults.note(func() { c.seen.Status, c.seen.Code = api.status, api.code })
		kind := "Client"
		if api.status >= http.StatusInternalServerError {
			kind = "Server"
		}
		send(w, api.status, map[string]string{"code": api.code, "message": api.message, "type": kind})
		return
	}
	s.faults.note(func() { c.seen.Status = a.status })
	for key, value := range a.header {
		w.Header().Set(key, value)
	}
	switch {
	case a.json != nil:
		send(w, a.status, a.json)
	case a.file != nil:
		w.Header().Set("Content-Length", strconv.FormatInt(a.length, 10))
		w.WriteHeader(a.status)
		_, _ = io.CopyN(w, a.file, a.length) // the client is gone, and notices itself
	default:
		w.WriteHeader(a.status)
	}
}

func send(w http.ResponseWriter, status int, what any) {
	text, err := json.Marshal(what)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client is gone, and notices itself
}

const requestID = 47

var errCut = errors.New("cut")

// incoming counts a body, and breaks off where it is told to.
type incoming struct {
	io.Reader
	n, left int64
}

func (r *incoming) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, errCut
	}
	if r.left > 0 {
		b = b[:min(int64(len(b)), r.left)]
	}
	n, err := r.Reader.Read(b)
	r.n += int64(n)
	if r.left > 0 {
		r.left -= int64(n)
	}
	return n, err
}

// outgoing counts an answer, and breaks the connection where it is told to.
type outgoing struct {
	http.ResponseWriter
	n, left int64
}

func (w *outgoing) Write(b []byte) (int, error) {
	if w.left >= 0 && int64(len(b)) > w.left {
		n, _ := w.ResponseWriter.Write(b[:w.left])
		w.n += int64(n)
		_ = http.NewResponseController(w.ResponseWriter).Flush() // what is written goes out before the cut
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(b)
	w.n += int64(n)
	if w.left >= 0 {
		w.left -= int64(n)
	}
	return n, err
}
