package archive_test

import (
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
)

// TestMemoryContract holds the bucket to the contract with which the tests of this
// package are made.
func TestMemoryContract(t *testing.T) {
	buckettest.Run(t, buckettest.Harness{
		New:   func(testing.TB) archive.Bucket { return archive.NewMemoryBucket() },
		Again: func(_ testing.TB, b archive.Bucket) archive.Bucket { return b },
	})
}
