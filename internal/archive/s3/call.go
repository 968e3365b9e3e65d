package s3

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// How often a request is made before its error is given on, where neither the
// environment nor the profile says so (AWS_MAX_ATTEMPTS), and how long it rests at
// most between two.
const (
	attempts = 10
	longest  = 20 * time.Second
)

// request is something that is asked of the bucket.
type request struct {
	doing  string // for people: "storing part 3 of"
	key    string // may be empty
	action string // what has to be allowed for it, "s3:PutObject"
	plain  bool   // its body has a checksum, and needs no digest in the signature

	// unsure is set once an attempt has ended without an answer, so that what was
	// asked for may have been done.
	unsure bool
}

// option changes one call of the SDK.
type option = func(*sdk.Options)

// do asks something of the bucket. What the SDK does not put right by asking
// again it puts right here, once: credentials that have expired, another region,
// a host name that is not there. Its errors are those of archive.Bucket.
func (b *Bucket) do(ctx context.Context, r *request, ask func(option) error) error {
	var renewed, moved, renamed bool
	for {
		path, region := b.path.Load(), b.where()
		err := ask(b.option(r, path, region))
		if err == nil {
			b.met.Store(true)
			b.outage.Over(b.log, b.server())
			return nil
		}
		if ctx.Err() != nil {
			return r.wrap(b, ctx.Err())
		}
		a, answered := answerOf(err)
		if answered && !passing(err) {
			b.outage.Over(b.log, b.server())
		}
		if a.code == "NoSuchKey" || a.code == "NoSuchUpload" {
			b.met.Store(true)
		}
		switch {
		case answered && a.unknownUser() && !renewed:
			renewed = true
			b.log.Debug("looking for credentials again", "because", a.code)
			b.creds.Invalidate()
		case answered && !moved && b.move(a, region):
			moved = true
		case !answered && !renamed && !path && b.endpoint != "" && unnamed(err, b.o.Bucket):
			renamed = true
			b.log.Debug("putting the name of the bucket into the path", "because", err)
			b.path.Store(true)
		default:
			return b.explain(r, err)
		}
	}
}

// option is what all calls for a request have in common.
func (b *Bucket) option(r *request, path bool, region string) option {
	return func(o *sdk.Options) {
		o.Region = region
		o.UsePathStyle = path
		o.Retryer = &retryer{Standard: b.retries, request: r, bucket: b}
		if r.plain && b.proven.Load() {
			o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
				return v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware(stack)
			})
		}
	}
}

// move goes to the region that an answer names, if that is another one than was
// asked.
func (b *Bucket) move(a answer, asked string) bool {
	if a.region == "" || a.region == asked {
		return false
	}
	switch a.status {
	case 301, 302, 307, 400:
		b.log.Debug("the bucket is in another region", "bucket", b.o.Bucket, "region", a.region, "asked", asked)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.region, b.guessed = a.region, false
		return true
	}
	return false
}

// newRetries says what is asked again, how often, and after how long.
func newRetries(attempts int, longest time.Duration) *retry.Standard {
	return reach.NewRetries(attempts, longest, func(err error) aws.Ternary {
		if passing(err) {
			return aws.TrueTernary
		}
		return aws.UnknownTernary
	})
}

// retryer watches over the attempts of one request.
type retryer struct {
	*retry.Standard
	request *request
	bucket  *Bucket
}

// IsErrorRetryable is asked once about every attempt that has failed.
func (r *retryer) IsErrorRetryable(err error) bool {
	// There have been credentials, so what they come from may have them again.
	_, missing := errors.AsType[*reach.CredentialsError](err)
	if a, answered := answerOf(err); !missing && (!answered || a.status >= 500 && a.status != 501 || a.status < 300) {
		r.request.unsure = true
	}
	again := missing || !reach.Misdirected(err) && !noCapacity(err) && r.Standard.IsErrorRetryable(err)
	if again {
		r.bucket.log.Debug("asking S3 again", "action", r.request.action, "key", r.request.key, "because", err)
		r.bucket.outage.Failed(r.bucket.log, time.Now(), func() error { return r.bucket.explain(r.request, err) })
	}
	return again
}

// noCapacity reports whether there is nobody who thaws something at once. It may
// take hours until there is.
// docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html
func noCapacity(err error) bool {
	a, _ := answerOf(err)
	return a.code == "GlacierExpeditedRetrievalNotAvailable"
}

// passing reports whether an error is about a connection, or an answer that the
// server gives when it has too much to do.
func passing(err error) bool {
	if reach.Broken(err) {
		return true
	}
	a, answered := answerOf(err)
	if !answered || noCapacity(err) {
		return false
	}
	switch a.code {
	// docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
	case "InternalError", "ServiceUnavailable", "SlowDown", "OperationAborted", "RequestTimeout", "IncompleteBody",
		"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ReducedRequestRate", "Busy":
		return true
	// versitygw has this answer, too, while somebody else removes the last object
	// beside the one that is being made.
	case "ExistingObjectIsDirectory":
		return true
	}
	// What is not implemented stays so, and storage that is full does for long.
	return a.status == 429 || a.status >= 500 && a.status != 501 && a.status != 507
}
