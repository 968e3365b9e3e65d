package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/s3test"
)

// TestLimit uses a bucket below a rate: what fits into the time comes through, and
// what would take hours is still on its way when it is given up.
func TestLimit(t *testing.T) {
	server := s3test.Start(t)
	few, many := bytes.Repeat([]byte("few"), 1000), make([]byte, 32<<20)

	swift := open(t, server, Options{Limit: pace.New(64 << 20)})
	if err := swift.Put(t.Context(), "few", few, false); err != nil {
		t.Fatal(err)
	}
	in, err := swift.Get(t.Context(), "few", 0, int64(len(few)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, few) {
		t.Errorf("read %d bytes: %v", len(got), err)
	}

	server.Put(t, swift.o.Bucket, "many", many)
	slow := open(t, server, Options{Bucket: swift.o.Bucket, Limit: pace.New(8 << 10)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := slow.Put(ctx, "never", many, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("storing 32 MiB in a second at 8 KiB/s: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if in, err = slow.Get(ctx, "many", 0, int64(len(many))); err == nil {
		_, err = io.Copy(io.Discard, in)
		in.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading 32 MiB in a second at 8 KiB/s: %v", err)
	}
}
