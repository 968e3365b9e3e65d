package buckettest

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"github.com/buttersink/buttersink/internal/archive"
)

// changed is an upload of which some calls do something else.
type changed struct {
	archive.Upload
	put      func(u archive.Upload, ctx context.Context, number int, body archive.Body) (archive.Part, error)
	parts    func(u archive.Upload, ctx context.Context) ([]archive.Part, error)
	complete func(u archive.Upload, ctx context.Context, parts []archive.Part) (archive.Object, error)
	abort    func() error
}

func (c changed) Put(ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	if c.put == nil {
		return c.Upload.Put(ctx, number, body)
	}
	return c.put(c.Upload, ctx, number, body)
}

func (c changed) Parts(ctx context.Context) ([]archive.Part, error) {
	if c.parts == nil {
		return c.Upload.Parts(ctx)
	}
	return c.parts(c.Upload, ctx)
}

func (c changed) Complete(ctx context.Context, parts []archive.Part) (archive.Object, error) {
	if c.complete == nil {
		return c.Upload.Complete(ctx, parts)
	}
	return c.complete(c.Upload, ctx, parts)
}

func (c changed) Abort(ctx context.Context) error {
	if c.abort == nil {
		return c.Upload.Abort(ctx)
	}
	return c.abort()
}

// uploader has its uploads changed.
type uploader struct {
	archive.Bucket
	as changed
}

func (b *uploader) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	u, err := b.Bucket.Begin(ctx, key, o)
	c := b.as
	c.Upload = u
	return c, err
}

func withUploads(as changed) func(archive.Bucket) archive.Bucket {
	return func(b archive.Bucket) archive.Bucket { return &uploader{b, as} }
}

func trustsBody(u archive.Upload, ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return archive.Part{}, err
	}
	body.ReadSeeker, body.CRC32C = bytes.NewReader(raw), crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
	return u.Put(ctx, number, body)
}

func padsBody(u archive.Upload, ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return archive.Part{}, err
	}
	raw = append(raw, make([]byte, body.Size-int64(len(raw)))...)
	body.ReadSeeker = bytes.NewReader(raw)
	return trustsBody(u, ctx, number, body)
}

func keepsFirst(u archive.Upload, ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	parts, err := u.Parts(ctx)
	if err != nil {
		return archive.Part{}, err
	}
	for _, p := range parts {
		if p.Number == number {
			return p, nil
		}
	}
	return u.Put(ctx, number, body)
}

func unsorted(u archive.Upload, ctx context.Context) ([]archive.Part, error) {
	parts, err := u.Parts(ctx)
	slices.Reverse(parts)
	return parts, err
}

// takesAllParts completes with whatever is stored.
func takesAllParts(u archive.Upload, ctx context.Context, _ []archive.Part) (archive.Object, error) {
	all, err := u.Parts(ctx)
	if err != nil {
		return archive.Object{}, err
	}
	for i := range all {
		if all[i].Number != i+1 {
			all = all[:i]
			break
		}
	}
	return u.Complete(ctx, all)
}

// takesAnyPart completes with what is stored under the numbers.
func takesAnyPart(u archive.Upload, ctx context.Context, parts []archive.Part) (archive.Object, error) {
	all, err := u.Parts(ctx)
	if err != nil {
		return archive.Object{}, err
	}
	return u.Complete(ctx, all[:min(len(parts), len(all))])
}

func ignoringContext(u archive.Upload, ctx context.Context, parts []archive.Part) (archive.Object, error) {
	return u.Complete(context.WithoutCancel(ctx), parts)
}

// replacing is a bucket whose uploads replace what is there.
func replacing(b archive.Bucket) archive.Bucket {
	return &uploader{b, changed{complete: func(u archive.Upload, ctx context.Context, parts []archive.Part) (archive.Object, error) {
		for range 100 {
			o, err := u.Complete(ctx, parts)
			if !errors.Is(err, archive.ErrTaken) {
				return o, err
			}
			_ = b.Delete(ctx, u.Unfinished().Key)
		}
		return archive.Object{}, archive.ErrTaken
	}}}
}

// early is a bucket that shows an object as soon as a part of it is there.
func early(b archive.Bucket) archive.Bucket {
	return &uploader{b, changed{put: func(u archive.Upload, ctx context.Context, number int, body archive.Body) (archive.Part, error) {
		if err := b.Put(ctx, u.Unfinished().Key, nil, false); err != nil {
			return archive.Part{}, err
		}
		return u.Put(ctx, number, body)
	}}}
}

// leaving is a bucket that leaves an upload behind for each that is completed.
func leaving(b archive.Bucket) archive.Bucket {
	return &uploader{b, changed{complete: func(u archive.Upload, ctx context.Context, parts []archive.Part) (archive.Object, error) {
		if _, err := b.Begin(ctx, u.Unfinished().Key, archive.UploadOptions{PartSize: 10}); err != nil {
			return archive.Object{}, err
		}
		return u.Complete(ctx, parts)
	}}}
}
