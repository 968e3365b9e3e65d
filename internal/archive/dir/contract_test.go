package dir_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
	"github.com/buttersink/buttersink/internal/archive/dir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness makes its buckets in directories that root makes.
func harness(root func(t testing.TB) string) buckettest.Harness {
	paths := map[archive.Bucket]string{}
	open := func(t testing.TB, path string) archive.Bucket {
		t.Helper()
		b, err := dir.Open(path, dir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		paths[b] = path
		return b
	}
	return buckettest.Harness{
		New:   func(t testing.TB) archive.Bucket { return open(t, root(t)) },
		Again: func(t testing.TB, b archive.Bucket) archive.Bucket { return open(t, paths[b]) },
	}
}

func TestContract(t *testing.T) {
	buckettest.Run(t, harness(func(t testing.TB) string { return t.TempDir() }))
}
