package s3

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

func TestClasses(t *testing.T) {
	for class, want := range map[string]archive.Object{
		"":                    {},
		"STANDARD":            {},
		"REDUCED_REDUNDANCY":  {Class: "REDUCED_REDUNDANCY"},
		"STANDARD_IA":         {Class: "STANDARD_IA", Fixed: true},
		"ONEZONE_IA":          {Class: "ONEZONE_IA", Fixed: true},
		"INTELLIGENT_TIERING": {Class: "INTELLIGENT_TIERING", Fixed: true},
		"GLACIER_IR":          {Class: "GLACIER_IR", Fixed: true},
		"GLACIER":             {Class: "GLACIER", Cold: true, Fixed: true},
		"DEEP_ARCHIVE":        {Class: "DEEP_ARCHIVE", Cold: true, Fixed: true},
		"SOMEBODY_ELSES":      {Class: "SOMEBODY_ELSES"},
	} {
		want.Key, want.Size = "k", 1
		got := object("k", 1, nil, nil, class)
		got.Modified = want.Modified
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", class, diff)
		}
	}
}

// TestClassesThatThereAre: a class that is not there is told before anything is
// stored.
func TestClassesThatThereAre(t *testing.T) {
	const other = "https://s3.example.org"
	for _, c := range []struct{ class, endpoint, want string }{
		{"", "", ""},
		{"STANDARD", "", ""},
		{"GLACIER_IR", "", ""},
		{"DEEP_ARCHIVE", "https://s3.eu-central-1.amazonaws.com", ""},
		{"DEEP_ARCHIVE", other, ""},
		{"NEARLINE", other, ""}, // of its own
		{"NEARLINE", "", `"NEARLINE" is not known: there are STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, GLACIER, DEEP_ARCHIVE`},
		{"deep_archive", "", "DEEP_ARCHIVE is meant"},
		{"Glacier-IR", other, "GLACIER_IR is meant"},
		{"GLACIER ", other, "cannot be one"},
		{"GLACIER\r\nX-Amz-Acl: public", other, "cannot be one"},
		{"SNOW", "", "is not known"},
	} {
		err := checkClass(c.class, c.endpoint)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q at %q: %v", c.class, c.endpoint, err)
		}
	}
	_, err := Open(t.Context(), Options{Bucket: "b", Class: "glacier", Getenv: environment(s3test.EnvOf("http://127.0.0.1:1", "a", "s"))})
	if err == nil || !strings.Contains(err.Error(), "GLACIER") {
		t.Errorf("opening: %v", err)
	}
}

// TestClassesThatTheServerHasNot: what a server says to a class that it does not
// know names the class.
func TestClassesThatTheServerHasNot(t *testing.T) {
	b := replies(t, Options{Class: "NEARLINE"}, func(w http.ResponseWriter, r *http.Request) { fail(w, r, "400 InvalidStorageClass") })
	_, err := b.Begin(t.Context(), "k", archive.UploadOptions{})
	if err == nil || !strings.Contains(err.Error(), "NEARLINE") {
		t.Errorf("the error is %v", err)
	}
}

// TestSmallUploadsStayHot: what is known to be small is stored in the usual place, and
// carrying on an upload does not change where it goes.
func TestSmallUploadsStayHot(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	b := open(t, server, Options{Endpoint: storm.Endpoint, Class: "DEEP_ARCHIVE"})
	for size, want := range map[int64]string{0: "DEEP_ARCHIVE", 1: "", hot - 1: "", hot: "DEEP_ARCHIVE", 10 << 20: "DEEP_ARCHIVE"} {
		storm.Forget()
		u, err := b.Begin(t.Context(), "k", archive.UploadOptions{Size: size})
		if err != nil {
			t.Fatal(err)
		}
		if got := headers(storm, "X-Amz-Storage-Class", "CreateMultipartUpload")["CreateMultipartUpload k"]; got != want {
			t.Errorf("%d bytes are put into %q, want %q", size, got, want)
		}
		o, err := u.Complete(t.Context(), put(t, u, []byte("content")))
		if err != nil {
			t.Fatal(err)
		}
		if o.Class != want || o.Cold != (want != "") || o.Fixed != (want != "") {
			t.Errorf("%d bytes have become %+v", size, o)
		}
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	storm.Forget()
	if err := b.Put(t.Context(), "k", make([]byte, 2*hot), false); err != nil {
		t.Fatal(err)
	}
	if got := headers(storm, "X-Amz-Storage-Class", "PutObject")["PutObject k"]; got != "" {
		t.Errorf("what is put is put into %q", got)
	}
}

func TestTariff(t *testing.T) {
	env := func(endpoint, region string) func(string) string {
		return environment(append([]string{"AWS_REGION=" + region}, s3test.EnvOf(endpoint, "a", "s")...))
	}
	for name, c := range map[string]struct {
		o    Options
		want contract.Tariff
	}{
		"AWS":             {Options{Getenv: env("", "eu-central-1"), Class: "GLACIER"}, contract.Tariff{Provider: "aws", Region: "eu-central-1", Class: "GLACIER"}},
		"by its address":  {Options{Getenv: env("", ""), Endpoint: "https://s3.eu-west-1.amazonaws.com", Class: "STANDARD"}, contract.Tariff{Provider: "aws"}},
		"nobody says":     {Options{Getenv: env("", "")}, contract.Tariff{Provider: "aws"}},
		"the URL says":    {Options{Getenv: env("", "us-east-1"), Region: "ap-southeast-2"}, contract.Tariff{Provider: "aws", Region: "ap-southeast-2"}},
		"somebody else's": {Options{Getenv: env("", "r"), Endpoint: "https://S3.Example.org:9000/x"}, contract.Tariff{Provider: "s3.example.org", Region: "r"}},
	} {
		c.o.Bucket = "bucket"
		b, err := Open(t.Context(), c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.want.Service, c.want.Small = "s3", 128<<10
		if diff := cmp.Diff(&c.want, b.Tariff()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTariffOfTheRegionThatAnswers: once the bucket has answered, it is known where it
// is.
func TestTariffOfTheRegionThatAnswers(t *testing.T) {
	server := s3test.Start(t)
	storm := server.Storm(t)
	env := environment(append([]string{"AWS_REGION="}, server.EnvAt(storm.Endpoint)...))
	b := open(t, server, Options{Getenv: env})
	if got := b.Tariff().Region; got != "" {
		t.Errorf("before anything was asked, the region is %q", got)
	}
	if err := b.Put(t.Context(), "k", nil, false); err != nil {
		t.Fatal(err)
	}
	if got := b.Tariff().Region; got != s3test.Region {
		t.Errorf("the region is %q", got)
	}
	storm.Redirect(2, "eu-north-1", "PutObject")
	_ = b.Put(t.Context(), "k", nil, false) // this server is in its own region only
	if got := b.Tariff().Region; got != "eu-north-1" {
		t.Errorf("the region is %q", got)
	}
}

// TestListingWithoutStatus has servers that do not know that a listing can tell of
// what was thawed.
func TestListingWithoutStatus(t *testing.T) {
	const header = "X-Amz-Optional-Object-Attributes"
	for answer, rest := range map[string]int{"501 NotImplemented": 0, "400 InvalidArgument": 0, "403 AccessDenied": 1} {
		with, without := 0, 0
		b := replies(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != "" {
				with++
				fail(w, r, answer)
				return
			}
			without++
			_, _ = w.Write([]byte(`<ListBucketResult><Name>bucket</Name><Contents><Key>k</Key><Size>1</Size><StorageClass>GLACIER</StorageClass></Contents></ListBucketResult>`))
		})
		for range 3 {
			n := 0
			for o, err := range b.List(t.Context(), "") {
				if (err != nil) != (rest > 0) || err == nil && (o.Key != "k" || !o.Cold) {
					t.Errorf("%s: %+v, %v", answer, o, err)
				}
				n++
			}
			if n != 1 {
				t.Errorf("%s: %d objects are listed", answer, n)
			}
		}
		if want := 1 + 2*rest; with != want || (without == 3) != (rest == 0) {
			t.Errorf("%s: asked %d times with the header and %d times without", answer, with, without)
		}
	}
}

// TestListingTellsWhatIsThawed reads what AWS adds to a listing.
func TestListingTellsWhatIsThawed(t *testing.T) {
	const status = `<RestoreStatus><IsRestoreInProgress>%s</IsRestoreInProgress>%s</RestoreStatus>`
	const date = `<RestoreExpiryDate>2012-12-21T00:00:00.000Z</RestoreExpiryDate>`
	page := `<ListBucketResult><Name>bucket</Name>`
	for key, more := range map[string]string{
		"cold": "", "pending": strings.Replace(strings.Replace(status, "%s", "true", 1), "%s", "", 1),
		"thawed": strings.Replace(strings.Replace(status, "%s", "false", 1), "%s", date, 1),
	} {
		page += `<Contents><Key>` + key + `</Key><Size>1</Size><StorageClass>GLACIER</StorageClass>` + more + `</Contents>`
	}
	b := replies(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(page + `</ListBucketResult>`)) })
	cold := map[string]bool{}
	for o, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		cold[o.Key] = o.Cold
		if !o.Fixed {
			t.Errorf("%s can be copied", o.Key)
		}
	}
	if diff := cmp.Diff(map[string]bool{"cold": true, "pending": true, "thawed": false}, cold); diff != "" {
		t.Error(diff)
	}
}
