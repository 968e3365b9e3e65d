package glacier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/store"
)

// Class is what people call the place where vaults keep archives.
const Class = "GLACIER"

// errDamaged says that what has come is not what the vault has.
var errDamaged = errors.New("what has come does not have the tree hash that the vault gives for it")

// Get gives length bytes of an archive from an offset on. It fails with
// *archive.ColdError where there is no retrieval whose output is there. Where both
// ends are multiples of 1 MiB, or it goes to the end of the archive, what comes is
// compared with the vault's hash of it: a difference is the reader's error, with the
// last bytes.
func (v *Vault) Get(ctx context.Context, id string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("reading archive %s in %s: %d bytes from %d on are no part of anything", id, v, length, offset)
	}
	for fresh := false; ; fresh = true {
		j, err := v.retrieved(ctx, id, fresh, false)
		if err != nil {
			return nil, err
		}
		length := min(length, max(0, j.Size-offset))
		if length == 0 {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		in, err := v.read(ctx, j, offset, length)
		if !errors.Is(err, errNoJob) {
			return in, err
		}
		v.markGone(j.ID)
		if fresh {
			return nil, &archive.ColdError{Key: "archive " + id, Class: Class}
		}
	}
}

// retrieved finds the job that has an archive: among those that are known, with
// fresh by asking again, with known never.
func (v *Vault) retrieved(ctx context.Context, id string, fresh, known bool) (Job, error) {
	v.mu.Lock()
	j, ok := v.jobs[id]
	ok = ok && !v.gone[j.ID]
	v.mu.Unlock()
	if ok && !fresh {
		return j, nil
	}
	if known {
		return Job{}, &archive.ColdError{Key: "archive " + id, Class: Class}
	}
	all, err := v.retrievals(ctx)
	if err != nil {
		return Job{}, err
	}
	j, ok, err = v.current(ctx, all[id])
	if err != nil {
		return Job{}, err
	}
	if !ok || j.Done.IsZero() {
		return Job{}, &archive.ColdError{Key: "archive " + id, Class: Class}
	}
	v.remember(id, j)
	return j, nil
}

// read reads some of the output of a job.
func (v *Vault) read(ctx context.Context, j Job, offset, length int64) (io.ReadCloser, error) {
	out, err := v.output(ctx, j.ID, aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)))
	if err != nil {
		return nil, err
	}
	if offset > 0 && out.ContentRange == nil {
		out.Body.Close()
		return nil, fmt.Errorf("reading job %s of %s: the server sends whole archives where a part was asked for", j.ID, v)
	}
	b := &body{ReadCloser: out.Body, left: length, ctx: ctx}
	if text := aws.ToString(out.Checksum); text != "" {
		if b.want, err = ParseTreeHash(text); err != nil {
			out.Body.Close()
			return nil, fmt.Errorf("reading job %s of %s: %w", j.ID, v, err)
		}
		b.hash = &TreeHasher{}
	}
	return b, nil
}

// body is the content of an archive that is being read.
type body struct {
	io.ReadCloser
	left int64       // bytes that have not come
	hash *TreeHasher // nil if there is nothing to compare with
	want TreeHash
	ctx  context.Context //nolint:containedctx // of the one request that this is the body of
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.hash != nil {
		_, _ = b.hash.Write(p[:n])
	}
	switch {
	case b.left > 0 && errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case b.left == 0 && b.hash != nil && b.hash.Sum() != b.want:
		return n, store.MarkTemporary(errDamaged)
	case b.left == 0:
		err = nil
	}
	return n, reach.ReadError(b.ctx, err)
}
