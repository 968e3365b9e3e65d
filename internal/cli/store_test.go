package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/place"
)

// TestForS3: what stands in the URL is more precise than a flag, and what cannot
// be is refused before anything is asked of a server.
func TestForS3(t *testing.T) {
	flags := opening{s3: s3Flags{endpoint: "https://flag"}, keep: keepFlags{class: "STANDARD_IA", sse: "AES256"}}
	for _, tt := range []struct {
		arg   string
		o     opening
		want  s3.Options
		wrong string
	}{
		{arg: "s3://b/", want: s3.Options{Bucket: "b"}},
		{arg: "s3://b/", o: flags, want: s3.Options{Bucket: "b", Endpoint: "https://flag", Class: "STANDARD_IA", SSE: "AES256"}},
		{
			arg: "s3://b/?endpoint=http://url&storage-class=GLACIER&sse=none&region=r&path-style=1", o: flags,
			want: s3.Options{Bucket: "b", Endpoint: "http://url", Class: "GLACIER", SSE: "none", Region: "r", PathStyle: true},
		},
		{arg: "s3://b/?kms-key=k", want: s3.Options{Bucket: "b", SSE: "aws:kms", KMSKey: "k"}},
		{arg: "s3://b/?path-style=false", o: opening{s3: s3Flags{pathStyle: true}}, want: s3.Options{Bucket: "b"}},
		{arg: "s3://b/?path-style=perhaps", wrong: "want true or false"},
		{arg: "s3://b/?storage-class=", wrong: "storage-class= in the URL is empty"},
		{arg: "s3://b/?endpoint=host:9000", want: s3.Options{Bucket: "b", Endpoint: "host:9000"}},
		{arg: "s3://b/?sse=rot13", wrong: `encryption "rot13" at the server is not known`},
		{arg: "s3://b/?sse=none&kms-key=k", wrong: "not with none"},
	} {
		p, err := place.Parse(tt.arg, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tt.o.forS3(p)
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "pw") {
				t.Errorf("%q: %v, want %q", tt.arg, err, tt.wrong)
			}
			continue
		}
		if err != nil || got.Getenv != nil || got.Log != nil {
			t.Errorf("%q: %v", tt.arg, err)
		}
		type plain struct {
			Bucket, Endpoint, Region, Class, SSE, KMSKey string
			PathStyle                                    bool
		}
		of := func(o s3.Options) plain {
			return plain{o.Bucket, o.Endpoint, o.Region, o.Class, o.SSE, o.KMSKey, o.PathStyle}
		}
		if diff := cmp.Diff(of(tt.want), of(got)); diff != "" {
			t.Errorf("%q:\n%s", tt.arg, diff)
		}
	}
}
