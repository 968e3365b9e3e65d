package btrsend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
)

// What fits into a vault.
// docs.aws.amazon.com/amazonglacier/latest/dev/uploading-archive-mpu.html
const (
	minPart  = 1 << 20
	maxPart  = 4 << 30
	maxParts = 10_000
	inFlight = 3
)

// beginTime is how long an upload may take to begin that is not wanted any more.
const beginTime = 10 * time.Second

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// partSize is how long the parts of an upload are, for a stream of a length, in
// bytes, that is expected; 0 is one of unknown length.
func (s *Store) partSize(expected int64) int64 {
	n := int64(minPart)
	for n < s.o.PartSize && n < maxPart {
		n *= 2
	}
	if expected > 0 {
		// An estimate may be wrong by some.
		most := seal.Bound(s.o.Seal, expected+expected/8)
		for n*maxParts < most && n < maxPart {
			n *= 2
		}
	}
	return n
}

// parts cuts what is written into the parts of an upload, and has them put, three at
// a time. What goes wrong with one ends ctx, by fail.
type parts struct {
	ctx         context.Context //nolint:containedctx // of the one upload that this is
	fail        context.CancelCauseFunc
	vault       *glacier.Vault
	description string
	size        int64
	up          *glacier.Upload
	free        chan []byte // as many as may be in memory
	filling     []byte
	length      int64 // of what has been cut
	putting     sync.WaitGroup

	mu     sync.Mutex
	hashes []glacier.TreeHash
}

func newParts(ctx context.Context, v *glacier.Vault, description string, size int64, fail context.CancelCauseFunc) *parts {
	p := &parts{ctx: ctx, fail: fail, vault: v, description: description, size: size, free: make(chan []byte, inFlight)}
	for range inFlight {
		p.free <- nil
	}
	return p
}

// Write takes some of the archive. It waits while there are three parts on their
// way.
func (p *parts) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if p.filling == nil {
			select {
			case p.filling = <-p.free:
			case <-p.ctx.Done():
				return n, context.Cause(p.ctx)
			}
			if p.filling == nil {
				p.filling = make([]byte, 0, 64<<10)
			}
		}
		m := min(int64(len(b)-n), p.size-int64(len(p.filling)))
		p.room(m)
		p.filling = append(p.filling, b[n:n+int(m)]...)
		n += int(m)
		if int64(len(p.filling)) == p.size {
			if err := p.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// room has space for m more bytes, and no more than a part takes.
func (p *parts) room(m int64) {
	need, has := int64(len(p.filling))+m, int64(cap(p.filling))
	if need > has {
		p.filling = slices.Grow(p.filling, int(max(need, min(2*has, p.size))-int64(len(p.filling))))
	}
}

// flush puts what has been filled.
func (p *parts) flush() error {
	if len(p.filling) == 0 {
		return nil
	}
	if len(p.hashes) == maxParts {
		return fmt.Errorf("the archive is longer than %d parts of %d bytes: store it with longer parts (--part-size)", maxParts, p.size)
	}
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	if p.up == nil {
		// If it were given up half-way, nobody could drop it.
		late, cancel := outlasting(p.ctx, beginTime)
		defer cancel()
		up, err := p.vault.Begin(late, p.description, p.size)
		if err != nil {
			return err
		}
		p.up = up
	}
	part, offset, number := p.filling, p.length, len(p.hashes)
	p.filling = nil
	p.length += int64(len(part))
	p.mu.Lock()
	p.hashes = append(p.hashes, glacier.TreeHash{})
	p.mu.Unlock()
	p.putting.Go(func() {
		body := archive.Body{ReadSeeker: bytes.NewReader(part), Size: int64(len(part)), CRC32C: crc32.Checksum(part, castagnoli)}
		hash, err := p.up.Put(p.ctx, offset, body)
		if err != nil {
			p.fail(err)
			return // with the part, so that nothing more is cut
		}
		p.mu.Lock()
		p.hashes[number] = hash
		p.mu.Unlock()
		p.free <- part[:0]
	})
	return nil
}

// wait waits until no part is on its way.
func (p *parts) wait() { p.putting.Wait() }

// complete makes the archive.
func (p *parts) complete(ctx context.Context) (glacier.Stored, error) {
	if p.up == nil {
		return glacier.Stored{}, errors.New("nothing has come out of gzip and gpg")
	}
	return p.up.Complete(ctx, p.length, p.hashes)
}

// abort drops the upload.
func (p *parts) abort(ctx context.Context) error {
	if p.up == nil {
		return nil
	}
	return p.up.Abort(ctx)
}
