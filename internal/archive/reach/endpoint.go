package reach

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// ParseEndpoint returns the address of a server as a URL without a slash at its
// end. A name alone means https. What the service is called is for people.
func ParseEndpoint(service, text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("the %s endpoint is not a URL", service) // which may have a password in it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the %s endpoint begins with %s:// and not with https:// or http://", service, u.Scheme)
	case u.Host == "":
		return "", fmt.Errorf("the %s endpoint has no host name", service)
	case u.User != nil:
		return "", fmt.Errorf("the %s endpoint has a user name in it: credentials belong into the environment or a profile", service)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the %s endpoint %s://%s has something behind its path", service, u.Scheme, u.Host)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// Endpoint is the address of the server that was given, or that of the
// environment; empty if there is none in either.
func (s Service) Endpoint(given string) (string, error) {
	if given == "" && !strings.EqualFold(s.Getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), "true") {
		given = firstOf(s.Getenv(s.Variable), s.Getenv("AWS_ENDPOINT_URL"))
	}
	if given == "" {
		return "", nil
	}
	return ParseEndpoint(s.Name, given)
}

// IsAWS reports whether an endpoint is one of Amazon's own; an empty one is.
func IsAWS(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	host := Host(endpoint)
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

// Host is the name of the host of an endpoint.
func Host(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// Provider is who sends the bill: "aws", or the host of another one.
func Provider(endpoint string) string {
	if IsAWS(endpoint) {
		return "aws"
	}
	return Host(endpoint)
}

// Place is a server as a part of a location: the same text exactly when it is the
// same one.
func Place(endpoint string) string {
	if IsAWS(endpoint) {
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
