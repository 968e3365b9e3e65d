package glacier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/buttersink/buttersink/internal/archive"
)

// castagnoli is the polynomial of archive.Body's checksum.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errChanged says that a body is not what was announced.
var errChanged = errors.New("the data is not what its length and checksum say")

// sums are the two hashes that the vault wants to have of a body.
type sums struct {
	tree   TreeHash
	linear string
}

// sum reads a body through, compares it with its own checksum, and goes back to
// where it was.
func sum(body archive.Body) (sums, error) {
	start, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return sums{}, err
	}
	var (
		tree   TreeHasher
		linear = sha256.New()
		crc    = crc32.New(castagnoli)
	)
	n, err := io.Copy(io.MultiWriter(&tree, linear, crc), io.LimitReader(body.ReadSeeker, body.Size+1))
	if err != nil {
		return sums{}, err
	}
	if n != body.Size || crc.Sum32() != body.CRC32C {
		return sums{}, fmt.Errorf("%w: %d bytes and %08x are %d bytes and %08x", errChanged, body.Size, body.CRC32C, n, crc.Sum32())
	}
	if _, err := body.Seek(start, io.SeekStart); err != nil {
		return sums{}, err
	}
	return sums{tree.Sum(), hex.EncodeToString(linear.Sum(nil))}, nil
}

// option has a request sent with the hashes, so that the SDK does not read the body
// twice more to make them.
func (s sums) option(o *sdk.Options) {
	o.APIOptions = append(o.APIOptions,
		func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("KnownPayloadHash",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					return next.HandleInitialize(v4.SetPayloadHash(ctx, s.linear), in)
				}), middleware.Before)
		},
		smithyhttp.SetHeaderValue("X-Amz-Content-Sha256", s.linear))
}
