package s3

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/store"
)

// errNotS3 is about a reply that says that all is well, and nothing of what such a
// reply has to say: a proxy's, or that of a web page.
var errNotS3 = errors.New("the reply is not that of an S3 server; look at the endpoint")

// whole is err, or errNotS3 where a reply without an error does not say what it has
// to.
func whole(err error, has bool) error {
	if err == nil && !has {
		return errNotS3
	}
	return err
}

// answer is what a server says of a request that it does not carry out.
type answer struct {
	status  int
	code    string // "NoSuchKey"
	message string
	region  string // where the bucket is, if it says so
	id      string // its own name for the request, for those who keep it
}

// answerOf finds the server's answer in an error of the SDK; ok is false if
// there was none.
func answerOf(err error) (a answer, ok bool) {
	resp, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok {
		return a, false
	}
	api, hasCode := errors.AsType[smithy.APIError](err)
	a.status = resp.HTTPStatusCode()
	if !hasCode && a.status < 300 {
		return a, false // it was not understood to its end
	}
	if resp.Response != nil {
		a.region = resp.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if aws, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		a.id = aws.ServiceRequestID()
	}
	if hasCode {
		a.code, a.message = api.ErrorCode(), api.ErrorMessage()
	}
	if m := expected.FindStringSubmatch(a.message); m != nil && a.region == "" {
		a.region = m[1]
	}
	return a, true
}

// expected is how AWS, and those who do as it does, name the region that a
// request should have been signed for.
var expected = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

// Error makes an answer the cause of an error.
func (a answer) Error() string {
	text := a.code
	if a.message != "" && a.message != a.code {
		text += ": " + strings.TrimSuffix(a.message, ".")
	}
	if text == "" {
		text = fmt.Sprintf("HTTP status %d", a.status)
	}
	if a.id != "" {
		text += " (request " + a.id + ")"
	}
	return text
}

// answerIn finds the server's answer in an error of do.
func answerIn(err error) (answer, bool) { return errors.AsType[answer](err) }

// unknownUser reports whether the server does not take the credentials, which
// others, or the same renewed, may put right.
func (a answer) unknownUser() bool {
	switch a.code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "RequestExpired",
		"InvalidAccessKeyId", "SignatureDoesNotMatch":
		return true
	}
	return false
}

// about is what an error is about, in one of the ways in which
// archive.Bucket tells of it.
func (a answer) about(r *request) error {
	switch a.code {
	case "NoSuchKey":
		return archive.ErrNoObject
	case "NoSuchUpload":
		return archive.ErrNoUpload
	case "PreconditionFailed":
		return archive.ErrTaken
	}
	if a.status == 404 && r.action == "s3:GetObject" && a.code != "NoSuchBucket" {
		return archive.ErrNoObject
	}
	return nil
}

// wrap says what was being done when an error came.
func (r *request) wrap(b *Bucket, err error) error {
	if r.key == "" {
		return fmt.Errorf("%s %s: %w", r.doing, b, err)
	}
	return fmt.Errorf("%s %s in %s: %w", r.doing, r.key, b, err)
}

// explain makes of an error of the SDK one that says what to do, in the ways of
// archive.Bucket, without anything secret.
func (b *Bucket) explain(r *request, err error) error {
	a, answered := answerOf(err)
	if !answered {
		return r.wrap(b, b.unanswered(err))
	}
	if known := a.about(r); known != nil {
		return r.wrap(b, known)
	}
	switch {
	case a.code == "NoSuchBucket":
		return r.wrap(b, fmt.Errorf("there is no bucket %s %s; make it first, or look at its name and the endpoint", b.o.Bucket, b.at()))
	case a.code == "InvalidObjectState":
		cold := &archive.ColdError{Key: r.key, Class: unnamedClass}
		if state, ok := errors.AsType[*types.InvalidObjectState](err); ok && state.StorageClass != "" {
			cold.Class = string(state.StorageClass)
		}
		return r.wrap(b, cold)
	case noCapacity(err):
		return store.MarkTemporary(r.wrap(b, fmt.Errorf("%w: nothing is thawed within minutes at present; ask later, or with another tier (--tier standard)", a)))
	case a.code == "InvalidStorageClass":
		return r.wrap(b, fmt.Errorf("%w: the server has no storage class %s", a, b.o.Class))
	case a.code == "RequestTimeTooSkewed":
		return r.wrap(b, fmt.Errorf("%w: set the clock of this machine right", a))
	case strings.HasPrefix(a.code, "Expired"), a.code == "TokenRefreshRequired", a.code == "RequestExpired":
		return r.wrap(b, fmt.Errorf("%w: the credentials have expired, and there are no newer ones; renew them and start again", a))
	case a.unknownUser():
		return r.wrap(b, fmt.Errorf("%w: %s does not know the access key, or the secret is not the right one", a, b.server()))
	case a.status == 307:
		// docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
		return store.MarkTemporary(r.wrap(b, fmt.Errorf("%w: the name of a bucket that was just made is not known everywhere yet", a)))
	case a.code == "AuthorizationHeaderMalformed", a.status == 301, a.status == 302:
		where := ""
		if a.region != "" {
			where = ", which is " + a.region
		}
		return r.wrap(b, fmt.Errorf("%w: the bucket is in another region than %s%s; say which (AWS_REGION)", a, b.where(), where))
	case passing(err):
		return store.MarkTemporary(r.wrap(b, a))
	case a.status == 403 || a.status == 401:
		return &archive.DeniedError{Bucket: b.String(), Action: reach.Denied(a.message, r.action), Key: r.key, Err: a}
	}
	return r.wrap(b, a)
}

// unnamedClass stands for the class of an object where a server does not name it.
const unnamedClass = "archived"

// unanswered explains an error that is not the server's.
func (b *Bucket) unanswered(err error) error { return reach.Unanswered(err, b.server(), passing(err)) }

// server names the server for people.
func (b *Bucket) server() string { return reach.Server(b.endpoint) }

// where is the region that was asked.
func (b *Bucket) where() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.region
}

// at says where a bucket was looked for.
func (b *Bucket) at() string {
	if b.endpoint == "" {
		return "at AWS"
	}
	return "at " + b.endpoint
}
