package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/buttersink/buttersink/internal/pace"
)

// NewTransport makes connections that are kept, over HTTP/1.1: parts that are
// sent side by side do better over several connections than over one. They stay
// below a limit together, and are given up after a time where none comes about.
func NewTransport(getenv func(string) string, limit *pace.Limiter, after time.Duration) (*http.Transport, error) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	const idle = 64
	dialer := &net.Dialer{
		Timeout: min(after, 30*time.Second),
		Control: func(_, _ string, c syscall.RawConn) error { return c.Control(boundUnsent) },
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return limit.Conn(conn), nil
		},
		Protocols:             &protocols,
		TLSHandshakeTimeout:   after,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          idle,
		MaxIdleConnsPerHost:   idle,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true,
		WriteBufferSize:       128 << 10,
		ReadBufferSize:        128 << 10,
	}
	if file := getenv("AWS_CA_BUNDLE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates of AWS_CA_BUNDLE: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s (AWS_CA_BUNDLE) has no certificates", file)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// Trusted is whom the profile says to trust (ca_bundle); nil for those whom the
// machine trusts.
func Trusted(client aws.HTTPClient) *tls.Config {
	own, ok := client.(*awshttp.BuildableClient)
	if !ok {
		return nil
	}
	c := own.GetTransport().TLSClientConfig
	if c == nil || c.RootCAs == nil {
		return nil
	}
	return &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}
}

// boundUnsent keeps the kernel from taking much more than it can send, so that
// what it takes says how fast the connection is. Errors leave it as it was.
// linux/include/uapi/linux/tcp.h, TCP_NOTSENT_LOWAT
func boundUnsent(fd uintptr) {
	const notsentLowat, bytes = 25, 512 << 10
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notsentLowat, bytes)
}
