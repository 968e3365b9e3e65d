package glacier

import (
	"errors"
	"fmt"
	"net"
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
		return "", errors.New("the Glacier endpoint is not a URL") // which may have a password in it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the Glacier endpoint begins with %s:// and not with https:// or http://", u.Scheme)
	case u.Host == "":
		return "", errors.New("the Glacier endpoint has no host name")
	case u.User != nil:
		return "", errors.New("the Glacier endpoint has a user name in it: credentials belong into the environment or a profile")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the Glacier endpoint %s://%s has something behind its path", u.Scheme, u.Host)
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

// provider is who sends the bill.
func provider(endpoint string) string {
	if isAWS(endpoint) {
		return "aws"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	return strings.ToLower(u.Hostname())
}

// place is a server as a part of a location: the same text exactly when it is the
// same one.
func place(endpoint string) string {
	if isAWS(endpoint) {
		return "aws"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port) + u.EscapedPath()
}
