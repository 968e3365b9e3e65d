package glacier

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// object is an object that is made of parts.
type object struct {
	b  *bucket
	up *Upload
	u  archive.Unfinished

	mu    sync.Mutex
	first []byte // the first part, if it is short enough for the catalogue
	empty bool   // a part of no bytes has been put, which a vault does not have
	// unsure is set if an earlier Complete may have been carried out.
	unsure bool
}

// Begin starts an upload.
func (b *bucket) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	if err := b.ready(ctx); err != nil {
		return nil, b.wrap("beginning to store", key, err)
	}
	if err := checkKey(key); err != nil {
		return nil, b.wrap("beginning to store", key, fmt.Errorf("there can be no such key: %w", err))
	}
	if o.PartSize == 0 {
		o.PartSize = partFor(o.Size)
	}
	if o.PartSize > 0 && (o.Size+o.PartSize-1)/o.PartSize > maxParts {
		return nil, b.wrap("beginning to store", key, fmt.Errorf("%d bytes in parts of %d are more than %d parts", o.Size, o.PartSize, maxParts))
	}
	up, err := b.Vault.Begin(ctx, describe(key, false), o.PartSize)
	if err != nil {
		return nil, b.wrap("beginning to store", key, err)
	}
	return b.object(key, up), nil
}

// partFor is a length of parts that does for so many bytes.
func partFor(size int64) int64 {
	const usual = 32 << 20
	least := (size + maxParts - 1) / maxParts
	if least <= usual {
		return usual
	}
	return min(int64(1)<<bits.Len64(uint64(least-1)), maxPart)
}

func (b *bucket) object(key string, up *Upload) *object {
	return &object{b: b, up: up, u: archive.Unfinished{Key: key, ID: up.u.ID, Begun: up.u.Begun}}
}

// Uploads gives the uploads that were begun and are not complete.
func (b *bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[archive.Unfinished, error] {
	return func(yield func(archive.Unfinished, error) bool) {
		for u, err := range b.Vault.Uploads(ctx) {
			if err != nil {
				yield(archive.Unfinished{}, err)
				return
			}
			key, _, ok := parseDescription(u.Description)
			if !ok || !strings.HasPrefix(key, prefix) {
				continue
			}
			if !yield(archive.Unfinished{Key: key, ID: u.ID, Begun: u.Begun}, nil) {
				return
			}
		}
	}
}

// Continue takes up an unfinished upload again.
func (b *bucket) Continue(ctx context.Context, u archive.Unfinished) (archive.Upload, error) {
	doing := "taking up the upload of"
	if u.ID == "" || strings.ContainsFunc(u.ID, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return nil, b.wrap(doing, u.Key, archive.ErrNoUpload)
	}
	if err := b.ready(ctx); err != nil {
		return nil, b.wrap(doing, u.Key, err)
	}
	up := b.Vault.Continue(Unfinished{ID: u.ID, Begun: u.Begun})
	r := &request{doing: "looking at an upload to", action: "glacier:ListParts", missing: archive.ErrNoUpload}
	out, err := up.page(ctx, r, nil, aws.Int32(1))
	if err != nil {
		return nil, b.wrap(doing, u.Key, err)
	}
	// Whose it is says the description, which nobody can have changed.
	up.u.Description, up.u.PartSize = aws.ToString(out.ArchiveDescription), out.PartSizeInBytes
	if key, _, ok := parseDescription(up.u.Description); !ok || key != u.Key {
		return nil, b.wrap(doing, u.Key, archive.ErrNoUpload)
	}
	o := b.object(u.Key, up)
	o.u = u
	return o, nil
}

// Unfinished names the upload.
func (o *object) Unfinished() archive.Unfinished { return o.u }

// Parts returns what has been stored.
func (o *object) Parts(ctx context.Context) ([]archive.Part, error) {
	stored, err := o.up.Parts(ctx)
	if err != nil {
		return nil, o.b.wrap("listing the parts of", o.u.Key, err)
	}
	parts := make([]archive.Part, len(stored))
	for i, p := range stored {
		if p.Offset%o.up.u.PartSize != 0 {
			return nil, o.b.wrap("listing the parts of", o.u.Key, fmt.Errorf("one begins at %d, with parts of %d bytes", p.Offset, o.up.u.PartSize))
		}
		parts[i] = archive.Part{Number: int(p.Offset/o.up.u.PartSize) + 1, Size: p.Size, Tag: p.Tree.String()}
	}
	slices.SortFunc(parts, func(a, b archive.Part) int { return cmp.Compare(a.Number, b.Number) })
	return parts, nil
}

// Put stores a part.
func (o *object) Put(ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	p, err := o.put(ctx, number, body)
	return p, o.b.wrap(fmt.Sprintf("storing part %d of", number), o.u.Key, err)
}

func (o *object) put(ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	if number < 1 || number > maxParts {
		return archive.Part{}, fmt.Errorf("parts have numbers from 1 to %d", maxParts)
	}
	if err := ctx.Err(); err != nil {
		return archive.Part{}, err
	}
	if body.Size == 0 && number == 1 {
		s, err := sum(body)
		if err != nil {
			return archive.Part{}, err
		}
		// The upload has to be there still.
		if _, err := o.up.Parts(ctx); err != nil {
			return archive.Part{}, err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.empty, o.first = true, nil
		return archive.Part{Number: 1, Tag: s.tree.String()}, nil
	}
	var first []byte
	if number == 1 && body.Size <= inlineUploads {
		start, err := body.Seek(0, io.SeekCurrent)
		if err != nil {
			return archive.Part{}, err
		}
		if first, err = io.ReadAll(io.LimitReader(body.ReadSeeker, body.Size)); err != nil {
			return archive.Part{}, err
		}
		if _, err := body.Seek(start, io.SeekStart); err != nil {
			return archive.Part{}, err
		}
	}
	tree, err := o.up.Put(ctx, int64(number-1)*o.up.u.PartSize, body)
	if err != nil {
		return archive.Part{}, err
	}
	if number == 1 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.first, o.empty = first, false
	}
	return archive.Part{Number: number, Size: body.Size, Tag: tree.String()}, nil
}

// Complete makes the object out of parts. A vault cannot drop parts that are not
// wanted: where there are such it is archive.ErrNoUpload.
func (o *object) Complete(ctx context.Context, parts []archive.Part) (archive.Object, error) {
	e, err := o.complete(ctx, parts)
	if err != nil {
		return archive.Object{}, o.b.wrap("completing", o.u.Key, err)
	}
	return e.object(o.u.Key), nil
}

func (o *object) complete(ctx context.Context, parts []archive.Part) (*entry, error) {
	b := o.b
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	trees, size, err := treesOf(parts, o.up.u.PartSize)
	if err != nil {
		return nil, err
	}
	tree := JoinTreeHashes(trees)
	o.mu.Lock()
	unsure := o.unsure
	o.mu.Unlock()
	switch have, err := b.find(o.u.Key); {
	case err != nil:
		return nil, err
	case have != nil && unsure && have.Tree == tree.String() && have.Size == size:
		return have, nil // another process has found out that it is ours
	case have != nil:
		return nil, archive.ErrTaken
	}
	if size == 0 {
		return o.completeEmpty(ctx)
	}
	note := &closing{Key: o.u.Key, Size: size, PartSize: o.up.u.PartSize, Tree: tree.String(), Begun: b.now().UTC()}
	o.mu.Lock()
	if o.first != nil && len(parts) == 1 && int64(len(o.first)) == size && treeOf(o.first) == tree {
		note.Content = bytes.Clone(o.first)
	}
	o.mu.Unlock()
	if err := b.enter(closingPrefix+o.u.ID, note); err != nil {
		return nil, err
	}
	r := &request{doing: "completing an upload to", action: "glacier:CompleteMultipartUpload", missing: archive.ErrNoUpload, unsure: unsure}
	made, err := o.up.complete(ctx, r, size, tree)
	if err != nil {
		return nil, o.failed(ctx, parts, r.unsure, err)
	}
	return b.completed(ctx, o.u.ID, note, made)
}

// badValue is the code of the answer to what completes an upload that is there, and
// has other parts.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-error-responses.html
const badValue = "InvalidParameterValueException"

// treeOf is the tree hash of something in memory.
func treeOf(data []byte) TreeHash {
	var t TreeHasher
	_, _ = t.Write(data)
	return t.Sum()
}

// treesOf gives the tree hashes of parts, and the length of all, if a vault can make
// an archive of them.
func treesOf(parts []archive.Part, partSize int64) (trees []TreeHash, size int64, err error) {
	if len(parts) == 0 {
		return nil, 0, errors.New("an object has one part at least")
	}
	for i, p := range parts {
		if p.Number != i+1 {
			return nil, 0, fmt.Errorf("the parts of an archive are all there and in order, and number %d is %d", i+1, p.Number)
		}
		if i+1 < len(parts) && p.Size != partSize {
			return nil, 0, fmt.Errorf("part %d has %d bytes, and all but the last have %d", p.Number, p.Size, partSize)
		}
		tree, err := ParseTreeHash(p.Tag)
		if err != nil {
			return nil, 0, fmt.Errorf("%w with these parts: part %d: %w", archive.ErrNoUpload, p.Number, err)
		}
		trees = append(trees, tree)
		size += p.Size
	}
	return trees, size, nil
}

// TagOf is the tree hash of an archive that is made of parts.
func (b *bucket) TagOf(parts []archive.Part, partSize int64) string {
	trees, _, err := treesOf(parts, partSize)
	if err != nil {
		return ""
	}
	return JoinTreeHashes(trees).String()
}

// completeEmpty makes an object of no bytes, which is an archive by itself.
func (o *object) completeEmpty(ctx context.Context) (*entry, error) {
	o.mu.Lock()
	empty := o.empty
	o.mu.Unlock()
	if !empty {
		return nil, fmt.Errorf("%w with these parts: none has been stored", archive.ErrNoUpload)
	}
	if err := o.b.put(ctx, o.u.Key, nil, true); err != nil {
		return nil, err
	}
	if err := o.up.Abort(ctx); err != nil {
		o.b.log.Warn("an upload that is not needed could not be dropped; the vault does that itself within a day", "because", err)
	}
	return o.b.find(o.u.Key)
}

// failed finds out what it means that an upload was not completed. With unsure set
// one of the requests may have been carried out: an answer to a later one says what
// became of it only if it is about the upload itself.
func (o *object) failed(ctx context.Context, parts []archive.Part, unsure bool, err error) error {
	if _, ok := errors.AsType[*UncertainError](err); ok {
		return errors.Join(err, o.b.unsettle())
	}
	a, refused := answerIn(err)
	refused = refused && a.status >= 400 && a.status < 500 && !store.Temporary(err) && (!unsure || a.code == badValue)
	if !refused || ctx.Err() != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.unsure = true
		return err // it may have been completed: what is written down stays
	}
	if e := o.b.c.Strike(o.b.place, closingPrefix+o.u.ID); e != nil {
		return errors.Join(err, e)
	}
	if errors.Is(err, archive.ErrNoUpload) {
		return err
	}
	there, e := o.Parts(ctx)
	if e != nil {
		return errors.Join(err, e)
	}
	if !slices.Equal(there, parts) {
		return fmt.Errorf("%w with these parts: the vault has others, or more, and does not drop any: %w", archive.ErrNoUpload, err)
	}
	return err
}

// completed writes down the object that an upload has become.
func (b *bucket) completed(ctx context.Context, id string, note *closing, made Stored) (*entry, error) {
	e := entryOf(made, false)
	e.Upload = id
	if note.Content != nil {
		e.Inline, e.Content = true, note.Content
	}
	if err := b.enterOnce(ctx, note.Key, e); err != nil && !errors.Is(err, archive.ErrTaken) {
		return nil, err
	} else if err != nil {
		return nil, errors.Join(err, b.c.Strike(b.place, closingPrefix+id))
	}
	return e, b.c.Strike(b.place, closingPrefix+id)
}

// unsettle has a newer inventory waited for.
func (b *bucket) unsettle() error {
	s := &state{}
	if data, ok, err := b.c.Entry(b.place, stateName); err != nil {
		return err
	} else if ok {
		if s, err = read[state](b.place, stateName, data); err != nil {
			return err
		}
	}
	s.Settled, s.After = false, b.now().UTC()
	return b.enter(stateName, s)
}

// close completes an upload of a run that died in the middle of that, and finds out
// whether it had.
func (b *bucket) close(ctx context.Context, c *contents, id string, note *closing) error {
	up := b.Vault.Continue(Unfinished{ID: id, Description: describe(note.Key, false), PartSize: note.PartSize})
	tree, err := ParseTreeHash(note.Tree)
	if err != nil {
		return err
	}
	if have := c.objects[note.Key]; have != nil {
		// Somebody has stored it since, or it was written down and the note was not
		// struck.
		there, err := up.abort(ctx)
		if err != nil {
			if _, answered := answerIn(err); !answered || store.Temporary(err) {
				return err
			}
		}
		if !there && have.Upload != id {
			// It may be an archive by now that nobody wants any more.
			if _, err := b.suspect(note.Key, note.Size, tree); err != nil {
				return err
			}
			if err := b.unsettle(); err != nil {
				return err
			}
			c.state.Settled, c.state.After = false, b.now().UTC()
		}
		return b.c.Strike(b.place, closingPrefix+id)
	}
	r := &request{doing: "completing an upload to", action: "glacier:CompleteMultipartUpload", missing: archive.ErrNoUpload}
	made, err := up.complete(ctx, r, note.Size, tree)
	_, uncertain := errors.AsType[*UncertainError](err)
	switch {
	case errors.Is(err, archive.ErrNoUpload), uncertain:
		// Perhaps there is the archive. The inventory knows, a day from now; that it
		// does is written down with the note.
		if c.state.Settled {
			c.state.Settled, c.state.After = false, b.now().UTC()
			return b.unsettle()
		}
		return nil
	case err != nil:
		if a, ok := answerIn(err); ok && a.code == badValue {
			return b.c.Strike(b.place, closingPrefix+id) // its parts are not what they were to be
		}
		return err
	}
	_, err = b.completed(ctx, id, note, made)
	return err
}

// Abort drops the upload.
func (o *object) Abort(ctx context.Context) error {
	there, err := o.up.abort(ctx)
	if err == nil && there {
		// Where it was not there it may have been completed: what is written down of
		// that stays.
		err = o.b.c.Strike(o.b.place, closingPrefix+o.u.ID)
	}
	return o.b.wrap("dropping the upload of", o.u.Key, err)
}
