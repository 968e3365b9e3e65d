package glaciertest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The examples of docs.aws.amazon.com/amazonglacier/latest/dev/amazon-glacier-signing-requests.html
const (
	exampleAccess = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func example(method, path, date, signature string, header map[string]string) (*http.Request, time.Time) {
	r := httptest.NewRequest(method, path, http.NoBody)
	r.Host = "glacier.us-east-1.amazonaws.com"
	names := "host;x-amz-date;x-amz-glacier-version"
	if header["X-Amz-Content-Sha256"] != "" {
		names = "host;x-amz-content-sha256;x-amz-date;x-amz-glacier-version"
	}
	r.Header.Set("X-Amz-Date", date)
	r.Header.Set("X-Amz-Glacier-Version", version)
	for key, value := range header {
		r.Header.Set(key, value)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleAccess+"/"+date[:8]+"/us-east-1/glacier/aws4_request, "+
		"SignedHeaders="+names+", Signature="+signature)
	at, err := time.Parse(dateFormat, date)
	if err != nil {
		panic(err)
	}
	return r, at
}

func TestSignaturesOfTheDocumentation(t *testing.T) {
	s := &Server{Access: exampleAccess, Secret: exampleSecret}
	nothing := sha256.Sum256(nil)
	r, at := example("PUT", "/-/vaults/examplevault", "20120525T002453Z",
		"3ce5b2f2fffac9262b4da9256f8d086b4aaf42eba5f111c21681a65a127b7c2a", nil)
	if err := s.verify(r, hex.EncodeToString(nothing[:]), at); err != nil {
		t.Errorf("the first example: %v", err)
	}
	const payload = "726e392cb4d09924dbad1cc0ba3b00c3643d03d14cb4b823e2f041cff612a628"
	text := sha256.Sum256([]byte("Welcome to Amazon Glacier."))
	if got := hex.EncodeToString(text[:]); got != payload {
		t.Fatalf("the payload's hash is %s", got)
	}
	// The page prints the path without its end, but the signature is of this one.
	r, at = example("POST", "/-/vaults/examplevault/archives", "20120507T000000Z",
		"b092397439375d59119072764a1e9a144677c43d9906fd98a5742c57a2855de6", map[string]string{"X-Amz-Content-Sha256": payload})
	if err := s.verify(r, payload, at); err != nil {
		t.Errorf("the second example: %v", err)
	}
}

func TestSignaturesThatAreRefused(t *testing.T) {
	s := &Server{Access: exampleAccess, Secret: exampleSecret}
	nothing := sha256.Sum256(nil)
	for what, tt := range map[string]struct {
		change func(*http.Request)
		later  time.Duration
		want   string
	}{
		"as it is":        {want: ""},
		"none":            {change: func(r *http.Request) { r.Header.Del("Authorization") }, want: "MissingAuthenticationTokenException"},
		"old":             {change: func(r *http.Request) { r.Header.Set("Authorization", "AWS x:y") }, want: "InvalidSignatureException"},
		"late":            {later: 6 * time.Minute, want: "InvalidSignatureException"},
		"early":           {later: -6 * time.Minute, want: "InvalidSignatureException"},
		"another path":    {change: func(r *http.Request) { r.URL.Path = "/-/vaults/other" }, want: "InvalidSignatureException"},
		"another query":   {change: func(r *http.Request) { r.URL.RawQuery = "limit=1" }, want: "InvalidSignatureException"},
		"another host":    {change: func(r *http.Request) { r.Host = "127.0.0.1" }, want: "InvalidSignatureException"},
		"a header more":   {change: func(r *http.Request) { r.Header.Set("X-Amz-Part-Size", "1") }, want: "InvalidSignatureException"},
		"another version": {change: func(r *http.Request) { r.Header.Set("X-Amz-Glacier-Version", "1") }, want: "InvalidSignatureException"},
		"another date":    {change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20120525T002454Z") }, want: "InvalidSignatureException"},
		"no date":         {change: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, want: "InvalidSignatureException"},
		"another key":     {change: edit(exampleAccess, "AKIAIOSFODNN7EXAMPLF"), want: "UnrecognizedClientException"},
		"another region":  {change: edit("us-east-1", "us-west-2"), want: "InvalidSignatureException"},
		"another service": {change: edit("/glacier/", "/s3/"), want: "InvalidSignatureException"},
		"no host":         {change: edit("host;", ""), want: "InvalidSignatureException"},
		"another":         {change: edit("Signature=3", "Signature=4"), want: "InvalidSignatureException"},
	} {
		r, at := example("PUT", "/-/vaults/examplevault", "20120525T002453Z",
			"3ce5b2f2fffac9262b4da9256f8d086b4aaf42eba5f111c21681a65a127b7c2a", nil)
		if tt.change != nil {
			tt.change(r)
		}
		got := ""
		if err := s.verify(r, hex.EncodeToString(nothing[:]), at.Add(tt.later)); err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != tt.want {
			t.Errorf("%s: %q, not %q", what, got, tt.want)
		}
	}
}

func edit(from, to string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
	}
}
