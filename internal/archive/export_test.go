package archive

import "context"

// NewMemoryBucket makes the bucket of the tests of this package, for the contract
// that it has to keep.
func NewMemoryBucket() Bucket { return checking{newMemoryBucket()} }

// checking refuses impossible keys, which the tests never try.
type checking struct{ *memoryBucket }

func (b checking) Put(ctx context.Context, key string, data []byte, once bool) error {
	if err := b.CheckKey(key); err != nil {
		return err
	}
	return b.memoryBucket.Put(ctx, key, data, once)
}

func (b checking) Begin(ctx context.Context, key string, o UploadOptions) (Upload, error) {
	if err := b.CheckKey(key); err != nil {
		return nil, err
	}
	return b.memoryBucket.Begin(ctx, key, o)
}
