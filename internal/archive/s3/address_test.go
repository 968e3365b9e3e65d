package s3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/s3test"
)

// TestRegions has buckets that are not where they were looked for.
func TestRegions(t *testing.T) {
	server := s3test.Start(t)
	t.Run("the server names it", func(t *testing.T) {
		b := open(t, server, Options{Region: "eu-central-1"})
		if err := everything(t.Context(), b, content(1, 100)); err != nil {
			t.Error(err)
		}
	})
	t.Run("to many at a time", func(t *testing.T) {
		b := open(t, server, Options{Region: "eu-central-1"})
		errs := make([]error, 16)
		var active sync.WaitGroup
		for i := range errs {
			active.Go(func() { errs[i] = b.Put(t.Context(), "k", nil, false) })
		}
		active.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
	t.Run("AWS redirects", func(t *testing.T) {
		storm := server.Storm(t)
		b := open(t, server, Options{Endpoint: storm.Endpoint})
		for _, op := range []string{"PutObject", "HeadObject", "UploadPart"} {
			storm.Redirect(1, "ap-southeast-2", op) // which is wrong again: the server corrects it
			err := everything(t.Context(), b, content(1, 100))
			if op != "HeadObject" && (err == nil || !strings.Contains(err.Error(), s3test.Region)) {
				t.Errorf("%s, redirected from one region to another and back: %v", op, err)
			}
			storm.Calm()
			if err := everything(t.Context(), b, content(1, 100)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		}
	})
}

// names is a server that notes under which name it was asked for what.
type names struct {
	mu  sync.Mutex
	all []string
}

func (n *names) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"tag"`)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, r.Method+" "+r.Host+r.URL.Path)
	_, _ = io.Copy(io.Discard, r.Body)
}

// TestNames shows under which names servers are asked.
func TestNames(t *testing.T) {
	const bucket, dotted = "backups", "my.backups"
	for name, c := range map[string]struct {
		o       Options
		lookups bool // the name of the bucket before that of the server exists
		key     string
		want    string
	}{
		"AWS":             {Options{Bucket: bucket, Region: "eu-central-1"}, true, "k", "PUT backups.s3.eu-central-1.amazonaws.com/k"},
		"AWS, by path":    {Options{Bucket: bucket, Region: "eu-central-1", PathStyle: true}, true, "k", "PUT s3.eu-central-1.amazonaws.com/backups/k"},
		"AWS, with dots":  {Options{Bucket: dotted, Region: "eu-central-1"}, true, "k", "PUT s3.eu-central-1.amazonaws.com/my.backups/k"},
		"AWS, old key":    {Options{Bucket: bucket, Region: "eu-central-1"}, true, "/k", "PUT backups.s3.eu-central-1.amazonaws.com//k"},
		"own":             {Options{Bucket: bucket, Endpoint: "http://minio.example.org"}, true, "k", "PUT backups.minio.example.org/k"},
		"own, https":      {Options{Bucket: bucket, Endpoint: "minio.example.org"}, true, "k", "PUT backups.minio.example.org/k"},
		"own, one name":   {Options{Bucket: bucket, Endpoint: "http://minio.example.org"}, false, "k", "PUT minio.example.org/backups/k"},
		"own, below path": {Options{Bucket: bucket, Endpoint: "http://minio.example.org/s3", PathStyle: true}, true, "k", "PUT minio.example.org/s3/backups/k"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := &names{}
			server := httptest.NewServer(asked)
			defer server.Close()
			c.o.Getenv = environment([]string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s"})
			b, err := Open(t.Context(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, _, _ := net.SplitHostPort(addr)
				if !c.lookups && strings.HasPrefix(host, c.o.Bucket+".") {
					return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Name: host, IsNotFound: true}}
				}
				return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
			}
			b.transport.DialContext, b.transport.DialTLSContext = dial, dial // TLS is not what this is about
			if err := b.Put(t.Context(), c.key, []byte("x"), false); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(asked.all, []string{c.want}) {
				t.Errorf("asked was %q, want %q", asked.all, c.want)
			}
		})
	}
}

// TestPartsAreNotCopied bounds what storing a part takes beside the part.
func TestPartsAreNotCopied(t *testing.T) {
	server := s3test.Start(t)
	b := open(t, server, Options{})
	data := content(1, 32<<20)
	u, _ := begin(t, b, "k", []byte("first")) // so that there is a connection
	body := bodyOf(data)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := u.Put(t.Context(), 2, body); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
		t.Errorf("a part of %d bytes took %d more", len(data), took)
	}
}

func TestNear(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"http://127.0.0.1:7070": true, "http://[::1]:7070": true, "http://localhost": true, "http://[::ffff:127.0.0.1]": true,
		"": false, "http://10.0.0.1:9000": false, "http://localhost.example.org": false, "http://minio": false, "http://0.0.0.0:1": false,
	} {
		if near(endpoint) != want {
			t.Errorf("%q is near: %v", endpoint, !want)
		}
	}
}
