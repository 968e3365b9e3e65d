package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
)

// Stat tells of one object.
func (b *Bucket) Stat(ctx context.Context, key string) (archive.Object, error) {
	h, err := b.head(ctx, key)
	return h.Object, err
}

// header is an object with what the server says of how it keeps it.
type header struct {
	archive.Object
	class string // as the server names it
	sse   encryption
	thaw  thawed
	deep  bool // there is no way to thaw it within minutes
}

// head is Stat, with all that the server says. An answer to HEAD has no
// text, so what an error is about is found out by reading a byte.
func (b *Bucket) head(ctx context.Context, key string) (header, error) {
	h, err := b.ask(ctx, key)
	a, refused := answerIn(err)
	denied, is := errors.AsType[*archive.DeniedError](err)
	switch {
	case is: // which may be a token that has expired
		a, refused = answerIn(denied.Err)
	case errors.Is(err, archive.ErrNoObject):
		refused = !b.met.Load() // there may be no bucket
	}
	if !refused || a.status >= 500 {
		return h, err
	}
	if why := b.peek(ctx, key); why != nil {
		return header{}, why
	}
	return b.ask(ctx, key)
}

// ask asks for what is known of an object.
func (b *Bucket) ask(ctx context.Context, key string) (header, error) {
	r := &request{doing: "looking at", key: key, action: "s3:GetObject"}
	var out *sdk.HeadObjectOutput
	err := b.do(ctx, r, func(o option) (err error) {
		out, err = b.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &b.o.Bucket, Key: &key}, o)
		return err
	})
	if err != nil {
		return header{}, err
	}
	found := object(key, aws.ToInt64(out.ContentLength), out.LastModified, out.ETag, string(out.StorageClass))
	h := header{
		Object: found, class: string(out.StorageClass), sse: encryption{out.ServerSideEncryption, out.SSEKMSKeyId},
		thaw: parseRestore(aws.ToString(out.Restore)),
	}
	// What nobody has read for months may be in an archive tier.
	h.Cold = (h.Cold || out.ArchiveStatus != "") && !h.thaw.done
	h.deep = out.StorageClass == types.StorageClassDeepArchive || out.ArchiveStatus == types.ArchiveStatusDeepArchiveAccess
	return h, nil
}

// peek reads a byte of an object.
func (b *Bucket) peek(ctx context.Context, key string) error {
	r := &request{doing: "looking at", key: key, action: "s3:GetObject"}
	err := b.do(ctx, r, func(o option) error {
		out, err := b.client.GetObject(ctx, &sdk.GetObjectInput{Bucket: &b.o.Bucket, Key: &key, Range: aws.String("bytes=0-0")}, o)
		if err == nil {
			err = out.Body.Close()
		}
		return err
	})
	if a, ok := answerIn(err); ok && a.status == 416 {
		return nil // it is empty
	}
	return err
}

// Get gives length bytes of an object from an offset on.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("reading %s in %s: %d bytes from %d on are no part of anything", key, b, length, offset)
	}
	if length == 0 {
		if _, err := b.Stat(ctx, key); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r := &request{doing: "reading", key: key, action: "s3:GetObject"}
	var out *sdk.GetObjectOutput
	err := b.do(ctx, r, func(o option) (err error) {
		out, err = b.client.GetObject(ctx, &sdk.GetObjectInput{Bucket: &b.o.Bucket, Key: &key, Range: byteRange(offset, length)}, o)
		return err
	})
	if a, ok := answerIn(err); ok && a.status == 416 {
		return io.NopCloser(bytes.NewReader(nil)), nil // it ends before
	}
	if err != nil {
		return nil, b.cold(ctx, r, err)
	}
	if offset > 0 && out.ContentRange == nil {
		out.Body.Close()
		return nil, r.wrap(b, errors.New("the server sends whole objects where a part was asked for"))
	}
	return &body{ReadCloser: out.Body, left: length, known: out.ContentLength, ctx: ctx}, nil
}

// cold names the class in an error about an object that is in cold storage.
func (b *Bucket) cold(ctx context.Context, r *request, err error) error {
	if cold, ok := errors.AsType[*archive.ColdError](err); !ok || cold.Class != unnamedClass {
		return err
	}
	if h, failed := b.head(ctx, r.key); failed == nil && h.class != "" {
		return r.wrap(b, &archive.ColdError{Key: r.key, Class: h.class})
	}
	return err
}

// byteRange is what a request has to say for length bytes from an offset on.
func byteRange(offset, length int64) *string {
	if length > math.MaxInt64-offset {
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
}

// body is the content of an object that is being read.
type body struct {
	io.ReadCloser
	left  int64  // bytes that were asked for and have not come
	known *int64 // bytes that the server has announced, less those that have come
	ctx   context.Context
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.known != nil {
		*b.known -= int64(n)
		if errors.Is(err, io.EOF) && *b.known > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, reach.ReadError(b.ctx, err)
}

// Put makes a small object at once.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, once bool) error {
	r := &request{doing: "storing", key: key, action: "s3:PutObject"}
	if len(data) > small {
		return r.wrap(b, fmt.Errorf("%d bytes are too many for one request", len(data)))
	}
	if err := b.CheckKey(key); err != nil {
		return r.wrap(b, fmt.Errorf("there can be no such key: %w", err))
	}
	sum := checksum(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	taken := func() error { return b.taken(ctx, r, key) }
	err := b.adapt(true, once, taken, func(m manner) error {
		return b.do(ctx, r, func(o option) error {
			in := &sdk.PutObjectInput{
				Bucket: &b.o.Bucket, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
				ChecksumCRC32C: &sum, ServerSideEncryption: m.sse.how, SSEKMSKeyId: m.sse.key,
			}
			if m.once {
				in.IfNoneMatch = aws.String("*")
			}
			out, err := b.client.PutObject(ctx, in, o)
			return whole(err, err == nil && out.ETag != nil)
		})
	})
	if once && r.unsure && errors.Is(err, archive.ErrTaken) && b.holds(ctx, key, data) {
		return nil // it was ours that has been stored, and its reply that was lost
	}
	if a, ok := answerIn(err); ok && a.code == "ConditionalRequestConflict" {
		return b.conflict(ctx, r, key, err)
	}
	return err
}

// taken is ErrTaken if there is an object with a key.
func (b *Bucket) taken(ctx context.Context, r *request, key string) error {
	switch _, err := b.Stat(ctx, key); {
	case err == nil:
		return r.wrap(b, archive.ErrTaken)
	case errors.Is(err, archive.ErrNoObject):
		return nil
	default:
		return err
	}
}

// holds reports whether an object has a content.
func (b *Bucket) holds(ctx context.Context, key string, data []byte) bool {
	in, err := b.Get(ctx, key, 0, int64(len(data))+1)
	if err != nil {
		return false
	}
	defer in.Close()
	got, err := io.ReadAll(in)
	return err == nil && bytes.Equal(got, data)
}

// Delete removes an object.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	r := &request{doing: "deleting", key: key, action: "s3:DeleteObject"}
	err := b.do(ctx, r, func(o option) error {
		_, err := b.client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: &b.o.Bucket, Key: &key}, o)
		return err
	})
	if errors.Is(err, archive.ErrNoObject) {
		return nil
	}
	return err
}

// object makes what the server says of an object ours.
func object(key string, size int64, modified *time.Time, etag *string, class string) archive.Object {
	c := classOf(class)
	return archive.Object{
		Key: key, Size: size, Modified: aws.ToTime(modified).UTC(), Tag: tag(etag),
		Class: usual(class), Cold: c.cold, Fixed: c.fixed,
	}
}

// tag is an ETag as we know it: without the quotes.
func tag(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// checksum is a CRC32C as requests have it: its four bytes in base64, the highest
// first.
func checksum(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
