package s3

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// asUser opens a bucket for a user who may do only some things.
func asUser(t *testing.T, server *s3test.Server, bucket string, actions ...string) *Bucket {
	t.Helper()
	access, secret := server.User(t, bucket, actions...)
	return open(t, server, Options{Bucket: bucket, Getenv: environment(s3test.EnvOf(server.Endpoint, access, secret))})
}

func TestWhoMayDoEverythingNeedsNoMore(t *testing.T) {
	server := s3test.Start(t)
	b := asUser(t, server, server.Bucket(t), s3test.Everything...)
	if err := everything(t.Context(), b, content(1, 1000)); err != nil {
		t.Error(err)
	}
}

// TestWhatIsNotAllowedIsNamed takes one permission away in turn.
func TestWhatIsNotAllowedIsNamed(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	server.Put(t, bucket, "there", []byte("there"))
	id := server.Begin(t, bucket, "begun", []byte("part"))
	ops := map[string]map[string]func(*Bucket) error{
		"s3:ListBucket": {"List": func(b *Bucket) error { return first(b.List(t.Context(), "")) }},
		"s3:ListBucketMultipartUploads": {"Uploads": func(b *Bucket) error {
			for _, err := range b.Uploads(t.Context(), "") {
				return err
			}
			return nil
		}},
		"s3:GetObject": {
			"Get":       func(b *Bucket) error { _, err := b.Get(t.Context(), "there", 0, 1); return err },
			"Stat":      func(b *Bucket) error { _, err := b.Stat(t.Context(), "there"); return err },
			"Copy from": func(b *Bucket) error { return b.Copy(t.Context(), "there", "copy") },
		},
		"s3:PutObject": {
			"Put":     func(b *Bucket) error { return b.Put(t.Context(), "new", nil, false) },
			"Begin":   func(b *Bucket) error { _, err := b.Begin(t.Context(), "new", archive.UploadOptions{}); return err },
			"Copy to": func(b *Bucket) error { return b.Copy(t.Context(), "there", "copy") },
			"Part": func(b *Bucket) error {
				u, err := b.Continue(t.Context(), archive.Unfinished{Key: "begun", ID: id})
				if err == nil {
					_, err = u.Put(t.Context(), 2, bodyOf([]byte("x")))
				}
				return err
			},
			"Complete": func(b *Bucket) error {
				u, err := b.Continue(t.Context(), archive.Unfinished{Key: "begun", ID: id})
				if err == nil {
					_, err = u.Complete(t.Context(), []archive.Part{{Number: 1, Size: 4, Tag: md5Of([]byte("part"))}})
				}
				return err
			},
		},
		"s3:DeleteObject": {"Delete": func(b *Bucket) error { return b.Delete(t.Context(), "there") }},
		"s3:AbortMultipartUpload": {"Abort": func(b *Bucket) error {
			u, err := b.Continue(t.Context(), archive.Unfinished{Key: "begun", ID: id})
			if err == nil {
				err = u.Abort(t.Context())
			}
			return err
		}},
		"s3:ListMultipartUploadParts": {"Continue": func(b *Bucket) error {
			_, err := b.Continue(t.Context(), archive.Unfinished{Key: "begun", ID: id})
			return err
		}},
	}
	for action, calls := range ops {
		b := asUser(t, server, bucket, s3test.Except(action)...)
		for name, call := range calls {
			err := call(b)
			denied, ok := errors.AsType[*archive.DeniedError](err)
			if !ok || denied.Action != action || denied.Bucket != "s3://"+bucket {
				t.Errorf("%s without %s: %v", name, action, err)
			}
			if contract.Temporary(err) {
				t.Errorf("%s without %s is temporary", name, action)
			}
		}
	}
	if got := server.Keys(t, bucket); !slices.Equal(got, []string{"there"}) {
		t.Errorf("there are %q", got)
	}
	if got := server.Unfinished(t, bucket); !slices.Equal(got, []string{"begun"}) {
		t.Errorf("unfinished is %q", got)
	}
}

func first(seq func(func(archive.Object, error) bool)) error {
	for _, err := range seq {
		return err
	}
	return nil
}

// calls are requests of all kinds, to be answered with the same error.
func calls(t *testing.T, b *Bucket) map[string]error {
	t.Helper()
	_, stat := b.Stat(t.Context(), "k")
	_, get := b.Get(t.Context(), "k", 0, 1)
	_, begin := b.Begin(t.Context(), "k", archive.UploadOptions{})
	return map[string]error{
		"List": first(b.List(t.Context(), "")), "Stat": stat, "Get": get, "Begin": begin,
		"Put": b.Put(t.Context(), "k", nil, false), "Delete": b.Delete(t.Context(), "k"),
		"Copy": b.Copy(t.Context(), "k", "l"),
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	storm := func(status int, code string) func(*testing.T) *Bucket {
		return func(t *testing.T) *Bucket {
			t.Helper()
			s := server.Storm(t)
			s.FailShare(1, status, code)
			return open(t, server, Options{Bucket: bucket, Endpoint: s.Endpoint})
		}
	}
	for name, c := range map[string]struct {
		open func(*testing.T) *Bucket
		want string
	}{
		"no bucket": {func(t *testing.T) *Bucket { return open(t, server, Options{Bucket: "no-such-bucket"}) }, "there is no bucket no-such-bucket"},
		"wrong secret": {func(t *testing.T) *Bucket {
			return open(t, server, Options{Bucket: bucket, Getenv: environment(s3test.EnvOf(server.Endpoint, server.Access, "not-the-secret"))})
		}, "the secret is not the right one"},
		"unknown key": {func(t *testing.T) *Bucket {
			return open(t, server, Options{Bucket: bucket, Getenv: environment(s3test.EnvOf(server.Endpoint, "AKIDUNKNOWN", server.Secret))})
		}, "does not know the access key"},
		"expired": {storm(400, "ExpiredToken"), "the credentials have expired"},
		"clock":   {storm(403, "RequestTimeTooSkewed"), "set the clock"},
		"region":  {storm(301, "PermanentRedirect"), "another region than us-east-1"},
		"nobody home": {func(t *testing.T) *Bucket {
			return open(t, server, Options{Bucket: bucket, Endpoint: "http://127.0.0.1:1"})
		}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.open(t)
			for call, err := range calls(t, b) {
				if name == "clock" && (call == "Stat" || call == "Copy") || name == "region" && (call == "Stat" || call == "Copy") {
					continue // a storm says nothing to HEAD, and nothing else after it
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v", call, err)
				} else if strings.Contains(err.Error(), server.Secret) || strings.Contains(err.Error(), "not-the-secret") {
					t.Errorf("%s tells the secret: %v", call, err)
				}
				if got := contract.Temporary(err); got != (name == "nobody home") {
					t.Errorf("%s: temporary %v: %v", call, got, err)
				}
			}
		})
	}
}

func TestCredentialsThatExpireAreLookedUpAgain(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	dir := t.TempDir()
	profile := filepath.Join(dir, "credentials")
	write := func(access, secret string) {
		text := "[default]\naws_access_key_id = " + access + "\naws_secret_access_key = " + secret + "\n"
		if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bucket := server.Bucket(t)
	one, oneSecret := server.User(t, bucket, s3test.Everything...)
	write(one, oneSecret)
	b := open(t, server, Options{Bucket: bucket, Getenv: environment(append([]string{
		"AWS_ACCESS_KEY_ID=", "AWS_SHARED_CREDENTIALS_FILE=" + profile,
	}, server.EnvAt(storm.Endpoint)...))})
	u, _ := begin(t, b, "k", []byte("part"))

	two, twoSecret := server.User(t, bucket, s3test.Everything...)
	write(two, twoSecret)
	storm.Forget()
	storm.Fail(1, 400, "ExpiredToken")
	if _, err := u.Put(t.Context(), 2, bodyOf([]byte("part"))); err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, r := range storm.Requests() {
		_, after, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		user, _, _ := strings.Cut(after, "/")
		users = append(users, user)
	}
	if !slices.Equal(users, []string{one, two}) {
		t.Errorf("the requests were those of %q, want %q and %q", users, one, two)
	}
}

func TestCredentialsOfOldFiles(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	home := t.TempDir()
	boto := filepath.Join(home, ".boto")
	env := func(more ...string) func(string) string {
		return environment(append(more, "HOME="+home, "AWS_ENDPOINT_URL="+server.Endpoint, "AWS_EC2_METADATA_DISABLED=true",
			"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "aws"), "AWS_CONFIG_FILE=/dev/null"))
	}
	_, err := Open(t.Context(), Options{Bucket: bucket, Getenv: env()})
	if err == nil || !strings.Contains(err.Error(), "~/.boto") || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") || !strings.HasPrefix(err.Error(), "no credentials") {
		t.Fatalf("without credentials: %v", err)
	}
	text := "# old\n[Boto]\naws_access_key_id = no\n[Credentials]\naws_access_key_id = " + server.Access + "\naws_secret_access_key: " + server.Secret + "\n[s3]\nuse-sigv4 = True\n"
	if err := os.WriteFile(boto, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, server, Options{Bucket: bucket, Getenv: env()})
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Errorf("with ~/.boto: %v", err)
	}
	b = open(t, server, Options{Bucket: bucket, Getenv: env("BOTO_CONFIG=" + boto)})
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Errorf("with BOTO_CONFIG: %v", err)
	}
	// It counts only where there is nothing else.
	if err := os.WriteFile(filepath.Join(home, "aws"), []byte("[default]\naws_access_key_id=other\naws_secret_access_key=other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, server, Options{Bucket: bucket, Getenv: env()})
	if err := b.Put(t.Context(), "k", nil, false); err == nil {
		t.Error("~/.boto counts although there is a profile")
	}
	if err := os.Chmod(boto, 0); err != nil {
		t.Fatal(err)
	}
}

func TestParseBoto(t *testing.T) {
	for text, want := range map[string][2]string{
		"": {},
		"[Credentials]\naws_access_key_id=a\naws_secret_access_key=b=c/d+e\n":             {"a", "b=c/d+e"},
		"[Credentials]\r\nAWS_ACCESS_KEY_ID : a\r\naws_secret_access_key : b:c\r\n":       {"a", "b:c"},
		"[Other]\naws_access_key_id=a\naws_secret_access_key=b\n":                         {},
		"[Credentials]\n#aws_access_key_id=a\n;aws_secret_access_key=b\n=\n:\n[\n[x\ny\n": {},
	} {
		access, secret := parseBoto(text)
		if got := [2]string{access, secret}; got != want {
			t.Errorf("parseBoto(%q) = %q, want %q", text, got, want)
		}
	}
}
