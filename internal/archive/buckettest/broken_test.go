package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
)

// Buckets that each break a promise.
type (
	nowhere        struct{ archive.Bucket }
	takesAnyKey    struct{ archive.Bucket }
	listsDirs      struct{ archive.Bucket }
	listsAll       struct{ archive.Bucket }
	listsAPage     struct{ archive.Bucket }
	listsTwice     struct{ archive.Bucket }
	listsBlind     struct{ archive.Bucket }
	vague          struct{ archive.Bucket }
	readsOn        struct{ archive.Bucket }
	readsAhead     struct{ archive.Bucket }
	closesOnce     struct{ archive.Bucket }
	readsTheNew    struct{ archive.Bucket }
	ignoresContext struct{ archive.Bucket }
	appends        struct{ archive.Bucket }
	overwrites     struct{ archive.Bucket }
	looksFirst     struct{ archive.Bucket }
	sameTag        struct{ archive.Bucket }
	deletesMore    struct{ archive.Bucket }
	missesDeleted  struct{ archive.Bucket }
	moves          struct{ archive.Bucket }
	copiesNothing  struct{ archive.Bucket }
	keepsOld       struct{ archive.Bucket }
	forgetsUploads struct{ archive.Bucket }
	uploadsOfAll   struct{ archive.Bucket }
	abortsAll      struct{ archive.Bucket }
	abortsObject   struct{ archive.Bucket }
	continuesAny   struct{ archive.Bucket }
)

func (nowhere) Location() string { return "here" }

func (takesAnyKey) CheckKey(string) error { return nil }

func (b listsDirs) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	if i := strings.LastIndexByte(prefix, '/'); !strings.HasSuffix(prefix, "/") {
		prefix = prefix[:i+1]
	}
	return b.Bucket.List(ctx, prefix)
}

func (b listsAll) List(ctx context.Context, _ string) iter.Seq2[archive.Object, error] {
	return b.Bucket.List(ctx, "")
}

func (b listsAPage) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	f := Faulty(b.Bucket)
	return func(yield func(archive.Object, error) bool) {
		n := 0
		for o, err := range f.List(ctx, prefix) {
			if n++; n > 1000 || !yield(o, err) {
				return
			}
		}
	}
}

func (b listsTwice) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		n := 0
		for o, err := range b.Bucket.List(ctx, prefix) {
			if n++; !yield(o, err) || n == 1000 && !yield(o, err) {
				return
			}
		}
	}
}

func (b listsBlind) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for o, err := range b.Bucket.List(ctx, prefix) {
			o.Size = 7
			if !yield(o, err) {
				return
			}
		}
	}
}

func (b vague) Stat(ctx context.Context, key string) (archive.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	if err != nil {
		err = errors.New("no luck")
	}
	return o, err
}

func (b readsOn) Get(ctx context.Context, key string, offset, _ int64) (io.ReadCloser, error) {
	return b.Bucket.Get(ctx, key, offset, 1<<40)
}

func (b readsAhead) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return b.Bucket.Get(ctx, key, offset&^0xfff, length)
}

func (b closesOnce) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in, err := b.Bucket.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &closeOnce{ReadCloser: in}, nil
}

type closeOnce struct {
	io.ReadCloser
	closed atomic.Bool
}

func (c *closeOnce) Close() error {
	if c.closed.Swap(true) {
		return errors.New("closed already")
	}
	return c.ReadCloser.Close()
}

func (b readsTheNew) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if _, err := b.Stat(ctx, key); err != nil {
		return nil, err
	}
	return &piecemeal{ctx: ctx, b: b.Bucket, key: key, at: offset, end: offset + length}, nil
}

// piecemeal asks for every piece by itself.
type piecemeal struct {
	ctx     context.Context
	b       archive.Bucket
	key     string
	at, end int64
}

func (p *piecemeal) Read(b []byte) (int, error) {
	in, err := p.b.Get(p.ctx, p.key, p.at, min(int64(len(b)), p.end-p.at))
	if err != nil {
		return 0, io.EOF
	}
	defer in.Close()
	n, err := in.Read(b)
	p.at += int64(n)
	return n, err
}

func (p *piecemeal) Close() error { return nil }

func (b ignoresContext) Put(ctx context.Context, key string, data []byte, once bool) error {
	return b.Bucket.Put(context.WithoutCancel(ctx), key, data, once)
}

func (b ignoresContext) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return b.Bucket.List(context.WithoutCancel(ctx), prefix)
}

func (b ignoresContext) Stat(ctx context.Context, key string) (archive.Object, error) {
	return b.Bucket.Stat(context.WithoutCancel(ctx), key)
}

func (b ignoresContext) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	return b.Bucket.Begin(context.WithoutCancel(ctx), key, o)
}

func (b appends) Put(ctx context.Context, key string, data []byte, once bool) error {
	if in, err := b.Get(ctx, key, 0, 1<<20); err == nil && !once {
		old, _ := io.ReadAll(in)
		in.Close()
		if len(old) > len(data) {
			data = append(slices.Clone(data), old[len(data):]...)
		}
	}
	return b.Bucket.Put(ctx, key, data, once)
}

func (b overwrites) Put(ctx context.Context, key string, data []byte, _ bool) error {
	return b.Bucket.Put(ctx, key, data, false)
}

func (b looksFirst) Put(ctx context.Context, key string, data []byte, once bool) error {
	if _, err := b.Stat(ctx, key); once && err == nil {
		return archive.ErrTaken
	}
	time.Sleep(5 * time.Millisecond) // long enough for another one to look
	return b.Bucket.Put(ctx, key, data, false)
}

func (b sameTag) Stat(ctx context.Context, key string) (archive.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	o.Tag = "tag"
	return o, err
}

func (b deletesMore) Delete(ctx context.Context, key string) error {
	for o, err := range b.List(ctx, key) {
		if err != nil {
			return err
		}
		if err := b.Bucket.Delete(ctx, o.Key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b missesDeleted) Delete(ctx context.Context, key string) error {
	if _, err := b.Stat(ctx, key); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, key)
}

func (b moves) Copy(ctx context.Context, from, to string) error {
	if err := b.Bucket.Copy(ctx, from, to); err != nil || from == to {
		return err
	}
	return b.Delete(ctx, from)
}

func (b copiesNothing) Copy(ctx context.Context, from, to string) error {
	if _, err := b.Stat(ctx, from); err != nil {
		return b.Put(ctx, to, nil, false)
	}
	return b.Bucket.Copy(ctx, from, to)
}

func (b keepsOld) Copy(ctx context.Context, from, to string) error {
	if _, err := b.Stat(ctx, to); err == nil {
		return ctx.Err()
	}
	return b.Bucket.Copy(ctx, from, to)
}

func (b forgetsUploads) Uploads(ctx context.Context, _ string) iter.Seq2[archive.Unfinished, error] {
	return b.Bucket.Uploads(ctx, "no such prefix")
}

func (b uploadsOfAll) Uploads(ctx context.Context, _ string) iter.Seq2[archive.Unfinished, error] {
	return b.Bucket.Uploads(ctx, "")
}

func (b abortsAll) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	u, err := b.Bucket.Begin(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return changed{Upload: u, abort: func() error {
		for un, err := range b.Uploads(ctx, key) {
			if err != nil {
				return err
			}
			if u, err := b.Continue(ctx, un); err == nil {
				_ = u.Abort(ctx)
			}
		}
		return nil
	}}, nil
}

func (b abortsObject) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	u, err := b.Bucket.Begin(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return changed{Upload: u, abort: func() error {
		return errors.Join(u.Abort(ctx), b.Delete(ctx, key))
	}}, nil
}

func (b continuesAny) Continue(ctx context.Context, un archive.Unfinished) (archive.Upload, error) {
	u, err := b.Bucket.Continue(ctx, un)
	if err != nil && ctx.Err() == nil {
		return b.Begin(ctx, un.Key, archive.UploadOptions{PartSize: 1000})
	}
	return u, err
}

func TestSuiteCatchesBrokenBuckets(t *testing.T) {
	for _, broken := range []struct {
		wrap func(b archive.Bucket) archive.Bucket
		by   string // a case that has to fail
	}{
		{func(b archive.Bucket) archive.Bucket { return &nowhere{b} }, "place"},
		{func(b archive.Bucket) archive.Bucket { return &takesAnyKey{b} }, "keys/impossible ones"},
		{func(b archive.Bucket) archive.Bucket { return &listsDirs{b} }, "list/prefix"},
		{func(b archive.Bucket) archive.Bucket { return &listsAll{b} }, "list/prefix"},
		{func(b archive.Bucket) archive.Bucket { return &listsAPage{b} }, "list/pages"},
		{func(b archive.Bucket) archive.Bucket { return &listsTwice{b} }, "list/pages"},
		{func(b archive.Bucket) archive.Bucket { return &listsBlind{b} }, "list/what it says"},
		{func(b archive.Bucket) archive.Bucket { return &vague{b} }, "get/missing"},
		{func(b archive.Bucket) archive.Bucket { return &readsOn{b} }, "get/ranges"},
		{func(b archive.Bucket) archive.Bucket { return &readsAhead{b} }, "get/ranges"},
		{func(b archive.Bucket) archive.Bucket { return &readsAhead{b} }, "get/side by side"},
		{func(b archive.Bucket) archive.Bucket { return &closesOnce{b} }, "get/closed"},
		{func(b archive.Bucket) archive.Bucket { return &readsTheNew{b} }, "get/deleted meanwhile"},
		{func(b archive.Bucket) archive.Bucket { return &ignoresContext{b} }, "put/cancelled"},
		{func(b archive.Bucket) archive.Bucket { return &ignoresContext{b} }, "list/cancelled"},
		{func(b archive.Bucket) archive.Bucket { return &ignoresContext{b} }, "get/cancelled"},
		{func(b archive.Bucket) archive.Bucket { return &ignoresContext{b} }, "upload/cancelled"},
		{func(b archive.Bucket) archive.Bucket { return &appends{b} }, "put/replaces"},
		{func(b archive.Bucket) archive.Bucket { return &overwrites{b} }, "put/once"},
		{func(b archive.Bucket) archive.Bucket { return &looksFirst{b} }, "put/once, all at a time"},
		{func(b archive.Bucket) archive.Bucket { return &sameTag{b} }, "put/tags"},
		{func(b archive.Bucket) archive.Bucket { return &deletesMore{b} }, "delete/only that"},
		{func(b archive.Bucket) archive.Bucket { return &missesDeleted{b} }, "delete/only that"},
		{func(b archive.Bucket) archive.Bucket { return &moves{b} }, "copy/makes another"},
		{func(b archive.Bucket) archive.Bucket { return &copiesNothing{b} }, "copy/missing"},
		{func(b archive.Bucket) archive.Bucket { return &keepsOld{b} }, "copy/replaces"},
		{func(b archive.Bucket) archive.Bucket { return &forgetsUploads{b} }, "unfinished/carried on"},
		{func(b archive.Bucket) archive.Bucket { return &uploadsOfAll{b} }, "unfinished/by prefix"},
		{func(b archive.Bucket) archive.Bucket { return &abortsAll{b} }, "unfinished/dropped"},
		{func(b archive.Bucket) archive.Bucket { return &abortsObject{b} }, "unfinished/dropped"},
		{func(b archive.Bucket) archive.Bucket { return &continuesAny{b} }, "unfinished/not ours to name"},
		{withUploads(changed{put: trustsBody}), "upload/wrong checksum"},
		{withUploads(changed{put: padsBody}), "upload/short body"},
		{withUploads(changed{put: keepsFirst}), "upload/replaced part"},
		{withUploads(changed{parts: unsorted}), "upload/parts in any order"},
		{withUploads(changed{complete: takesAllParts}), "upload/surplus parts"},
		{withUploads(changed{complete: takesAnyPart}), "upload/parts that are not there"},
		{withUploads(changed{complete: takesAnyPart}), "unfinished/by other hands"},
		{withUploads(changed{complete: ignoringContext}), "upload/cancelled"},
		{replacing, "upload/taken"},
		{replacing, "upload/all complete at a time"},
		{early, "upload/parts in any order"},
		{leaving, "upload/parts in any order"},
	} {
		name := fmt.Sprintf("%T", broken.wrap(nil))
		t.Run(broken.by+"/"+strings.TrimPrefix(name, "*buckettest."), func(t *testing.T) {
			i := slices.IndexFunc(Cases(), func(c Case) bool { return c.Name == broken.by })
			if i < 0 {
				t.Fatalf("there is no case %q", broken.by)
			}
			complaints := verdict(t, Cases()[i], wrapped(broken.wrap))
			if len(complaints) == 0 {
				t.Fatalf("a bucket that is %s passes the case %q", name, broken.by)
			}
			t.Logf("%s", complaints[0])
		})
	}
}
