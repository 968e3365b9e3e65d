// Package s3 keeps an archive's objects in a bucket of S3, or of whatever speaks
// its protocol.
//
// It knows the requests of the protocol, where credentials, regions and
// endpoints come from, which errors go away by themselves, how to find out
// what has happened when a reply was lost, and which storage classes are cold. It
// refuses to know what is in the objects, what their keys mean, and what anything
// costs.
//
// Invariants. Every byte that is stored goes with a checksum that the server
// compares before it says that it has it. A request is made again for as long as
// its error may be temporary, some ten times over two minutes or so; what still fails is
// marked (store.MarkTemporary). No transfer has a limit of time, however slow;
// but a connection over which nothing has moved for Options.StallAfter is cut
// and made again. What is asked of cold storage is never asked for again before it
// has come and gone. Nothing secret is in errors or logs.
//
// Memory: bodies are sent from where they lie, and given on as they come; beside
// them there are some hundred KiB per connection, and one page of a listing.
//
//	bucket, err := s3.Open(ctx, s3.Options{Bucket: "backups", Log: log})
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/pace"
)

// Options say which bucket is meant and how it is used.
type Options struct {
	// Bucket is its name.
	Bucket string
	// Endpoint is the address of the server ("https://minio.example.org:9000");
	// empty for that of the environment or the profile (AWS_ENDPOINT_URL_S3,
	// AWS_ENDPOINT_URL), and if there is none, AWS.
	Endpoint string
	// Region is where the bucket is; empty for that of the environment or the
	// profile. A wrong one is put right where the server says so.
	Region string
	// PathStyle puts the bucket's name into the path of a URL in place of the
	// host's name. It is done anyway where the other way cannot work.
	PathStyle bool
	// Class is the storage class of uploads ("STANDARD_IA", "DEEP_ARCHIVE"); empty
	// for the bucket's usual. It does not apply to Put, nor to uploads that are known
	// to have less than 128 KiB.
	Class string
	// SSE is how the server encrypts what it stores: "AES256", "aws:kms", "none"
	// for as the bucket is set. Empty is AES256, or none where the server cannot.
	SSE string
	// KMSKey is the key for aws:kms; empty for the bucket's.
	KMSKey string
	// StallAfter is how long nothing may move over a connection before it is cut;
	// 0 is a minute.
	StallAfter time.Duration
	// Limit is what all connections stay below together, in both directions; nil is
	// no limit. Where it is so slow that a connection has to wait long for its turn,
	// StallAfter grows.
	Limit *pace.Limiter
	// Getenv looks up an environment variable; nil is os.Getenv.
	Getenv func(string) string
	// Log gets warnings and details; nil is silence.
	Log *slog.Logger
}

// Limits of S3, which the servers that speak its protocol keep too. AWS takes
// objects of up to 50 TB since December 2025, others do not.
// docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	minPart   = 5 << 20
	maxPart   = 5 << 30
	maxParts  = 10_000
	maxObject = 5 << 40
	maxKey    = 1024 // bytes
	// maxCopy is how long an object may be that is copied by one request.
	// docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
	maxCopy = 5 << 30
	// small is a limit of ours for what is sent by one request out of memory.
	small = 64 << 20
)

const defaultStall = time.Minute

// Bucket is a bucket of S3. It is an archive.Bucket.
type Bucket struct {
	o         Options
	log       *slog.Logger
	client    *sdk.Client
	creds     *aws.CredentialsCache
	endpoint  string // empty for AWS
	transport *http.Transport
	retries   *retry.Standard

	path   atomic.Bool // the bucket's name goes into the path
	met    atomic.Bool // the bucket has answered once, so there is one
	proven atomic.Bool // parts may go without a digest in the signature
	near   bool        // the server is on this machine
	outage reach.Outage

	mu      sync.Mutex
	region  string
	guessed bool  // nobody has said which region it is
	lacks   lacks // what the server has turned out not to know

	page     int32 // keys of a page of a listing; 0 is the server's usual
	copyOver int64 // objects longer than this are copied in parts
	copyPart int64 // of at least this length
}

var (
	_ archive.Bucket = (*Bucket)(nil)
	_ archive.Thawer = (*Bucket)(nil)
	_ archive.Billed = (*Bucket)(nil)
)

// lacks says what a server does not know.
type lacks struct {
	sse  bool // encryption
	once bool // conditional writes
	// status is whether objects are thawed, in a listing.
	status bool
}

// Open makes a Bucket ready. It finds credentials, and asks the bucket nothing.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	if o.Bucket == "" {
		return nil, errors.New("the name of the bucket is missing: s3://BUCKET/PREFIX")
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.StallAfter == 0 {
		o.StallAfter = defaultStall
	}
	o.StallAfter = max(o.StallAfter, reach.TurnAfter(o.Limit))
	if err := checkSSE(o); err != nil {
		return nil, err
	}
	b := &Bucket{o: o, log: o.Log, copyOver: maxCopy, copyPart: 1 << 30}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if b.transport, err = reach.NewTransport(o.Getenv, o.Limit, o.StallAfter); err != nil {
		return nil, err
	}
	if err := b.connect(ctx); err != nil {
		b.transport.CloseIdleConnections()
		return nil, err
	}
	if err := checkClass(o.Class, b.endpoint); err != nil {
		b.transport.CloseIdleConnections()
		return nil, err
	}
	return b, nil
}

// String names the bucket for people.
func (b *Bucket) String() string { return "s3://" + b.o.Bucket }

// Location is the same text for two buckets exactly when they are one.
func (b *Bucket) Location() string { return location(b.endpoint, b.o.Bucket) }

// Limits says what fits into a bucket.
func (b *Bucket) Limits() archive.Limits {
	return archive.Limits{Small: small, MinPart: minPart, MaxPart: maxPart, Parts: maxParts, Object: maxObject}
}

// CheckKey says why there can be no object with a key. Some that S3 would take
// are among them: many servers keep objects in files, and so take slashes for
// what they are in paths. One that a key begins with is what AWS alone, and old
// programs, take as it is.
func (b *Bucket) CheckKey(key string) error {
	if err := impossible(key); err != nil {
		return err
	}
	if strings.ContainsRune(key, 0) {
		return errors.New("it has a zero byte")
	}
	if strings.ContainsFunc(key, unlisted) && !reach.IsAWS(b.endpoint) {
		return errors.New("it has a control character, which gets lost in listings of servers other than Amazon's")
	}
	const longest = 255 // bytes of a file's name
	if reach.IsAWS(b.endpoint) {
		key = strings.TrimPrefix(key, "/")
	}
	for c := range strings.SplitSeq(key, "/") {
		switch {
		case c == "":
			return errors.New("it begins or ends with a slash, or has two in a row")
		case len(c) > longest:
			return fmt.Errorf("it has a component of %d bytes, and servers that keep files take up to %d", len(c), longest)
		}
	}
	return nil
}

// unlisted reports whether XML cannot say a character (https://www.w3.org/TR/xml/#charsets).
// Who is asked for names as in URLs can list it, and many do as if they had not been.
func unlisted(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
}

// impossible says why S3 cannot have a key.
// docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
func impossible(key string) error {
	switch {
	case key == "":
		return errors.New("it is empty")
	case len(key) > maxKey:
		return fmt.Errorf("it has %d bytes, and S3 takes keys of up to %d", len(key), maxKey)
	case !utf8.ValidString(key):
		return errors.New("it is not UTF-8")
	case dotted(key):
		return errors.New("it has a component . or .., which get lost on the way")
	}
	return nil
}

// Close gives back connections.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}
