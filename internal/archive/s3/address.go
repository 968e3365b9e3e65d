package s3

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// parseEndpoint returns the address of a server as a URL without a slash at its
// end. A name alone means https.
func parseEndpoint(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", errors.New("the S3 endpoint is not a URL") // which may have a password in it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the S3 endpoint begins with %s:// and not with https:// or http://", u.Scheme)
	case u.Host == "":
		return "", errors.New("the S3 endpoint has no host name")
	case u.User != nil:
		return "", errors.New("the S3 endpoint has a user name in it: credentials belong into the environment or a profile")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the S3 endpoint %s://%s has something behind its path", u.Scheme, u.Host)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// isAWS reports whether an endpoint is one of Amazon's own.
func isAWS(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

// hostOf is the name of the host of an endpoint.
func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

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
func location(endpoint, bucket string) string {
	if isAWS(endpoint) {
		return "s3:aws/" + bucket
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "s3:" + endpoint + "/" + bucket
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return "s3:" + net.JoinHostPort(strings.ToLower(u.Hostname()), port) + u.EscapedPath() + "/" + bucket
}

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
