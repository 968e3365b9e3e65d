package s3

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// pathStyle reports whether the name of a bucket has to go into the path of a
// URL, since it cannot be put before the name of the host.
func pathStyle(endpoint, bucket string) bool {
	if !isLabel(bucket) {
		return true
	}
	if endpoint == "" {
		return false
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return true
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || !strings.Contains(host, ".")
}

// near reports whether an endpoint is on this machine.
func near(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return u.Hostname() == "localhost"
}

// isLabel reports whether a name can be one label of a host's name that a
// certificate for *.host covers: lower-case letters, digits and hyphens, without
// dots.
func isLabel(name string) bool {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

// unnamed reports whether an error says that a server has no name, or no
// certificate, for a bucket before its own name.
func unnamed(err error, bucket string) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound && strings.HasPrefix(dns.Name, bucket+".")
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return strings.HasPrefix(host.Host, bucket+".")
	}
	return false
}

// location is the same text for two buckets exactly when they are one: names of
// AWS's buckets are there only once, others are a server's own.
func location(endpoint, bucket string) string { return "s3:" + reach.Place(endpoint) + "/" + bucket }

// dotted reports whether a key has a component that programs on the way take for
// a direction.
func dotted(key string) bool {
	for c := range strings.SplitSeq(key, "/") {
		if c == "." || c == ".." {
			return true
		}
	}
	return false
}

// copySource is how a request names the object that is to be copied. Everything
// but what is plain everywhere is escaped: servers do not agree on '+'.
func copySource(bucket, key string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
	var out strings.Builder
	out.WriteString(bucket + "/")
	for i := range len(key) {
		if strings.IndexByte(plain, key[i]) >= 0 {
			out.WriteByte(key[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", key[i])
		}
	}
	return out.String()
}
