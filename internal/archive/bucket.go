package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

// Bucket holds objects: byte strings of any length under keys, each there as a
// whole or not at all. It knows nothing of what is in them. Its methods may be
// called from several goroutines.
//
// Errors that may go away when the call is made again are marked
// (store.MarkTemporary), after the bucket's own retries.
type Bucket interface {
	// String names the bucket for people: "s3://bucket", "dir:///mnt/usb".
	String() string
	// Location is the same text for two buckets exactly when they are one.
	Location() string
	// Limits says what fits.
	Limits() Limits
	// CheckKey says why there can be no object with a key, in words that name the
	// cause and not the key; nil if there can.
	CheckKey(key string) error

	// List gives the objects whose keys begin with a prefix, each once, in no
	// order that may be relied on. It sees every object that was complete before
	// it began. It holds one page at a time. After an error it ends.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Stat tells of one object; ErrNoObject if there is none.
	Stat(ctx context.Context, key string) (Object, error)
	// Get gives length bytes of an object from an offset on, or less where it
	// ends. ErrNoObject if there is none; *ColdError if it has to be thawed first.
	// A connection that breaks is the reader's error, marked as temporary.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Put makes a small object at once, of Limits.Small bytes at most. Where there
	// is one already it is replaced, or with once set, it stays and the error is
	// ErrTaken.
	Put(ctx context.Context, key string, data []byte, once bool) error
	// Copy makes an object with the content of another one, of whatever length,
	// without its bytes passing through here, and replaces what is there.
	Copy(ctx context.Context, from, to string) error
	// Delete removes an object; that there is none is no error.
	Delete(ctx context.Context, key string) error

	// Begin starts an upload. Nothing is to be seen under the key until it is
	// complete.
	Begin(ctx context.Context, key string, o UploadOptions) (Upload, error)
	// Uploads gives the uploads that were begun and are not complete, of keys
	// that begin with a prefix.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Unfinished, error]
	// Continue takes up an unfinished upload again; ErrNoUpload if it is not there
	// any more.
	Continue(ctx context.Context, u Unfinished) (Upload, error)

	// Close releases what the bucket holds open.
	Close() error
}

// Limits says what fits into a bucket.
type Limits struct {
	// Small is how long an object of Put may be.
	Small int64
	// MinPart and MaxPart are how long a part may be; the last one may be
	// shorter.
	MinPart, MaxPart int64
	// Parts is how many parts an upload may have.
	Parts int
	// Object is how long an object may be.
	Object int64
	// PowersOfTwo is set if the length of parts has to be MinPart times a power of
	// two.
	PowersOfTwo bool
}

// Object is what a bucket says of an object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	// Tag changes when the content does; empty where the bucket has none.
	Tag string
	// Class is where the bucket keeps it ("GLACIER"); empty for its usual place.
	Class string
	// Cold is set if it has to be thawed before it can be read.
	Cold bool
	// Fixed is set if the object is not to be copied: it cannot be, or deleting it
	// early costs as much as keeping it.
	Fixed bool
}

// Thawer is a bucket with objects that have to be thawed.
type Thawer interface {
	// Thaw tells how things stand with objects, and asks for those that are cold, as
	// store.Thawer does. The answers are in the order of the keys, and have no edge
	// and no path. Where there is no such object the error matches ErrNoObject.
	Thaw(ctx context.Context, keys []string, o store.ThawOptions) ([]store.Thawing, error)
}

// Billed is a bucket for which somebody gets a bill.
type Billed interface {
	// Tariff says whose prices hold; PartSize is left out. It asks nobody.
	Tariff() *store.Tariff
}

// Tagger is a bucket that can tell which tag an object of parts is going to have, in
// its own way. Of others that of S3 is expected.
type Tagger interface {
	// TagOf is that tag, where all parts but the last have the length partSize; empty
	// if it cannot be told. It asks nobody.
	TagOf(parts []Part, partSize int64) string
}

// UploadOptions say what is going to be uploaded.
type UploadOptions struct {
	// PartSize is the length of all parts but the last.
	PartSize int64
	// Size is the expected length of the whole; 0 if it is not known.
	Size int64
}

// Unfinished is an upload that was begun and is not complete.
type Unfinished struct {
	Key, ID string
	Begun   time.Time
}

// Upload is an object that is made of parts. Put may be called from several
// goroutines, for different numbers.
type Upload interface {
	// Unfinished names the upload.
	Unfinished() Unfinished
	// Parts returns what has been stored, in order of the numbers.
	Parts(ctx context.Context) ([]Part, error)
	// Put stores a part, numbered from 1 on, in place of one that is there. What
	// is stored has been compared with the checksum, by whoever stores it.
	Put(ctx context.Context, number int, body Body) (Part, error)
	// Complete makes the object out of exactly these parts, in order, and returns
	// when it is durable; the bucket drops any others. It fails with ErrTaken where
	// an object has come to the key since, and leaves that as it is; with
	// ErrNoUpload where the upload is gone, and where a part has been replaced by
	// other hands.
	Complete(ctx context.Context, parts []Part) (Object, error)
	// Abort drops the upload and all its parts; that it is gone is no error.
	Abort(ctx context.Context) error
}

// Body is the content of a part.
type Body struct {
	io.ReadSeeker
	Size int64
	// CRC32C is its checksum (Castagnoli).
	CRC32C uint32
}

// Part is a part that is stored.
type Part struct {
	Number int
	Size   int64
	// Tag names the content of the part: in lower-case hexadecimal, where the
	// bucket has it, the MD5 of it. Whoever compares has to be prepared for a Tag
	// that is something else.
	Tag string
}

var (
	// ErrNoObject says that there is no object with a key.
	ErrNoObject = errors.New("no such object")
	// ErrTaken says that there is an object with a key already.
	ErrTaken = errors.New("there is such an object already")
	// ErrNoUpload says that an upload is not there any more.
	ErrNoUpload = errors.New("no such upload")
)

// ColdError says that an object cannot be read before it has been thawed.
type ColdError struct{ Key, Class string }

// Is makes it store.ErrCold.
func (e *ColdError) Is(target error) bool { return target == store.ErrCold }

func (e *ColdError) Error() string {
	return fmt.Sprintf("%s is in cold storage (%s) and has to be thawed first", e.Key, e.Class)
}

// DeniedError says that the bucket does not let us do something.
type DeniedError struct {
	Bucket string
	// Action is what the bucket calls it: "s3:PutObject", "writing".
	Action string
	Key    string // may be empty
	Err    error
}

func (e *DeniedError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s does not allow %s: %v", e.Bucket, e.Action, e.Err)
	}
	return fmt.Sprintf("%s does not allow %s for %s: %v", e.Bucket, e.Action, e.Key, e.Err)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// Is makes it fs.ErrPermission.
func (e *DeniedError) Is(target error) bool { return target == fs.ErrPermission }
