package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	contract "github.com/buttersink/buttersink/internal/store"
)

// awsBucket names the environment variable with the name of a bucket at AWS, in
// which the user of the environment may do all that docs/policies/full.json allows.
const awsBucket = "BUTTERSINK_TEST_AWS_BUCKET"

// TestAWS has an object in a cold class thawed by those who have made it, for who
// names a bucket there.
func TestAWS(t *testing.T) {
	name := os.Getenv(awsBucket)
	if name == "" {
		t.Logf("%s names no bucket", awsBucket)
		return
	}
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // so that there is time to tidy up
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-time.Minute))
		defer cancel()
	}
	b, err := Open(ctx, Options{Bucket: name, Class: "GLACIER"})
	if err != nil {
		t.Fatal(err)
	}
	prefix := "buttersink-test-" + rand.Text() + "/"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for o, err := range b.List(ctx, prefix) {
			if err == nil {
				err = b.Delete(ctx, o.Key)
			}
			if err != nil {
				t.Errorf("tidying up below %s: %v", prefix, err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})

	begun := time.Now()
	lives(ctx, t, b, prefix, func(how contract.Thawing) {
		select {
		case <-time.After(15 * time.Second):
		case <-ctx.Done():
			t.Fatalf("after %v it is %+v; -timeout says how long to wait", time.Since(begun), how)
		}
	}, time.Now)
	t.Logf("it took %v", time.Since(begun))
}

// lives has an object stored in GLACIER, asked for and read, and looks at each step
// how it is told of. It waits, by the clock now, for it to thaw.
func lives(ctx context.Context, t *testing.T, b *Bucket, prefix string, wait func(contract.Thawing), now func() time.Time) {
	t.Helper()
	key, data := prefix+"cold", content(1, 512<<10)
	for key, data := range map[string][]byte{key: data, prefix + "small": data[:hot-1]} {
		u, err := b.Begin(ctx, key, archive.UploadOptions{Size: int64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Complete(ctx, put(t, u, data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(ctx, prefix+"put", data, true); err != nil {
		t.Fatal(err)
	}
	listed := func(cold bool) {
		t.Helper()
		for o, err := range b.List(ctx, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if is := o.Key == key; o.Fixed != is || o.Cold != (is && cold) || (o.Class == "GLACIER") != is {
				t.Errorf("listed is %+v", o)
			}
			if s, err := b.Stat(ctx, o.Key); err != nil || s.Class != o.Class || s.Cold != o.Cold || s.Fixed != o.Fixed {
				t.Errorf("listed is %+v, and by itself it is %+v, %v", o, s, err)
			}
		}
	}
	listed(true)
	_, read := b.Get(ctx, key, 0, 1)
	for what, err := range map[string]error{"Get": read, "Copy": b.Copy(ctx, key, prefix+"copy")} {
		if cold, ok := errors.AsType[*archive.ColdError](err); !ok || cold.Class != "GLACIER" {
			t.Errorf("%s: %v", what, err)
		}
	}
	how := func(o contract.ThawOptions) contract.Thawing {
		t.Helper()
		got, err := b.Thaw(ctx, []string{key}, o)
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	expedited := contract.ThawOptions{Ask: true, Tier: contract.Expedited, Days: 1}
	for i, want := range []contract.ThawState{contract.Cold, contract.Pending, contract.Pending} {
		o := expedited
		o.Ask = i > 0
		if got := how(o); got.State != want || got.Fresh != (i == 1) {
			t.Errorf("the object is %+v", got)
		}
	}
	for {
		got := how(expedited)
		if got.Fresh {
			t.Fatal("it was asked for twice")
		}
		if got.State == contract.Readable {
			if left := got.Until.Sub(now()); left < time.Hour || left > 72*time.Hour {
				t.Errorf("it is readable until %v, which is %v", got.Until, left)
			}
			break
		}
		wait(got)
	}
	if got := get(t, b, key, 0, int64(len(data))); !bytes.Equal(got, data) {
		t.Errorf("%d bytes are read that are not those that were stored", len(got))
	}
	listed(false)
}
