package s3

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/archive"
)

// errNoEnd is about a listing that would never end.
var errNoEnd = errors.New("the server says that the list goes on, but not where")

// List gives the objects whose keys begin with a prefix.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		r := &request{doing: "listing", action: "s3:ListBucket"}
		var token *string
		for {
			in := &sdk.ListObjectsV2Input{
				Bucket: &b.o.Bucket, Prefix: &prefix, ContinuationToken: token,
				// Keys may hold what XML cannot.
				EncodingType: types.EncodingTypeUrl,
			}
			if b.page > 0 {
				in.MaxKeys = &b.page
			}
			var out *sdk.ListObjectsV2Output
			err := b.withStatus(in, func() error {
				return b.do(ctx, r, func(o option) (err error) {
					out, err = b.client.ListObjectsV2(ctx, in, o)
					return whole(err, err == nil && (out.Name != nil || out.IsTruncated != nil))
				})
			})
			if err != nil {
				yield(archive.Object{}, err)
				return
			}
			for _, o := range out.Contents {
				key, err := decode(o.Key, out.EncodingType)
				if err != nil {
					yield(archive.Object{}, r.wrap(b, err))
					return
				}
				found := object(key, aws.ToInt64(o.Size), o.LastModified, o.ETag, string(o.StorageClass))
				if s := o.RestoreStatus; s != nil && s.RestoreExpiryDate != nil && !aws.ToBool(s.IsRestoreInProgress) {
					found.Cold = false
				}
				if !yield(found, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			next := aws.ToString(out.NextContinuationToken)
			if next == "" || next == aws.ToString(token) {
				yield(archive.Object{}, r.wrap(b, errNoEnd))
				return
			}
			token = &next
		}
	}
}

// withStatus has a listing tell, too, what has been thawed, where the server does not
// refuse that.
// docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreStatus.html
func (b *Bucket) withStatus(in *sdk.ListObjectsV2Input, ask func() error) error {
	b.mu.Lock()
	lacks := b.lacks.status
	b.mu.Unlock()
	if lacks {
		return ask()
	}
	in.OptionalObjectAttributes = []types.OptionalObjectAttributes{types.OptionalObjectAttributesRestoreStatus}
	err := ask()
	a, answered := answerIn(err)
	if !answered || a.status != 501 && a.code != "InvalidArgument" && a.code != "InvalidRequest" {
		return err
	}
	in.OptionalObjectAttributes = nil
	if again := ask(); again != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lacks.status = true
	return nil
}

// Uploads gives the uploads that were begun and are not complete.
func (b *Bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[archive.Unfinished, error] {
	return func(yield func(archive.Unfinished, error) bool) {
		var (
			at   mark
			last map[string]bool // the IDs of the last page
		)
		for {
			page, next, err := b.uploads(ctx, prefix, at)
			if a, ok := answerIn(err); ok && at.id != "" && a.code == "InvalidArgument" {
				// Some servers do not take the mark in the middle of a key that they have
				// given themselves. So the rest of the key, and then what is behind it.
				page, _, err = b.uploads(ctx, at.key, mark{})
				page = slices.DeleteFunc(page, func(u archive.Unfinished) bool { return u.Key != at.key || last[u.ID] })
				next = mark{key: at.key}
			}
			if err != nil {
				yield(archive.Unfinished{}, err)
				return
			}
			last = map[string]bool{}
			for _, u := range page {
				last[u.ID] = true
				if !yield(u, nil) {
					return
				}
			}
			if next == (mark{}) {
				return
			}
			at = next
		}
	}
}

// mark is how far a listing of uploads has come: to an upload of a key, or with
// an empty id, past the key. The zero mark is the beginning, and the end.
type mark struct{ key, id string }

// uploads asks for one page of unfinished uploads, and where the next begins.
func (b *Bucket) uploads(ctx context.Context, prefix string, at mark) ([]archive.Unfinished, mark, error) {
	r := &request{doing: "listing unfinished uploads of", action: "s3:ListBucketMultipartUploads"}
	in := &sdk.ListMultipartUploadsInput{Bucket: &b.o.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
	if at.key != "" {
		in.KeyMarker = &at.key
	}
	if at.id != "" {
		in.UploadIdMarker = &at.id
	}
	if b.page > 0 {
		in.MaxUploads = &b.page
	}
	var out *sdk.ListMultipartUploadsOutput
	err := b.do(ctx, r, func(o option) (err error) {
		out, err = b.client.ListMultipartUploads(ctx, in, o)
		return whole(err, err == nil && (out.Bucket != nil || out.IsTruncated != nil))
	})
	if err != nil {
		return nil, mark{}, err
	}
	var page []archive.Unfinished
	for _, u := range out.Uploads {
		key, err := decode(u.Key, out.EncodingType)
		if err != nil {
			return nil, mark{}, r.wrap(b, err)
		}
		page = append(page, archive.Unfinished{Key: key, ID: aws.ToString(u.UploadId), Begun: aws.ToTime(u.Initiated).UTC()})
	}
	if !aws.ToBool(out.IsTruncated) {
		return page, mark{}, nil
	}
	key, err := decode(out.NextKeyMarker, out.EncodingType)
	if err != nil {
		return nil, mark{}, r.wrap(b, err)
	}
	next := mark{key, aws.ToString(out.NextUploadIdMarker)}
	if key == "" || next == at {
		return nil, mark{}, r.wrap(b, errNoEnd)
	}
	return page, next, nil
}

// decode is a key of a listing as it really is.
func decode(key *string, how types.EncodingType) (string, error) {
	if how != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	return url.QueryUnescape(aws.ToString(key))
}
