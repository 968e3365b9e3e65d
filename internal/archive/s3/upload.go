package s3

import (
	"context"
	"crypto/md5" //nolint:gosec // what S3 calls a part by
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// upload is an object that is made of parts.
type upload struct {
	b *Bucket
	u archive.Unfinished
	// summed is set if the upload was begun so that its parts have CRC32C
	// checksums.
	summed bool
	class  string // of the object that it makes

	mu     sync.Mutex
	sums   map[int32]stored
	unsure bool // an earlier Complete may have been carried out
}

// stored is what the server has said of a part.
type stored struct {
	tag string
	sum *string // its checksum, if the server keeps that
}

// Begin starts an upload.
func (b *Bucket) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	r := &request{doing: "beginning to store", key: key, action: "s3:PutObject"}
	if err := b.CheckKey(key); err != nil {
		return nil, r.wrap(b, fmt.Errorf("there can be no such key: %w", err))
	}
	if err := fits(o); err != nil {
		return nil, r.wrap(b, err)
	}
	class := b.classFor(o)
	var out *sdk.CreateMultipartUploadOutput
	err := b.adapt(true, false, nil, func(m manner) error {
		return b.do(ctx, r, func(opt option) (err error) {
			out, err = b.client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{
				Bucket: &b.o.Bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
				StorageClass:         class,
				ServerSideEncryption: m.sse.how, SSEKMSKeyId: m.sse.key,
			}, opt)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	id := aws.ToString(out.UploadId)
	if id == "" {
		return nil, r.wrap(b, errors.New("the server gives no name for the upload"))
	}
	return &upload{
		b: b, u: archive.Unfinished{Key: key, ID: id, Begun: time.Now().UTC()},
		summed: true, class: string(class), sums: map[int32]stored{},
	}, nil
}

// fits says whether parts of a size can make an object.
func fits(o archive.UploadOptions) error {
	switch {
	case o.PartSize != 0 && (o.PartSize < minPart || o.PartSize > maxPart):
		return fmt.Errorf("parts of %d bytes: S3 takes from %d to %d", o.PartSize, int64(minPart), int64(maxPart))
	case o.Size > maxObject:
		return fmt.Errorf("it has %d bytes, and S3 takes objects of up to %d", o.Size, int64(maxObject))
	case o.PartSize != 0 && (o.Size+o.PartSize-1)/o.PartSize > maxParts:
		return fmt.Errorf("%d bytes in parts of %d are more than %d parts", o.Size, o.PartSize, maxParts)
	}
	return nil
}

// Continue takes up an unfinished upload again.
func (b *Bucket) Continue(ctx context.Context, u archive.Unfinished) (archive.Upload, error) {
	if u.ID == "" {
		return nil, fmt.Errorf("taking up the upload of %s in %s again: %w", u.Key, b, archive.ErrNoUpload)
	}
	up := &upload{b: b, u: u, sums: map[int32]stored{}}
	// How its parts are checked was settled when it was begun.
	out, err := up.page(ctx, nil, aws.Int32(1))
	if err != nil {
		return nil, err
	}
	up.summed, up.class = out.ChecksumAlgorithm == types.ChecksumAlgorithmCrc32c, string(out.StorageClass)
	return up, nil
}

// Unfinished names the upload.
func (u *upload) Unfinished() archive.Unfinished { return u.u }

// page asks for some of the parts that have been stored.
func (u *upload) page(ctx context.Context, after *string, most *int32) (*sdk.ListPartsOutput, error) {
	r := &request{doing: "listing the parts of", key: u.u.Key, action: "s3:ListMultipartUploadParts"}
	var out *sdk.ListPartsOutput
	err := u.b.do(ctx, r, func(o option) (err error) {
		out, err = u.b.client.ListParts(ctx, &sdk.ListPartsInput{
			Bucket: &u.b.o.Bucket, Key: &u.u.Key, UploadId: &u.u.ID, PartNumberMarker: after, MaxParts: most,
		}, o)
		return whole(err, err == nil && (out.UploadId != nil || out.IsTruncated != nil))
	})
	return out, err
}

// Parts returns what has been stored.
func (u *upload) Parts(ctx context.Context) ([]archive.Part, error) {
	var (
		parts []archive.Part
		after *string
		most  *int32
	)
	if u.b.page > 0 {
		most = &u.b.page
	}
	for {
		out, err := u.page(ctx, after, most)
		if err != nil {
			return nil, err
		}
		for _, p := range out.Parts {
			number := aws.ToInt32(p.PartNumber)
			parts = append(parts, archive.Part{Number: int(number), Size: aws.ToInt64(p.Size), Tag: tag(p.ETag)})
			u.keep(number, stored{tag: tag(p.ETag), sum: p.ChecksumCRC32C})
		}
		if !aws.ToBool(out.IsTruncated) {
			return parts, nil
		}
		next := aws.ToString(out.NextPartNumberMarker)
		if next == "" || next == aws.ToString(after) {
			return nil, fmt.Errorf("listing the parts of %s in %s: %w", u.u.Key, u.b, errNoEnd)
		}
		after = &next
	}
}

func (u *upload) keep(number int32, s stored) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sums[number] = s
}

// Put stores a part.
func (u *upload) Put(ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	r := &request{doing: fmt.Sprintf("storing part %d of", number), key: u.u.Key, action: "s3:PutObject", plain: u.summed}
	if number < 1 || number > maxParts {
		return archive.Part{}, r.wrap(u.b, fmt.Errorf("parts have numbers from 1 to %d", maxParts))
	}
	if body.Size > maxPart {
		return archive.Part{}, r.wrap(u.b, fmt.Errorf("it has %d bytes, and S3 takes parts of up to %d", body.Size, int64(maxPart)))
	}
	start, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return archive.Part{}, r.wrap(u.b, err)
	}
	in := &sdk.UploadPartInput{
		Bucket: &u.b.o.Bucket, Key: &u.u.Key, UploadId: &u.u.ID, PartNumber: aws.Int32(int32(number)),
		Body: body.ReadSeeker, ContentLength: &body.Size,
	}
	if u.summed {
		in.ChecksumCRC32C = aws.String(checksum(body.CRC32C))
	} else if in.ContentMD5, err = contentMD5(body, start); err != nil {
		// A part with a checksum of another kind than the upload's is refused; MD5 is
		// taken by every server.
		return archive.Part{}, r.wrap(u.b, err)
	}
	var out *sdk.UploadPartOutput
	err = u.b.do(ctx, r, func(o option) error {
		if _, err := body.Seek(start, io.SeekStart); err != nil {
			return err
		}
		var err error
		out, err = u.b.client.UploadPart(ctx, in, o)
		return whole(err, err == nil && out.ETag != nil)
	})
	if err != nil {
		return archive.Part{}, err
	}
	if u.b.near && u.summed && aws.ToString(out.ChecksumCRC32C) == *in.ChecksumCRC32C {
		u.b.proven.Store(true)
	}
	u.keep(int32(number), stored{tag: tag(out.ETag), sum: out.ChecksumCRC32C})
	return archive.Part{Number: number, Size: body.Size, Tag: tag(out.ETag)}, nil
}

// contentMD5 is the MD5 of a body as requests have it.
func contentMD5(body archive.Body, start int64) (*string, error) {
	sum := md5.New() //nolint:gosec // see above
	if _, err := io.Copy(sum, body.ReadSeeker); err != nil {
		return nil, err
	}
	_, err := body.Seek(start, io.SeekStart)
	return aws.String(base64.StdEncoding.EncodeToString(sum.Sum(nil))), err
}

// Complete makes the object out of parts.
func (u *upload) Complete(ctx context.Context, parts []archive.Part) (archive.Object, error) {
	b := u.b
	u.mu.Lock()
	r := &request{doing: "completing", key: u.u.Key, action: "s3:PutObject", unsure: u.unsure}
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.unsure = r.unsure
	}()
	made, size, err := u.completed(ctx, parts)
	if err != nil {
		return archive.Object{}, r.wrap(b, err)
	}
	want := joinedTag(parts)

	var out *sdk.CompleteMultipartUploadOutput
	taken := func() error { return b.taken(ctx, r, u.u.Key) }
	err = b.adapt(false, true, taken, func(m manner) error {
		return b.do(ctx, r, func(o option) (err error) {
			in := &sdk.CompleteMultipartUploadInput{
				Bucket: &b.o.Bucket, Key: &u.u.Key, UploadId: &u.u.ID,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: made},
			}
			if m.once {
				in.IfNoneMatch = aws.String("*")
			}
			out, err = b.client.CompleteMultipartUpload(ctx, in, o)
			return whole(err, err == nil && out.ETag != nil)
		})
	})
	if err == nil {
		now := time.Now()
		return object(u.u.Key, size, &now, out.ETag, u.class), nil
	}
	if r.unsure && ctx.Err() == nil {
		// It may be our own object that is in the way, after a reply that was lost.
		if o, e := b.Stat(ctx, u.u.Key); e == nil && o.Size == size && want != "" && o.Tag == want {
			return o, nil
		}
	}
	if a, ok := answerIn(err); ok {
		switch a.code {
		case "InvalidPart", "InvalidPartOrder":
			return archive.Object{}, r.wrap(b, fmt.Errorf("%w with these parts: %w", archive.ErrNoUpload, a))
		case "ConditionalRequestConflict":
			return archive.Object{}, b.conflict(ctx, r, u.u.Key, err)
		}
	}
	return archive.Object{}, err
}

// completed is the list of parts that the object is to be made of, and how long it
// will be.
func (u *upload) completed(ctx context.Context, parts []archive.Part) ([]types.CompletedPart, int64, error) {
	if len(parts) == 0 {
		return nil, 0, errors.New("an object has one part at least")
	}
	if u.summed && !u.knows(parts) {
		// Parts of an earlier run: their checksums have to be named too.
		if _, err := u.Parts(ctx); err != nil {
			return nil, 0, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var (
		made []types.CompletedPart
		size int64
	)
	for i, p := range parts {
		if p.Number < 1 || p.Number > maxParts || i > 0 && p.Number <= parts[i-1].Number {
			return nil, 0, fmt.Errorf("the parts of an object are in order, and part %d is not", p.Number)
		}
		number := int32(p.Number)
		c := types.CompletedPart{PartNumber: &number, ETag: aws.String(`"` + p.Tag + `"`)}
		if s, ok := u.sums[number]; ok && s.tag != p.Tag {
			return nil, 0, fmt.Errorf("%w with these parts: part %d has been replaced", archive.ErrNoUpload, number)
		} else if ok && u.summed {
			c.ChecksumCRC32C = s.sum
		}
		made = append(made, c)
		size += p.Size
	}
	return made, size, nil
}

// knows reports whether the server has told of all of some parts.
func (u *upload) knows(parts []archive.Part) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range parts {
		if _, ok := u.sums[int32(p.Number)]; !ok {
			return false
		}
	}
	return true
}

// joinedTag is the tag that an object made of parts has: the MD5 of the MD5s of
// its parts, and their number. It is empty where their tags are something else.
// docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
func joinedTag(parts []archive.Part) string {
	sum := md5.New() //nolint:gosec // see above
	for _, p := range parts {
		part, err := hex.DecodeString(p.Tag)
		if err != nil || len(part) != md5.Size {
			return ""
		}
		sum.Write(part)
	}
	return fmt.Sprintf("%x-%d", sum.Sum(nil), len(parts))
}

// conflict is what a conditional write has come to that met another one: that one
// has won, or it may be made again.
func (b *Bucket) conflict(ctx context.Context, r *request, key string, err error) error {
	if taken := b.taken(ctx, r, key); taken != nil {
		return taken
	}
	return store.MarkTemporary(err)
}

// Abort drops the upload.
func (u *upload) Abort(ctx context.Context) error {
	r := &request{doing: "dropping the upload of", key: u.u.Key, action: "s3:AbortMultipartUpload"}
	err := u.b.do(ctx, r, func(o option) error {
		_, err := u.b.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{
			Bucket: &u.b.o.Bucket, Key: &u.u.Key, UploadId: &u.u.ID,
		}, o)
		return err
	})
	if errors.Is(err, archive.ErrNoUpload) {
		return nil
	}
	return err
}
