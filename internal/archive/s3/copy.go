package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// Copy makes an object with the content of another one, in the same storage
// class. What is encrypted with a key of KMS's stays so, unless something else is
// asked for.
func (b *Bucket) Copy(ctx context.Context, from, to string) error {
	r := &request{doing: "copying " + from + " to", key: to, action: "s3:PutObject"}
	// Objects of old programs are moved too, whose keys begin with a slash.
	if err := impossible(to); err != nil {
		return r.wrap(b, fmt.Errorf("there can be no such key: %w", err))
	}
	source, err := b.head(ctx, from)
	if err != nil {
		return err
	}
	c := &copying{b: b, r: r, from: source.Object, to: to, class: types.StorageClass(source.class)}
	err = b.adapt(true, false, nil, func(m manner) error {
		if b.o.SSE == "" && source.sse.key != nil {
			m.sse = source.sse
		}
		if source.Size > b.copyOver {
			return c.inParts(ctx, m)
		}
		return c.whole(ctx, m)
	})
	if errors.Is(err, archive.ErrTaken) { // of the condition on the source
		return store.MarkTemporary(r.wrap(b, errors.New("its source has been replaced meanwhile")))
	}
	if _, ok := errors.AsType[*archive.ColdError](err); ok {
		return r.wrap(b, &archive.ColdError{Key: from, Class: source.class})
	}
	return err
}

// copying is a copy that is being made.
type copying struct {
	b     *Bucket
	r     *request
	from  archive.Object
	to    string
	class types.StorageClass
}

// whole copies by one request.
func (c *copying) whole(ctx context.Context, m manner) error {
	return c.b.do(ctx, c.r, func(o option) error {
		out, err := c.b.client.CopyObject(ctx, &sdk.CopyObjectInput{
			Bucket: &c.b.o.Bucket, Key: &c.to, CopySource: aws.String(copySource(c.b.o.Bucket, c.from.Key)),
			CopySourceIfMatch: c.match(), StorageClass: c.class,
			ServerSideEncryption: m.sse.how, SSEKMSKeyId: m.sse.key,
		}, o)
		return whole(err, err == nil && out.CopyObjectResult != nil && out.CopyObjectResult.ETag != nil)
	})
}

// match keeps another object that comes to the place of the source from being
// copied, or from becoming a part of the copy.
func (c *copying) match() *string {
	if c.from.Tag == "" {
		return nil
	}
	return aws.String(`"` + c.from.Tag + `"`)
}

// inParts copies range by range, several at a time.
func (c *copying) inParts(ctx context.Context, m manner) (err error) {
	var begun *sdk.CreateMultipartUploadOutput
	err = c.b.do(ctx, c.r, func(o option) (err error) {
		begun, err = c.b.client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{
			Bucket: &c.b.o.Bucket, Key: &c.to, StorageClass: c.class,
			ServerSideEncryption: m.sse.how, SSEKMSKeyId: m.sse.key,
		}, o)
		return err
	})
	if err != nil {
		return err
	}
	u := &upload{b: c.b, u: archive.Unfinished{Key: c.to, ID: aws.ToString(begun.UploadId)}, sums: map[int32]stored{}}
	defer func() {
		if err == nil {
			return
		}
		// Also where the copy was interrupted: what is left of it is of no use.
		const enough = 30 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enough)
		defer cancel()
		if e := u.Abort(ctx); e != nil {
			c.b.log.Warn("an unfinished copy stays behind", "key", c.to, "error", e)
		}
	}()
	parts, err := c.ranges(ctx, u)
	if err != nil {
		return err
	}
	err = c.b.do(ctx, c.r, func(o option) error {
		out, err := c.b.client.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{
			Bucket: &c.b.o.Bucket, Key: &c.to, UploadId: &u.u.ID,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		}, o)
		return whole(err, err == nil && out.ETag != nil)
	})
	if c.r.unsure && errors.Is(err, archive.ErrNoUpload) && c.done(ctx, parts) {
		return nil
	}
	return err
}

// done reports whether the object is made of these parts: the reply that said so
// was lost.
func (c *copying) done(ctx context.Context, parts []types.CompletedPart) bool {
	var made []archive.Part
	for _, p := range parts {
		made = append(made, archive.Part{Tag: tag(p.ETag)})
	}
	want := joinedTag(made)
	o, err := c.b.Stat(ctx, c.to)
	return err == nil && want != "" && o.Tag == want && o.Size == c.from.Size
}

// ranges copies the content as parts of an upload.
func (c *copying) ranges(ctx context.Context, u *upload) ([]types.CompletedPart, error) {
	size := max(c.b.copyPart, (c.from.Size+maxParts-1)/maxParts)
	count := int((c.from.Size + size - 1) / size)
	parts := make([]types.CompletedPart, count)

	const atOnce = 4
	var (
		work    = make(chan int)
		workers sync.WaitGroup
		errs    = make([]error, count)
		failed  atomic.Bool
	)
	for range min(atOnce, count) {
		workers.Go(func() {
			for i := range work {
				offset := int64(i) * size
				parts[i], errs[i] = c.part(ctx, u, int32(i+1), offset, min(size, c.from.Size-offset))
				if errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	// After an error no more are begun, but those there are come to their end: what
	// is stored after an upload was dropped brings it back.
	for i := 0; i < count && !failed.Load(); i++ {
		work <- i
	}
	close(work)
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// part copies one range.
func (c *copying) part(ctx context.Context, u *upload, number int32, offset, length int64) (types.CompletedPart, error) {
	r := &request{doing: c.r.doing, key: c.r.key, action: c.r.action}
	var out *sdk.UploadPartCopyOutput
	err := c.b.do(ctx, r, func(o option) (err error) {
		out, err = c.b.client.UploadPartCopy(ctx, &sdk.UploadPartCopyInput{
			Bucket: &c.b.o.Bucket, Key: &c.to, UploadId: &u.u.ID, PartNumber: &number,
			CopySource: aws.String(copySource(c.b.o.Bucket, c.from.Key)), CopySourceIfMatch: c.match(),
			CopySourceRange: byteRange(offset, length),
		}, o)
		return whole(err, err == nil && out.CopyPartResult != nil && out.CopyPartResult.ETag != nil)
	})
	if err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{PartNumber: &number, ETag: out.CopyPartResult.ETag}, nil
}
