package glacier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/store"
)

// TestStorm does everything while much goes wrong.
func TestStorm(t *testing.T) {
	server := glaciertest.Start(t)
	b := openBucket(t, server, "v", filepath.Join(t.TempDir(), "ledger.db"))
	server.FailShare(0.1, 500, "ServiceUnavailableException")
	server.FailShare(0.1, 400, "ThrottlingException")
	server.FailShare(0.05, 408, "RequestTimeoutException", "UploadArchive", "UploadMultipartPart")
	server.LoseShare(0.1)
	want := map[string][]byte{}
	var all []string
	for i := range 6 {
		key := fmt.Sprint("stream-", i)
		want[key] = big(byte(i), 1<<20+i*500_000)
		upload(t, b, key, want[key])
		all = append(all, key)
		if err := b.Put(t.Context(), fmt.Sprint("note-", i), []byte(key), true); err != nil {
			t.Fatal(err)
		}
	}
	thaw(t, b, store.ThawOptions{Ask: true, Tier: store.Expedited}, all...)
	server.Advance(glaciertest.ExpeditedTime)
	for key, data := range want {
		holds(t, b, key, data)
	}
	server.Cut(1, 1000, "GetJobOutput")
	if got, err := content(t, b, "stream-1", 0, 1<<20); !store.Temporary(err) || len(got) > 1000 {
		t.Errorf("a connection that was cut gave %d bytes and %v", len(got), err)
	}
	for _, key := range all {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	lists(t, b, "note-0", "note-1", "note-2", "note-3", "note-4", "note-5")
}

// TestErrors holds that errors say what to do, and nothing secret.
func TestErrors(t *testing.T) {
	server := glaciertest.Start(t)
	server.Make(t, "v")
	v := openVault(t, server, "v")
	ask := func(v *Vault) error {
		_, err := v.Retrievals(t.Context(), []string{server.Put(t, "v", "x", []byte("x"))}, store.Expedited, true)
		return err
	}
	with := func(change func(*Options)) *Vault {
		t.Helper()
		o := Options{Vault: "v", Getenv: environment(server.Env())}
		change(&o)
		v, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, c := range map[string]struct {
		do        func() error
		says      string
		temporary bool
		is        error
	}{
		"policy":    {func() error { server.Fail(1, 400, "PolicyEnforcedException", "InitiateJob"); return ask(v) }, "data retrieval policy", false, nil},
		"no room":   {func() error { server.Fail(1, 503, "InsufficientCapacityException", "InitiateJob"); return ask(v) }, "take the tier standard", false, nil},
		"throttled": {func() error { server.Throttle(attempts, "InitiateJob"); return ask(v) }, "ThrottlingException", true, nil},
		"broken":    {func() error { server.Fail(attempts, 500, "ServiceUnavailableException", "InitiateJob"); return ask(v) }, "ServiceUnavailable", true, nil},
		"denied":    {func() error { server.Fail(1, 403, "AccessDeniedException", "InitiateJob"); return ask(v) }, "does not allow glacier:InitiateJob", false, fs.ErrPermission},
		"no archive": {func() error {
			_, err := v.Retrievals(t.Context(), []string{strings.Repeat("a", 138)}, store.Bulk, true)
			return err
		}, "no such archive", false, errNoArchive},
		"no vault": {func() error {
			_, err := with(func(o *Options) { o.Vault = "other" }).Put(t.Context(), "d", []byte("x"))
			return err
		}, "buttersink init glacier://other", false, errNoVault},
		"wrong account": {func() error {
			_, err := with(func(o *Options) { o.Account = "999900001111" }).Put(t.Context(), "d", []byte("x"))
			return err
		}, "does not allow", false, fs.ErrPermission},
		"wrong secret": {func() error {
			_, err := with(func(o *Options) {
				o.Getenv = environment(append([]string{"AWS_SECRET_ACCESS_KEY=wrong"}, server.Env()...))
			}).Put(t.Context(), "d", []byte("x"))
			return err
		}, "the secret is not the right one", false, nil},
		"no server": {func() error {
			v := with(func(o *Options) { o.Endpoint = "http://127.0.0.1:1" })
			v.retries = newRetries(2, time.Millisecond)
			_, err := v.Put(t.Context(), "d", []byte("x"))
			return err
		}, "connection refused", true, nil},
	} {
		err := c.do()
		if err == nil || !strings.Contains(err.Error(), c.says) || store.Temporary(err) != c.temporary || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v (temporary: %v)", name, err, store.Temporary(err))
		}
		if err != nil && strings.Contains(err.Error(), server.Secret) {
			t.Errorf("%s: the secret is in the error", name)
		}
	}
	if n := len(server.Jobs(t, "v")); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// TestKeyFile takes credentials from btrsend's file, in both forms.
func TestKeyFile(t *testing.T) {
	server := glaciertest.Start(t)
	server.Make(t, "v")
	env := environment(append([]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, server.Env()...))
	file := filepath.Join(t.TempDir(), ".aws-keys")
	var log bytes.Buffer
	open := func() (*Vault, error) {
		return Open(t.Context(), Options{Vault: "v", Getenv: env, KeyFile: file, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "~/.aws-keys") {
		t.Errorf("without a file: %v", err)
	}
	for _, text := range []string{
		"AWSAccessKeyId=" + server.Access + "\nAWSSecretKey=" + server.Secret + "\n",
		server.Access + "\n" + server.Secret + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Put(t.Context(), "d", []byte("x")); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(file, []byte("only one line "+server.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := open()
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("with one line: %v", err)
	}
	if strings.Contains(log.String()+fmt.Sprint(err), server.Secret) {
		t.Error("the secret is in an error or in the log")
	}
}

// TestDamagedDownload changes a byte on the way.
func TestDamagedDownload(t *testing.T) {
	data := big(1, 2<<20)
	b := &body{
		ReadCloser: io.NopCloser(bytes.NewReader(append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1))),
		left:       int64(len(data)), hash: &TreeHasher{}, want: treeOf(data), ctx: t.Context(),
	}
	if _, err := io.ReadAll(b); !errors.Is(err, errDamaged) || !store.Temporary(err) {
		t.Errorf("reading: %v, want errDamaged, temporary", err)
	}
}

// TestStalled cuts a connection over which nothing moves.
func TestStalled(t *testing.T) {
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(hang)
	v, err := Open(t.Context(), Options{
		Vault: "v", Endpoint: slow.URL, StallAfter: 50 * time.Millisecond,
		Getenv: environment([]string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	v.retries = newRetries(2, time.Millisecond)
	if _, err := v.Put(t.Context(), "d", []byte("x")); !errors.Is(err, reach.ErrStalled) || !store.Temporary(err) {
		t.Errorf("storing: %v, want reach.ErrStalled, temporary", err)
	}
}

// TestNotGlacier meets a server that says yes to everything.
func TestNotGlacier(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>hello</html>") // the client is gone, and notices itself
	}))
	defer page.Close()
	v, err := Open(t.Context(), Options{Vault: "v", Endpoint: page.URL, Getenv: environment([]string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"})})
	if err != nil {
		t.Fatal(err)
	}
	v.retries = newRetries(2, time.Millisecond)
	v.attempts, v.longest = 2, time.Millisecond
	if _, err := v.Put(t.Context(), "d", []byte("x")); !errors.Is(err, errNotGlacier) {
		t.Errorf("storing: %v", err)
	}
	if _, err := v.Retrievals(t.Context(), []string{"a"}, store.Bulk, true); err == nil {
		t.Error("a web page takes requests for retrievals")
	}
	if made, err := v.Make(t.Context()); err == nil || made {
		t.Errorf("a web page is a vault: %v, %v", made, err)
	}
}

// TestDescriptionsRefused holds what a vault cannot have.
func TestDescriptionsRefused(t *testing.T) {
	server := glaciertest.Start(t)
	server.Make(t, "v")
	v := openVault(t, server, "v")
	for _, text := range []string{"ü", "a\nb", strings.Repeat("x", 1025)} {
		if _, err := v.Put(t.Context(), text, []byte("x")); err == nil {
			t.Errorf("%.10q is taken", text)
		}
	}
	if _, err := v.Begin(t.Context(), "d", 3<<20); err == nil {
		t.Error("parts of 3 MiB are taken")
	}
	u, err := v.Begin(t.Context(), "d", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bodyOf([]byte("x"))
	wrong.CRC32C++
	for what, c := range map[string]struct {
		at   int64
		body archive.Body
	}{
		"an odd offset": {5, bodyOf([]byte("x"))}, "a long part": {0, bodyOf(make([]byte, 1<<20+1))}, "a wrong checksum": {0, wrong}, "nothing": {0, bodyOf(nil)},
	} {
		if _, err := u.Put(t.Context(), c.at, c.body); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
