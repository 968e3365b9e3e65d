package endurance

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// through has the archive's server reached by another endpoint.
func (d *depot) through(endpoint string) {
	d.env = d.bucket.(s3Bucket).server.EnvAt(endpoint)
}

// TestArchiveCuts breaks every connection at random moments, and each one after
// so many bytes, while it is stored to and restored from. It goes on by itself.
func TestArchiveCuts(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	d, proxy := s3Depot(t, server), server.Proxy(t)
	d.through(proxy.Endpoint)
	s := pair(t, 2, 17<<20)

	drop := func(r *run) {
		for range times(t, 8) {
			if time.Sleep(rand.N(150 * time.Millisecond)); r.gone() {
				break
			}
			proxy.Drop()
		}
		r.fine()
	}
	drop(s.store(d))
	d.sound(s)
	drop(s.restore(d))
	s.complete()

	s.empty()
	d.clear()
	proxy.Cut(7<<20+rand.N(int64(4<<20)), s3test.Up) // a connection is good for one part
	s.store(d).fine()
	d.sound(s)
	proxy.Heal()
	proxy.Cut(1<<20+rand.N(int64(4<<20)), s3test.Down)
	s.restore(d).fine()
	s.complete()
}

// TestArchiveSlowLink: a link that is slow is no fault.
func TestArchiveSlowLink(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	d, proxy := s3Depot(t, server), server.Proxy(t)
	d.through(proxy.Endpoint)
	s := pair(t, 2, 700_000)
	proxy.Slow(2_000_000)
	for _, r := range []*run{s.store(d).fine(), s.restore(d).fine()} {
		if strings.Contains(r.out.String(), `"event":"retry"`) {
			t.Errorf("something is tried again:\n%s", r.story())
		}
	}
	d.sound(s)
	s.complete()
}

// TestArchiveStorm: some of the requests are answered with "slow down", and
// a few replies are lost on their way. It goes on by itself.
func TestArchiveStorm(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	w := watched(t, d)
	s := pair(t, 2, 6<<20)
	w.FailShare(0.15, 503, "SlowDown")
	for _, op := range []string{"UploadPart", "CompleteMultipartUpload", "PutObject", "CreateMultipartUpload"} {
		w.Lose(1, op)
	}
	s.store(d).fine()
	w.Calm()
	d.sound(s)
	w.FailShare(0.15, 503, "SlowDown")
	w.Lose(2, "GetObject")
	s.restore(d).fine()
	s.complete()
}

// TestArchiveExpiredCredentials: in the middle of an upload the credentials are
// good no longer. The run says so, and with new ones the next carries on.
func TestArchiveExpiredCredentials(t *testing.T) {
	t.Parallel()
	d := s3Depot(t, s3test.Start(t))
	w := watched(t, d)
	s := pair(t, 1, 40<<20)
	w.next()
	r := s.store(d)
	for w.Count("UploadPart") < 4 && !r.gone() {
		time.Sleep(time.Millisecond)
	}
	w.FailShare(1, 400, "ExpiredToken")
	r.unsuccessful("expired")
	w.Calm()
	if left := d.objects(); len(left) > 0 {
		t.Errorf("these are there: %v", left)
	}
	w.next()
	s.store(d).fine()
	d.sound(s)
	w.once(t)
	if w.carriedOn() != 1 {
		t.Error("the upload was not carried on")
	}
	s.restore(d).fine()
	s.complete()
}

// TestArchiveServerDies kills the server in the middle, and has it back a moment
// later. It goes on by itself.
func TestArchiveServerDies(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	d := s3Depot(t, server)
	s := pair(t, 2, 30<<20)
	for _, begin := range []func() *run{func() *run { return s.store(d) }, func() *run { return s.restore(d) }} {
		r := begin()
		if !r.await(`"event":"progress"`, 2) {
			t.Fatalf("it ends before:\n%s", r.story())
		}
		server.Kill()
		time.Sleep(300 * time.Millisecond)
		server.Restart()
		r.fine()
	}
	d.sound(s)
	s.complete()
}

// TestArchiveWrongPlace: no bucket, a wrong key and a wrong region are named, and
// quickly.
func TestArchiveWrongPlace(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	s := pair(t, 1, 100_000)
	for _, test := range []struct {
		name   string
		change func(*depot)
		says   []string
	}{
		{"no bucket", func(d *depot) { d.url = "s3://no-such-bucket-anywhere/pre/fix/" }, []string{"no-such-bucket-anywhere"}},
		{"wrong secret", func(d *depot) { d.env = s3test.EnvOf(server.Endpoint, server.Access, "wrong") }, []string{"the secret is not the right one"}},
		{"wrong key", func(d *depot) { d.env = s3test.EnvOf(server.Endpoint, "nobody", server.Secret) }, []string{"does not know the access key"}},
		{"no key", func(d *depot) {
			d.env = append(s3test.EnvOf(server.Endpoint, "", ""), "HOME="+t.TempDir())
		}, []string{"credentials"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, here := s3Depot(t, server), *s
			here.t = t
			test.change(d)
			for _, r := range []*run{here.store(d), here.restore(d), d.run("list", d.url)} {
				if code := r.wait(); code != failed {
					t.Errorf("%q ends with %d:\n%s", r.cmd.Args, code, r.story())
				}
				r.says(test.says...)
			}
			if keys := d.bucket.keys(); len(keys) > 0 {
				t.Errorf("these were made: %q", keys)
			}
			here.clean()
		})
	}
	t.Run("wrong region", func(t *testing.T) {
		d := s3Depot(t, server)
		d.env = append(d.env, "AWS_REGION=eu-central-1")
		r := s.store(d)
		if code := r.wait(); code != done { // it may find the right one by itself
			r.says("region")
		}
	})
}

// TestArchiveDenied takes away each permission in turn. What cannot be done
// without it says what is missing and leaves nothing half-made; the rest works.
func TestArchiveDenied(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	s := pair(t, 2, 3<<20)
	needs := map[string][]string{
		"s3:ListBucket":   {"store", "restore", "list"},
		"s3:PutObject":    {"store", "delete"},
		"s3:GetObject":    {"restore", "verify"},
		"s3:DeleteObject": {"delete"},
	}
	for _, action := range s3test.Everything {
		t.Run(action, func(t *testing.T) {
			d, here := s3Depot(t, server), *s
			here.t, here.seen = t, map[string]bool{}
			mine := d.env
			access, secret := server.User(t, d.bucket.(s3Bucket).name, s3test.Except(action)...)
			theirs := s3test.EnvOf(server.Endpoint, access, secret)
			check := func(what string, r *run, sound func()) {
				switch code := r.wait(); {
				case code == done && slices.Contains(needs[action], what):
					t.Errorf("%s needs no %s:\n%s", what, action, r.story())
				case code == done:
					sound()
				case code != failed && code != partly:
					t.Errorf("%s ends with %d:\n%s", what, code, r.story())
				case !strings.Contains(r.out.String()+r.err.String(), action):
					t.Errorf("%s does not say %s:\n%s", what, action, r.story())
				}
			}
			d.env = theirs
			check("store", here.store(d), func() { d.sound(&here) })
			if slices.Contains(needs[action], "store") {
				if left := append(d.bucket.keys(), d.bucket.unfinished()...); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			}
			d.env = mine
			here.store(d).fine()

			d.env = theirs
			check("list", d.run("list", d.url), func() {})
			check("verify", d.run("verify", "--data", d.url), func() {})
			here.empty()
			check("restore", here.restore(d), here.complete)
			here.whole()

			other := empty(t) // has another snapshot, and none of these
			other.family("b", 1, 0)
			before := d.bucket.keys()
			check("delete", other.store(d, "-d"), func() { d.sound(other) })
			for _, key := range before {
				if slices.Contains(needs[action], "delete") && !d.has(key) {
					t.Errorf("%s is gone", key)
				}
			}
		})
	}
}
