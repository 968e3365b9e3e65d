package glacier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"

	"github.com/buttersink/buttersink/internal/archive"
)

// Stored is an archive of a vault: what the API calls so.
type Stored struct {
	ID, Description string
	Size            int64
	Tree            TreeHash
	Created         time.Time
}

// Unfinished is a multipart upload that was begun and is not complete. The vault
// drops it some time after nothing has been added to it, 24 hours at least.
type Unfinished struct {
	ID, Description string
	PartSize        int64
	Begun           time.Time
}

// CheckDescription says why an archive cannot have a description.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-archive-post.html
func CheckDescription(text string) error {
	if len(text) > maxDescription {
		return fmt.Errorf("a description of %d characters: vaults take %d", len(text), maxDescription)
	}
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return errors.New("a description with something else than printable ASCII in it, which vaults do not take")
		}
	}
	return nil
}

// Put stores a small archive by one request. When its reply is lost and it is made
// again, there may be two archives with the same content, of which the ID of one is
// returned.
func (v *Vault) Put(ctx context.Context, description string, data []byte) (Stored, error) {
	made, _, err := v.put(ctx, description, data)
	return made, err
}

// put is Put, and tells whether there may be another archive than it says.
func (v *Vault) put(ctx context.Context, description string, data []byte) (made Stored, unsure bool, err error) {
	r := &request{doing: "storing", what: "an archive", action: "glacier:UploadArchive"}
	if err := CheckDescription(description); err != nil {
		return Stored{}, false, r.wrap(v, err)
	}
	if len(data) == 0 || len(data) > small {
		return Stored{}, false, r.wrap(v, fmt.Errorf("%d bytes are not from 1 to %d, as one request takes", len(data), small))
	}
	hashes, err := sum(archive.Body{ReadSeeker: bytes.NewReader(data), Size: int64(len(data)), CRC32C: crc32.Checksum(data, castagnoli)})
	if err != nil {
		return Stored{}, false, r.wrap(v, err)
	}
	var out *sdk.UploadArchiveOutput
	err = v.do(ctx, r, func(o option) (err error) {
		out, err = v.client.UploadArchive(ctx, &sdk.UploadArchiveInput{
			AccountId: v.account(), VaultName: &v.o.Vault, ArchiveDescription: &description,
			Body: bytes.NewReader(data), Checksum: aws.String(hashes.tree.String()),
		}, o, hashes.option)
		return whole(err, err == nil && aws.ToString(out.ArchiveId) != "")
	})
	if err != nil {
		return Stored{}, r.unsure || ctx.Err() != nil, err
	}
	if err := confirmed(out.Checksum, hashes.tree); err != nil {
		return Stored{}, true, r.wrap(v, err)
	}
	return Stored{ID: *out.ArchiveId, Description: description, Size: int64(len(data)), Tree: hashes.tree, Created: v.now().UTC()}, r.unsure, nil
}

// confirmed compares the hash in a reply with ours.
func confirmed(text *string, want TreeHash) error {
	if got := aws.ToString(text); !strings.EqualFold(got, want.String()) {
		return fmt.Errorf("the vault says that it has the tree hash %.80q, which should be %s", got, want)
	}
	return nil
}

// Delete removes an archive; that there is none is no error.
func (v *Vault) Delete(ctx context.Context, id string) error {
	r := &request{doing: "deleting", what: "archive " + id, action: "glacier:DeleteArchive", missing: archive.ErrNoObject}
	err := v.do(ctx, r, func(o option) error {
		_, err := v.client.DeleteArchive(ctx, &sdk.DeleteArchiveInput{AccountId: v.account(), VaultName: &v.o.Vault, ArchiveId: &id}, o)
		return err
	})
	if errors.Is(err, archive.ErrNoObject) {
		return nil
	}
	return err
}

// Begin starts a multipart upload. Parts are 1 MiB times a power of two long, up to
// 4 GiB, and there are 10,000 at most.
func (v *Vault) Begin(ctx context.Context, description string, partSize int64) (*Upload, error) {
	r := &request{doing: "beginning to store", what: "an archive", action: "glacier:InitiateMultipartUpload"}
	if err := CheckDescription(description); err != nil {
		return nil, r.wrap(v, err)
	}
	if err := checkPartSize(partSize); err != nil {
		return nil, r.wrap(v, err)
	}
	var out *sdk.InitiateMultipartUploadOutput
	err := v.do(ctx, r, func(o option) (err error) {
		out, err = v.client.InitiateMultipartUpload(ctx, &sdk.InitiateMultipartUploadInput{
			AccountId: v.account(), VaultName: &v.o.Vault, ArchiveDescription: &description,
			PartSize: aws.String(strconv.FormatInt(partSize, 10)),
		}, o)
		return whole(err, err == nil && aws.ToString(out.UploadId) != "")
	})
	if err != nil {
		return nil, err
	}
	return v.Continue(Unfinished{ID: *out.UploadId, Description: description, PartSize: partSize, Begun: v.now().UTC()}), nil
}

func checkPartSize(n int64) error {
	if n < minPart || n > maxPart || bits.OnesCount64(uint64(n)) != 1 {
		return fmt.Errorf("parts of %d bytes: vaults take 1 MiB times a power of two, up to 4 GiB", n)
	}
	return nil
}

// Uploads gives the uploads that were begun and are not complete.
func (v *Vault) Uploads(ctx context.Context) iter.Seq2[Unfinished, error] {
	return func(yield func(Unfinished, error) bool) {
		r := &request{doing: "listing unfinished uploads of", action: "glacier:ListMultipartUploads"}
		var marker *string
		for {
			var out *sdk.ListMultipartUploadsOutput
			err := v.do(ctx, r, func(o option) (err error) {
				out, err = v.client.ListMultipartUploads(ctx, &sdk.ListMultipartUploadsInput{
					AccountId: v.account(), VaultName: &v.o.Vault, Marker: marker,
				}, o)
				return whole(err, err == nil && out.UploadsList != nil)
			})
			if err != nil {
				yield(Unfinished{}, err)
				return
			}
			for _, u := range out.UploadsList {
				found := Unfinished{
					ID: aws.ToString(u.MultipartUploadId), Description: aws.ToString(u.ArchiveDescription),
					PartSize: u.PartSizeInBytes, Begun: moment(u.CreationDate),
				}
				if !yield(found, nil) {
					return
				}
			}
			if marker, err = next(marker, out.Marker); err != nil {
				yield(Unfinished{}, r.wrap(v, err))
				return
			}
			if marker == nil {
				return
			}
		}
	}
}

// next is where a list goes on; nil if it has ended.
func next(last, marker *string) (*string, error) {
	if aws.ToString(marker) == "" {
		return nil, nil
	}
	if aws.ToString(marker) == aws.ToString(last) {
		return nil, errNoEnd
	}
	return marker, nil
}

// moment reads a time of the API; zero if it is none.
func moment(text *string) time.Time {
	t, err := time.Parse(time.RFC3339, aws.ToString(text))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// Continue takes up an unfinished upload again, asking nobody.
func (v *Vault) Continue(u Unfinished) *Upload { return &Upload{v, u} }

// Upload is a multipart upload. Its methods may be called from several goroutines.
type Upload struct {
	v *Vault
	u Unfinished
}

// Unfinished names the upload.
func (u *Upload) Unfinished() Unfinished { return u.u }

// Part is a part that the vault has.
type Part struct {
	Offset, Size int64
	Tree         TreeHash
}

// Parts returns what has been stored, in order, and fills in what the vault says of
// the upload itself. It fails with archive.ErrNoUpload where the upload is gone.
func (u *Upload) Parts(ctx context.Context) ([]Part, error) {
	r := &request{doing: "listing the parts of an upload to", action: "glacier:ListParts", missing: archive.ErrNoUpload}
	var (
		parts  []Part
		marker *string
	)
	for {
		out, err := u.page(ctx, r, marker, nil)
		if err != nil {
			return nil, err
		}
		for _, p := range out.Parts {
			part, err := readPart(aws.ToString(p.RangeInBytes), aws.ToString(p.SHA256TreeHash))
			if err != nil {
				return nil, r.wrap(u.v, err)
			}
			parts = append(parts, part)
		}
		if marker, err = next(marker, out.Marker); err != nil {
			return nil, r.wrap(u.v, err)
		}
		if marker == nil {
			return parts, nil
		}
	}
}

// page asks for some of the parts.
func (u *Upload) page(ctx context.Context, r *request, marker *string, most *int32) (*sdk.ListPartsOutput, error) {
	var out *sdk.ListPartsOutput
	err := u.v.do(ctx, r, func(o option) (err error) {
		out, err = u.v.client.ListParts(ctx, &sdk.ListPartsInput{
			AccountId: u.v.account(), VaultName: &u.v.o.Vault, UploadId: &u.u.ID, Marker: marker, Limit: most,
		}, o)
		return whole(err, err == nil && out.PartSizeInBytes > 0)
	})
	return out, err
}

// readPart reads what a list says of a part: its first and its last byte.
func readPart(text, hash string) (Part, error) {
	first, last, ok := parseRange(text)
	if !ok {
		return Part{}, fmt.Errorf("%.80q is no range of bytes", text)
	}
	tree, err := ParseTreeHash(hash)
	return Part{Offset: first, Size: last - first + 1, Tree: tree}, err
}

// parseRange reads a range of bytes, the last one included: "0-1048575".
func parseRange(text string) (first, last int64, ok bool) {
	a, b, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, false
	}
	first, errA := strconv.ParseInt(a, 10, 64)
	last, errB := strconv.ParseInt(b, 10, 64)
	return first, last, errA == nil && errB == nil && 0 <= first && first <= last
}

// Put stores the part that begins at an offset, a multiple of the length of parts,
// in place of one that is there. What is stored has been compared with the body's
// checksum.
func (u *Upload) Put(ctx context.Context, offset int64, body archive.Body) (TreeHash, error) {
	r := &request{
		doing: fmt.Sprintf("storing the part at %d of an upload to", offset), action: "glacier:UploadMultipartPart",
		missing: archive.ErrNoUpload,
	}
	switch {
	case offset < 0 || u.u.PartSize <= 0 || offset%u.u.PartSize != 0 || offset/u.u.PartSize >= maxParts:
		return TreeHash{}, r.wrap(u.v, fmt.Errorf("it cannot begin there, with parts of %d bytes and %d of them", u.u.PartSize, maxParts))
	case body.Size <= 0 || body.Size > u.u.PartSize:
		return TreeHash{}, r.wrap(u.v, fmt.Errorf("it has %d bytes, and parts have from 1 to %d", body.Size, u.u.PartSize))
	}
	hashes, err := sum(body)
	if err != nil {
		return TreeHash{}, r.wrap(u.v, err)
	}
	start, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return TreeHash{}, r.wrap(u.v, err)
	}
	var out *sdk.UploadMultipartPartOutput
	err = u.v.do(ctx, r, func(o option) (err error) {
		if _, err := body.Seek(start, io.SeekStart); err != nil {
			return err
		}
		out, err = u.v.client.UploadMultipartPart(ctx, &sdk.UploadMultipartPartInput{
			AccountId: u.v.account(), VaultName: &u.v.o.Vault, UploadId: &u.u.ID,
			Range: aws.String(fmt.Sprintf("bytes %d-%d/*", offset, offset+body.Size-1)),
			Body:  body.ReadSeeker, Checksum: aws.String(hashes.tree.String()),
		}, o, hashes.option)
		return whole(err, err == nil && out.Checksum != nil)
	})
	if err != nil {
		return TreeHash{}, err
	}
	if err := confirmed(out.Checksum, hashes.tree); err != nil {
		return TreeHash{}, r.wrap(u.v, err)
	}
	return hashes.tree, nil
}

// Complete makes the archive out of parts, whose tree hashes are given in order. A
// vault gives the same answer for some time when it is asked again, so a lost reply
// is nothing to mind. It fails with archive.ErrNoUpload where the upload is gone, and
// with *UncertainError where that may be because it is complete.
func (u *Upload) Complete(ctx context.Context, size int64, parts []TreeHash) (Stored, error) {
	r := &request{doing: "completing an upload to", action: "glacier:CompleteMultipartUpload", missing: archive.ErrNoUpload}
	if want := (size + u.u.PartSize - 1) / max(u.u.PartSize, 1); size <= 0 || want != int64(len(parts)) {
		return Stored{}, r.wrap(u.v, fmt.Errorf("%d bytes are not %d parts of %d", size, len(parts), u.u.PartSize))
	}
	return u.complete(ctx, r, size, JoinTreeHashes(parts))
}

func (u *Upload) complete(ctx context.Context, r *request, size int64, tree TreeHash) (Stored, error) {
	var out *sdk.CompleteMultipartUploadOutput
	err := u.v.do(ctx, r, func(o option) (err error) {
		out, err = u.v.client.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{
			AccountId: u.v.account(), VaultName: &u.v.o.Vault, UploadId: &u.u.ID,
			ArchiveSize: aws.String(strconv.FormatInt(size, 10)), Checksum: aws.String(tree.String()),
		}, o)
		return whole(err, err == nil && aws.ToString(out.ArchiveId) != "")
	})
	if err != nil {
		if r.unsure && errors.Is(err, archive.ErrNoUpload) {
			return Stored{}, &UncertainError{Vault: u.v.String(), Description: u.u.Description}
		}
		return Stored{}, err
	}
	if text := out.Checksum; text != nil {
		if err := confirmed(text, tree); err != nil {
			return Stored{}, r.wrap(u.v, err)
		}
	}
	return Stored{ID: *out.ArchiveId, Description: u.u.Description, Size: size, Tree: tree, Created: u.v.now().UTC()}, nil
}

// UncertainError says that nobody can tell for a day whether an archive has been
// stored: the replies to what completes it were lost, and the upload is gone.
type UncertainError struct{ Vault, Description string }

func (e *UncertainError) Error() string {
	return fmt.Sprintf("completing %q in %s: no reply has come, and the upload is gone, so it may be there or not; "+
		"the vault's inventory tells so a day from now", e.Description, e.Vault)
}

// Abort drops the upload; that it is gone is no error.
func (u *Upload) Abort(ctx context.Context) error {
	_, err := u.abort(ctx)
	return err
}

// abort drops the upload, and tells whether there was one.
func (u *Upload) abort(ctx context.Context) (there bool, err error) {
	r := &request{doing: "dropping an upload to", action: "glacier:AbortMultipartUpload", missing: archive.ErrNoUpload}
	err = u.v.do(ctx, r, func(o option) error {
		_, err := u.v.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{AccountId: u.v.account(), VaultName: &u.v.o.Vault, UploadId: &u.u.ID}, o)
		return err
	})
	if errors.Is(err, archive.ErrNoUpload) {
		return false, nil
	}
	return err == nil, err
}
