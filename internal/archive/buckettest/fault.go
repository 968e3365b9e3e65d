package buckettest

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/archive"
)

// Op names a call that a Fault can meddle with.
type Op string

// The calls of a bucket, of the readers that it gives (Read), and of its uploads
// (Parts, PutPart, Complete, Abort).
const (
	List     Op = "List"
	Stat     Op = "Stat"
	Get      Op = "Get"
	Read     Op = "Read"
	Put      Op = "Put"
	Copy     Op = "Copy"
	Delete   Op = "Delete"
	Begin    Op = "Begin"
	Uploads  Op = "Uploads"
	Continue Op = "Continue"
	Parts    Op = "Parts"
	PutPart  Op = "PutPart"
	Complete Op = "Complete"
	Abort    Op = "Abort"
	Thaw     Op = "Thaw"
)

// Fault is a bucket in which things go wrong as a test says:
//
//	f := buckettest.Faulty(inner)
//	f.On(buckettest.PutPart).After(3).Return(err) // the fourth part is not stored
//	f.On(buckettest.Complete).Late().Return(err)  // it is done, and the answer lost
//	f.On(buckettest.Get).Key(".json").Always().Return(err)
//	f.On(buckettest.Get).Cut(1000, err)           // a reader breaks off
//
// A rule is used up by the number of calls that it was made for, one unless told
// otherwise, and of several that fit a call the first one acts. Calls that no rule
// fits go through. Rules may be made while the bucket is in use.
type Fault struct {
	archive.Bucket

	mu    sync.Mutex
	rules []*Rule
	calls map[Op]int
}

// Rule says what happens to some calls.
type Rule struct {
	f     *Fault
	op    Op
	key   string
	skip  int
	times int
	late  bool
	err   error
	cut   int64
	do    func()
	acts  bool
}

// Faulty returns b with no faults yet.
func Faulty(b archive.Bucket) *Fault { return &Fault{Bucket: b, calls: map[Op]int{}} }

// On begins a rule about a call. It acts once what is to happen has been said.
func (f *Fault) On(op Op) *Rule {
	r := &Rule{f: f, op: op, times: 1, cut: -1}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
	return r
}

// Calls returns how often a call was made so far.
func (f *Fault) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Reset forgets all rules.
func (f *Fault) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

func (r *Rule) with(change func()) *Rule {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	change()
	return r
}

// Key keeps the rule to keys with a text in them, and to listings of prefixes with
// it.
func (r *Rule) Key(text string) *Rule { return r.with(func() { r.key = text }) }

// After lets some calls go through first.
func (r *Rule) After(calls int) *Rule { return r.with(func() { r.skip = calls }) }

// Times has the rule act on so many calls.
func (r *Rule) Times(calls int) *Rule { return r.with(func() { r.times = calls }) }

// Always has the rule act on all calls.
func (r *Rule) Always() *Rule { return r.Times(-1) }

// Late has the call done before its error is given: the answer got lost.
func (r *Rule) Late() *Rule { return r.with(func() { r.late = true }) }

// Return has the call fail.
func (r *Rule) Return(err error) { r.with(func() { r.err, r.acts = err, true }) }

// Cut has the reader of a Get fail after so many bytes, and a listing after so many
// entries.
func (r *Rule) Cut(after int64, err error) {
	r.with(func() { r.cut, r.err, r.acts = after, err, true })
}

// Do calls a function before the call, which goes through.
func (r *Rule) Do(do func()) { r.with(func() { r.do, r.acts = do, true }) }

// fit returns the rule for a call, counting both. It has been told of it by then.
func (f *Fault) fit(op Op, key string) Rule {
	r := f.choose(op, key)
	if r.do != nil {
		r.do()
	}
	return r
}

func (f *Fault) choose(op Op, key string) Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for _, r := range f.rules {
		if r.op != op || !r.acts || r.times == 0 || !strings.Contains(key, r.key) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		return *r
	}
	return Rule{cut: -1}
}

// early is the error of a call that is not made.
func (r Rule) early() error {
	if r.late || r.cut >= 0 {
		return nil
	}
	return r.err
}

// after is the error of a call that was made.
func (r Rule) after(err error) error {
	if err == nil && r.late {
		return r.err
	}
	return err
}

// call makes a call as a rule says.
func (f *Fault) call(op Op, key string, do func() error) error {
	r := f.fit(op, key)
	if err := r.early(); err != nil {
		return err
	}
	return r.after(do())
}

// List lists what is there, or some of it.
func (f *Fault) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return meddle(f, List, prefix, f.Bucket.List(ctx, prefix))
}

// Uploads lists what is unfinished, or some of it.
func (f *Fault) Uploads(ctx context.Context, prefix string) iter.Seq2[archive.Unfinished, error] {
	return meddle(f, Uploads, prefix, f.Bucket.Uploads(ctx, prefix))
}

func meddle[T any](f *Fault, op Op, prefix string, inner iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		r := f.fit(op, prefix)
		if err := r.early(); err != nil {
			yield(zero, err)
			return
		}
		n := int64(0)
		for x, err := range inner {
			if n++; r.cut >= 0 && n > r.cut {
				break
			}
			if !yield(x, err) || err != nil {
				return
			}
		}
		if r.cut >= 0 || r.late {
			yield(zero, r.err)
		}
	}
}

// Stat tells of one object.
func (f *Fault) Stat(ctx context.Context, key string) (o archive.Object, err error) {
	err = f.call(Stat, key, func() error { o, err = f.Bucket.Stat(ctx, key); return err })
	return o, err
}

// Get gives a reader, in which things may go wrong too.
func (f *Fault) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r := f.fit(Get, key)
	if err := r.early(); err != nil {
		return nil, err
	}
	in, err := f.Bucket.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &faultyReader{ReadCloser: in, f: f, key: key, left: r.cut, err: r.err}, nil
}

type faultyReader struct {
	io.ReadCloser
	f    *Fault
	key  string
	left int64 // until it breaks off, or -1
	err  error
}

func (r *faultyReader) Read(p []byte) (int, error) {
	if err := r.f.fit(Read, r.key).early(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, r.err
	}
	if r.left > 0 {
		p = p[:min(int64(len(p)), r.left)]
	}
	n, err := r.ReadCloser.Read(p)
	if r.left > 0 {
		r.left -= int64(n)
	}
	return n, err
}

// Put makes a small object.
func (f *Fault) Put(ctx context.Context, key string, data []byte, once bool) error {
	return f.call(Put, key, func() error { return f.Bucket.Put(ctx, key, data, once) })
}

// Copy copies an object; its rules are about the key that is copied to.
func (f *Fault) Copy(ctx context.Context, from, to string) error {
	return f.call(Copy, to, func() error { return f.Bucket.Copy(ctx, from, to) })
}

// Delete removes an object.
func (f *Fault) Delete(ctx context.Context, key string) error {
	return f.call(Delete, key, func() error { return f.Bucket.Delete(ctx, key) })
}

// Begin starts an upload, in which things may go wrong too.
func (f *Fault) Begin(ctx context.Context, key string, o archive.UploadOptions) (u archive.Upload, err error) {
	err = f.call(Begin, key, func() error { u, err = f.Bucket.Begin(ctx, key, o); return err })
	return f.upload(u, err)
}

// Continue takes up an upload, in which things may go wrong too.
func (f *Fault) Continue(ctx context.Context, un archive.Unfinished) (u archive.Upload, err error) {
	err = f.call(Continue, un.Key, func() error { u, err = f.Bucket.Continue(ctx, un); return err })
	return f.upload(u, err)
}

func (f *Fault) upload(u archive.Upload, err error) (archive.Upload, error) {
	if err != nil {
		return nil, err
	}
	return &faultyUpload{u, f}, nil
}

type faultyUpload struct {
	archive.Upload
	f *Fault
}

func (u *faultyUpload) call(op Op, do func() error) error {
	return u.f.call(op, u.Unfinished().Key, do)
}

func (u *faultyUpload) Parts(ctx context.Context) (p []archive.Part, err error) {
	err = u.call(Parts, func() error { p, err = u.Upload.Parts(ctx); return err })
	return p, err
}

func (u *faultyUpload) Put(ctx context.Context, number int, body archive.Body) (p archive.Part, err error) {
	err = u.call(PutPart, func() error { p, err = u.Upload.Put(ctx, number, body); return err })
	return p, err
}

func (u *faultyUpload) Complete(ctx context.Context, parts []archive.Part) (o archive.Object, err error) {
	err = u.call(Complete, func() error { o, err = u.Upload.Complete(ctx, parts); return err })
	return o, err
}

func (u *faultyUpload) Abort(ctx context.Context) error {
	return u.call(Abort, func() error { return u.Upload.Abort(ctx) })
}
