package glaciertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	dateFormat = "20060102T150405Z"
	// skew is how far the time of a signature may be from ours.
	skew = 5 * time.Minute
)

// verify checks the signature of a request, with the SHA-256 of its body in
// hexadecimal; now is the real time
// (docs.aws.amazon.com/amazonglacier/latest/dev/amazon-glacier-signing-requests.html).
func (s *Server) verify(r *http.Request, payload string, now time.Time) error {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		return fail("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	rest, ok := strings.CutPrefix(auth, algorithm+" ")
	if !ok {
		return fail("InvalidSignatureException", "The signature is not of version 4.")
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[key] = value
	}
	stamp := r.Header.Get("X-Amz-Date")
	if stamp == "" {
		stamp = r.Header.Get("Date")
	}
	at, err := time.Parse(dateFormat, stamp)
	if err != nil {
		return fail("InvalidSignatureException", "The date of the signature cannot be read.")
	}
	if d := now.Sub(at); d > skew || d < -skew {
		return fail("InvalidSignatureException", "Signature expired: %s is not now.", stamp)
	}
	access, scope, _ := strings.Cut(fields["Credential"], "/")
	if access != s.Access {
		return fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if want := stamp[:8] + "/" + Region + "/glacier/aws4_request"; scope != want {
		return fail("InvalidSignatureException", "Credential should be scoped to %s, not %s.", want, scope)
	}
	names := strings.Split(fields["SignedHeaders"], ";")
	if why := unsigned(r, names); why != "" {
		return fail("InvalidSignatureException", "%s", why)
	}
	digest := sha256.Sum256([]byte(canonical(r, names, payload)))
	text := algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(digest[:])
	want := hex.EncodeToString(mac(signingKey(s.Secret, stamp[:8], Region), text))
	if !hmac.Equal([]byte(want), []byte(fields["Signature"])) {
		return fail("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return nil
}

// unsigned names a header that has to be signed and is not.
func unsigned(r *http.Request, names []string) string {
	if !slices.Contains(names, "host") {
		return "The host header is not signed."
	}
	for h := range r.Header {
		h = strings.ToLower(h)
		if strings.HasPrefix(h, "x-amz-") && !slices.Contains(names, h) {
			return "The header " + h + " is not signed."
		}
	}
	return ""
}

func signingKey(secret, date, region string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, "glacier", "aws4_request"} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonical is the form of a request that is signed
// (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
func canonical(r *http.Request, names []string, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n")
	// The path is encoded once more than it was for sending.
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	for i, segment := range strings.Split(path, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(encode(segment))
	}
	b.WriteByte('\n')
	b.WriteString(canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range names {
		var values []string
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{fmt.Sprint(r.ContentLength)}
		default:
			values = r.Header.Values(name)
		}
		for i, v := range values {
			values[i] = strings.Join(strings.Fields(v), " ")
		}
		b.WriteString(name + ":" + strings.Join(values, ",") + "\n")
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + payload)
	return b.String()
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for key, values := range q {
		for _, v := range values {
			pairs = append(pairs, encode(key)+"="+encode(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// encode percent-encodes all but what RFC 3986 calls unreserved.
func encode(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
