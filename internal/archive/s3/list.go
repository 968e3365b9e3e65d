package s3

import (
	"context"
	"errors"
	"iter"
	"net/url"

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
			err := b.do(ctx, r, func(o option) (err error) {
				out, err = b.client.ListObjectsV2(ctx, in, o)
				return err
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
				if !yield(object(key, aws.ToInt64(o.Size), o.LastModified, o.ETag, string(o.StorageClass)), nil) {
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

// Uploads gives the uploads that were begun and are not complete.
func (b *Bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[archive.Unfinished, error] {
	return func(yield func(archive.Unfinished, error) bool) {
		r := &request{doing: "listing unfinished uploads of", action: "s3:ListBucketMultipartUploads"}
		var key, id *string
		for {
			in := &sdk.ListMultipartUploadsInput{
				Bucket: &b.o.Bucket, Prefix: &prefix, KeyMarker: key, UploadIdMarker: id, EncodingType: types.EncodingTypeUrl,
			}
			if b.page > 0 {
				in.MaxUploads = &b.page
			}
			var out *sdk.ListMultipartUploadsOutput
			err := b.do(ctx, r, func(o option) (err error) {
				out, err = b.client.ListMultipartUploads(ctx, in, o)
				return err
			})
			if err != nil {
				yield(archive.Unfinished{}, err)
				return
			}
			for _, u := range out.Uploads {
				key, err := decode(u.Key, out.EncodingType)
				if err != nil {
					yield(archive.Unfinished{}, r.wrap(b, err))
					return
				}
				if !yield(archive.Unfinished{Key: key, ID: aws.ToString(u.UploadId), Begun: aws.ToTime(u.Initiated).UTC()}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			nextKey, err := decode(out.NextKeyMarker, out.EncodingType)
			if err != nil {
				yield(archive.Unfinished{}, r.wrap(b, err))
				return
			}
			nextID := aws.ToString(out.NextUploadIdMarker)
			if nextKey == "" || nextKey == aws.ToString(key) && nextID == aws.ToString(id) {
				yield(archive.Unfinished{}, r.wrap(b, errNoEnd))
				return
			}
			key, id = &nextKey, &nextID
		}
	}
}

// decode is a key of a listing as it really is.
func decode(key *string, how types.EncodingType) (string, error) {
	if how != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	return url.QueryUnescape(aws.ToString(key))
}
