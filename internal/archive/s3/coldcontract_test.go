package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// patient is a bucket of a cold class whose user waits: what cannot be read is
// thawed, and the clock moved on.
type patient struct {
	*Bucket
	cold *s3test.Cold
}

func (p *patient) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in, err := p.Bucket.Get(ctx, key, offset, length)
	if !errors.Is(err, contract.ErrCold) {
		return in, err
	}
	if err := p.await(ctx, key); err != nil {
		return nil, err
	}
	return p.Bucket.Get(ctx, key, offset, length)
}

func (p *patient) Copy(ctx context.Context, from, to string) error {
	err := p.Bucket.Copy(ctx, from, to)
	if !errors.Is(err, contract.ErrCold) {
		return err
	}
	if err := p.await(ctx, from); err != nil {
		return err
	}
	return p.Bucket.Copy(ctx, from, to)
}

func (p *patient) await(ctx context.Context, key string) error {
	for range 2 {
		got, err := p.Thaw(ctx, []string{key}, contract.ThawOptions{Ask: true, Tier: contract.Expedited})
		if err != nil || got[0].State == contract.Readable {
			return err
		}
		p.cold.Advance(s3test.ExpeditedTime)
	}
	return fmt.Errorf("%s does not thaw", key)
}

// TestContractOfClasses holds the bucket to what every bucket promises where its
// uploads go into classes: one that is read at once, and one that has to be thawed.
func TestContractOfClasses(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	for class, kinds := range map[string]string{"GLACIER_IR": "list upload unfinished", "GLACIER": "get copy upload unfinished"} {
		t.Run(class, func(t *testing.T) {
			o := Options{Class: class, Getenv: environment(server.EnvAt(cold.Endpoint))}
			h := buckettest.Harness{
				New: func(t testing.TB) archive.Bucket { return &patient{open(t, server, o), cold} },
				Again: func(t testing.TB, b archive.Bucket) archive.Bucket {
					o := o
					o.Bucket = b.(*patient).o.Bucket
					return &patient{open(t, server, o), cold}
				},
			}
			for _, c := range buckettest.Cases() {
				if kind, _, _ := strings.Cut(c.Name, "/"); strings.Contains(kinds, kind) && c.Name != "list/pages" {
					t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
				}
			}
		})
	}
	if len(cold.Asks()) == 0 {
		t.Error("nothing has been thawed")
	}
}
