package compose

import (
	"context"
	"io"
	"os"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// Options say which stream is wanted.
type Options struct {
	Protocol   uint32
	Compressed bool
	Workers    int
}

// Send streams the read-only subvolume in full.
func Send(ctx context.Context, subvol *os.File, o Options) (io.ReadCloser, error) {
	return btrfs.Send(ctx, subvol, btrfs.SendOptions{Protocol: o.Protocol})
}

// Measure returns the length of the stream.
func Measure(ctx context.Context, subvol *os.File, o Options) (int64, error) {
	r, err := btrfs.Send(ctx, subvol, btrfs.SendOptions{Protocol: o.Protocol, MetadataOnly: true})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return stream.MeasureMetadata(stream.NewReader(r))
}
