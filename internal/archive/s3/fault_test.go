package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// everything does what a program does in a bucket, and returns the first error.
func everything(ctx context.Context, b *Bucket, data []byte) error {
	if err := b.Put(ctx, "small", []byte("small"), false); err != nil {
		return err
	}
	u, err := b.Begin(ctx, "big", archive.UploadOptions{PartSize: minPart})
	if err != nil {
		return err
	}
	if u, err = b.Continue(ctx, u.Unfinished()); err != nil {
		return err
	}
	var parts []archive.Part
	for rest := data; len(rest) > 0; rest = rest[min(minPart, len(rest)):] {
		p, err := u.Put(ctx, len(parts)+1, bodyOf(rest[:min(minPart, len(rest))]))
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	if _, err := u.Complete(ctx, parts); err != nil {
		return err
	}
	for _, err := range b.List(ctx, "") {
		if err != nil {
			return err
		}
	}
	for _, err := range b.Uploads(ctx, "") {
		if err != nil {
			return err
		}
	}
	if err := b.Copy(ctx, "big", "copy"); err != nil {
		return err
	}
	got, err := read(ctx, b, "copy", int64(len(data)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("the copy is not what was stored")
	}
	if err := b.Delete(ctx, "copy"); err != nil {
		return err
	}
	if _, err := b.Stat(ctx, "big"); err != nil {
		return err
	}
	if u, err = b.Begin(ctx, "dropped", archive.UploadOptions{}); err != nil {
		return err
	}
	if err := u.Abort(ctx); err != nil {
		return err
	}
	return b.Delete(ctx, "big")
}

// read reads an object to its end and goes on after errors that are temporary.
func read(ctx context.Context, b *Bucket, key string, size int64) ([]byte, error) {
	var got []byte
	for tries := 0; int64(len(got)) < size; tries++ {
		in, err := b.Get(ctx, key, int64(len(got)), size-int64(len(got)))
		if err != nil {
			return got, err
		}
		more, err := io.ReadAll(in)
		in.Close()
		got = append(got, more...)
		if err != nil && (!contract.Temporary(err) || tries > 100) {
			return got, err
		}
	}
	return got, nil
}

func TestStorms(t *testing.T) {
	server := s3test.Start(t)
	for name, make := range map[string]func(*s3test.Storm){
		"503 SlowDown for a third":     func(s *s3test.Storm) { s.FailShare(0.33, 503, "SlowDown") },
		"500 InternalError for nine":   func(s *s3test.Storm) { s.Fail(9, 500, "InternalError") },
		"429 for a few":                func(s *s3test.Storm) { s.Fail(3, 429, "TooManyRequests") },
		"replies of some are lost":     func(s *s3test.Storm) { s.Lose(3); s.Lose(2, "UploadPart", "ListParts", "CopyObject") },
		"a token expires, once":        func(s *s3test.Storm) { s.Fail(1, 400, "ExpiredToken", "UploadPart") },
		"a token expires at the head":  func(s *s3test.Storm) { s.Fail(1, 400, "ExpiredToken", "HeadObject") },
		"a conflict among other hands": func(s *s3test.Storm) { s.Fail(2, 409, "OperationAborted", "PutObject") },
	} {
		t.Run(name, func(t *testing.T) {
			storm := server.Storm(t)
			b := open(t, server, Options{Endpoint: storm.Endpoint})
			make(storm)
			if err := everything(t.Context(), b, content(5, minPart+1234)); err != nil {
				t.Error(err)
			}
			storm.Calm()
			if all, begun := server.Keys(t, b.o.Bucket), server.Unfinished(t, b.o.Bucket); len(all)+len(begun) > 1 || len(all) == 1 && all[0] != "small" {
				// (A lost reply of Begin leaves an upload that nobody knows of.)
				if name != "replies of some are lost" {
					t.Errorf("left are %q, unfinished %q", all, begun)
				}
			}
		})
	}
}

func TestAStormThatDoesNotEndIsTemporary(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	storm.FailShare(1, 503, "SlowDown")
	err := b.Put(t.Context(), "k", nil, false)
	if !contract.Temporary(err) || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("the error is %v, temporary: %v", err, contract.Temporary(err))
	}
	if n := storm.Count(); n != attempts {
		t.Errorf("%d attempts were made, not %d", n, attempts)
	}
	storm.Calm()
	server.Kill()
	err = b.Put(t.Context(), "k", nil, false)
	if !contract.Temporary(err) {
		t.Errorf("without a server the error is %v, temporary: false", err)
	}
	server.Restart()
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestLostRepliesOfWhatMayBeDoneOnlyOnce(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint})
	ctx := t.Context()

	storm.Lose(1, "PutObject")
	if err := b.Put(ctx, "once", []byte("ours"), true); err != nil {
		t.Errorf("Put, of which the reply was lost: %v", err)
	}
	storm.Lose(1, "PutObject")
	if err := b.Put(ctx, "once", []byte("others"), true); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("Put where something is, of which the reply was lost: %v", err)
	}
	for _, lost := range []int{1, 3} {
		u, parts := begin(t, b, "big", content(6, minPart), []byte("end"))
		storm.Lose(lost, "CompleteMultipartUpload")
		o, err := u.Complete(ctx, parts)
		if err != nil || o.Size != minPart+3 {
			t.Errorf("Complete, of which %d replies were lost: %+v, %v", lost, o, err)
		}
		if err := b.Delete(ctx, "big"); err != nil {
			t.Fatal(err)
		}
	}
	// That so many are lost that it gives up changes nothing for the next try.
	u, parts := begin(t, b, "big", []byte("ours"))
	storm.Lose(1, "CompleteMultipartUpload")
	storm.Fail(attempts-1, 503, "SlowDown", "CompleteMultipartUpload")
	storm.Fail(attempts, 503, "SlowDown", "HeadObject")
	if _, err := u.Complete(ctx, parts); !contract.Temporary(err) {
		t.Fatalf("Complete, with nothing but lost replies and storms: %v", err)
	}
	storm.Fail(1, 404, "NoSuchUpload", "CompleteMultipartUpload") // as AWS answers
	if o, err := u.Complete(ctx, parts); err != nil || o.Size != 4 {
		t.Errorf("Complete once more: %+v, %v", o, err)
	}
	if err := b.Delete(ctx, "big"); err != nil {
		t.Fatal(err)
	}
	// The object of somebody else is not taken for ours.
	if err := b.Put(ctx, "big", []byte("another"), false); err != nil {
		t.Fatal(err)
	}
	u, parts = begin(t, b, "big", []byte("ours"))
	storm.Lose(1, "CompleteMultipartUpload")
	if _, err := u.Complete(ctx, parts); !errors.Is(err, archive.ErrTaken) {
		t.Errorf("Complete where another object is, of which the reply was lost: %v", err)
	}
	if got := get(t, b, "big", 0, 100); string(got) != "another" {
		t.Errorf("the object is %q", got)
	}
	if err := u.Abort(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestCuts cuts connections after random numbers of bytes, both ways.
func TestCuts(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	b := open(t, server, Options{Endpoint: proxy.Endpoint})
	ctx := t.Context()
	data := content(7, 3*minPart)

	const rounds = 8
	for range rounds {
		up := rand.Int64N(int64(len(data)))
		proxy.CutSome(up, s3test.Up, 0.5)
		proxy.CutSome(30+rand.Int64N(2000), s3test.Down, 0.3)
		u, err := b.Begin(ctx, "k", archive.UploadOptions{})
		if err != nil && !contract.Temporary(err) {
			t.Fatalf("cut after %d bytes: %v", up, err)
		}
		if err != nil {
			proxy.Heal()
			continue
		}
		var parts []archive.Part
		for i := range 3 {
			p, err := u.Put(ctx, i+1, bodyOf(data[i*minPart:(i+1)*minPart]))
			if err != nil && !contract.Temporary(err) {
				t.Fatalf("cut after %d bytes: %v", up, err)
			}
			if err != nil { // what the engine does with a temporary error
				proxy.Heal()
				p = put(t, continued(t, b, u), data[:minPart], data[minPart:2*minPart], data[2*minPart:])[i]
			}
			parts = append(parts, p)
		}
		if _, err := u.Complete(ctx, parts); err != nil {
			if !contract.Temporary(err) {
				t.Fatalf("cut after %d bytes: %v", up, err)
			}
			proxy.Heal()
			if _, err := u.Complete(ctx, parts); err != nil && !errors.Is(err, archive.ErrTaken) {
				t.Fatalf("after a cut: %v", err)
			}
		}
		proxy.Heal()

		proxy.CutSome(rand.Int64N(int64(len(data))), s3test.Down, 0.8)
		got, err := read(ctx, b, "k", int64(len(data)))
		proxy.Heal()
		if err != nil && !contract.Temporary(err) {
			t.Fatalf("reading: %v", err)
		}
		if err == nil && !bytes.Equal(got, data) {
			t.Fatal("what was read is not what was stored")
		}
		if err := b.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
	}
}

func continued(t *testing.T, b *Bucket, u archive.Upload) archive.Upload {
	t.Helper()
	again, err := b.Continue(t.Context(), u.Unfinished())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestServerDiesAmidParts(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server, Options{})
	b.retries = newRetries(attempts, 100*time.Millisecond)
	data := content(8, 4*minPart)
	u, err := b.Begin(t.Context(), "k", archive.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var (
		parts  = make([]archive.Part, 4)
		errs   = make([]error, 4)
		active sync.WaitGroup
	)
	for i := range parts {
		active.Go(func() {
			parts[i], errs[i] = u.Put(t.Context(), i+1, bodyOf(data[i*minPart:(i+1)*minPart]))
		})
	}
	server.Kill()
	server.Restart()
	active.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Complete(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, "k", 0, int64(len(data))); !bytes.Equal(got, data) {
		t.Error("the object is not what was stored")
	}
	if got := server.Unfinished(t, b.o.Bucket); len(got) != 0 {
		t.Errorf("unfinished is %q", got)
	}
}

func TestStalls(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	b := open(t, server, Options{Endpoint: proxy.Endpoint, StallAfter: 300 * time.Millisecond})
	ctx := t.Context()
	data := content(9, minPart)
	u, _ := begin(t, b, "k", data)
	server.Put(t, b.o.Bucket, "there", data)
	// The proxy takes no orders while it waits for who does not read yet.
	proxy.Slow(1 << 20)
	in, err := b.Get(ctx, "there", 0, minPart)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()

	proxy.Stall()
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, reach.ErrStalled) || !contract.Temporary(err) {
		t.Errorf("reading over a connection that stalls: %v", err)
	}
	healed := make(chan struct{})
	time.AfterFunc(time.Second, func() {
		proxy.Heal()
		close(healed)
	})
	if _, err := u.Put(ctx, 2, bodyOf(data)); err != nil {
		t.Errorf("storing over a connection that stalled for a while: %v", err)
	}
	<-healed
}

// TestSlowIsNoStall has connections that take many times as long as a stall, and
// a reader who takes longer between two reads.
func TestSlowIsNoStall(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	storm := server.Storm(t)
	data := content(10, minPart)
	slow := open(t, server, Options{Endpoint: proxy.Endpoint, StallAfter: time.Second})
	u, err := slow.Begin(t.Context(), "k", archive.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Slow(2 << 20)
	if _, err := u.Put(t.Context(), 1, bodyOf(data)); err != nil {
		t.Error(err)
	}
	parts, err := u.Parts(t.Context())
	if err != nil || len(parts) != 1 {
		t.Fatalf("%v %v", parts, err)
	}
	if _, err := u.Complete(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	if got := get(t, slow, "k", 0, minPart); !bytes.Equal(got, data) {
		t.Error("the object is not what was stored")
	}

	hasty := open(t, server, Options{Bucket: slow.o.Bucket, Endpoint: storm.Endpoint, StallAfter: 100 * time.Millisecond})
	in, err := hasty.Get(t.Context(), "k", 0, minPart)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.CopyN(io.Discard, in, 10); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if n, err := io.Copy(io.Discard, in); err != nil || n != minPart-10 {
		t.Errorf("after a rest of the reader %d bytes came, and %v", n, err)
	}
}

func TestCancelledRequestsEndAtOnce(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	b := open(t, server, Options{Endpoint: proxy.Endpoint})
	u, _ := begin(t, b, "k", []byte("part"))
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := u.Put(ctx, 2, bodyOf(content(11, minPart))); !errors.Is(err, context.DeadlineExceeded) || contract.Temporary(err) {
		t.Errorf("Put: %v, temporary: %v", err, contract.Temporary(err))
	}
	if _, err := u.Complete(ctx, []archive.Part{{Number: 1, Size: 4, Tag: md5Of([]byte("part"))}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Complete: %v", err)
	}
	proxy.Heal()
	if got := server.Unfinished(t, b.o.Bucket); !slices.Equal(got, []string{"k"}) {
		t.Errorf("unfinished is %q", got)
	}
}
