package s3test_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/s3test"
)

func putClass(t *testing.T, c *s3.Client, bucket, key string, class types.StorageClass) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte("content")), StorageClass: class})
	if err != nil {
		t.Fatalf("putting %s: %v", key, err)
	}
}

func get(t *testing.T, c *s3.Client, bucket, key string) error {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	if err == nil && string(text) != "content" {
		t.Errorf("%s is %q", key, text)
	}
	return err
}

// restore asks for an object, for a number of days if there is one.
func restore(t *testing.T, c *s3.Client, bucket, key string, tier types.Tier, days int32) error {
	t.Helper()
	o := &types.RestoreRequest{GlacierJobParameters: &types.GlacierJobParameters{Tier: tier}}
	if days > 0 {
		o.Days = &days
	}
	_, err := c.RestoreObject(t.Context(), &s3.RestoreObjectInput{Bucket: &bucket, Key: &key, RestoreRequest: o})
	return err
}

func head(t *testing.T, c *s3.Client, bucket, key string) *s3.HeadObjectOutput {
	t.Helper()
	out, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatalf("asking after %s: %v", key, err)
	}
	return out
}

func TestColdIsThawedForSomeDays(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	cold := server.Cold(t)
	c := client(cold.Endpoint, server.Access, server.Secret)
	const key = "a b/ü&<%41"
	putClass(t, c, bucket, key, types.StorageClassGlacier)

	if err := get(t, c, bucket, key); code(err) != "InvalidObjectState" {
		t.Errorf("what is cold can be got: %v", err)
	}
	if h := head(t, c, bucket, key); h.StorageClass != types.StorageClassGlacier || h.Restore != nil {
		t.Errorf("at first: class %s, restore %q", h.StorageClass, aws.ToString(h.Restore))
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 2); err != nil {
		t.Fatal(err)
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 2); code(err) != "RestoreAlreadyInProgress" {
		t.Errorf("asked for again: %v", err)
	}
	if got := aws.ToString(head(t, c, bucket, key).Restore); got != `ongoing-request="true"` {
		t.Errorf("while it is restored: %q", got)
	}
	cold.Advance(s3test.BulkTime - time.Minute)
	if err := get(t, c, bucket, key); code(err) != "InvalidObjectState" {
		t.Errorf("just before it is due: %v", err)
	}
	cold.Advance(time.Minute)
	if err := get(t, c, bucket, key); err != nil {
		t.Errorf("when it is due: %v", err)
	}
	h := head(t, c, bucket, key)
	text, ok := strings.CutPrefix(aws.ToString(h.Restore), `ongoing-request="false", expiry-date="`)
	expiry, err := http.ParseTime(strings.TrimSuffix(text, `"`))
	if left := expiry.Sub(cold.Now()); !ok || err != nil || !expiry.Equal(expiry.Truncate(24*time.Hour)) || left < 47*time.Hour || left > 72*time.Hour {
		t.Errorf("the copy stays for %v, %q", left, aws.ToString(h.Restore))
	}
	if h.Restore == nil || h.StorageClass != types.StorageClassGlacier {
		t.Errorf("when it is due: class %s, restore %q", h.StorageClass, aws.ToString(h.Restore))
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 5); err != nil {
		t.Errorf("prolonging: %v", err)
	}
	cold.Advance(4 * 24 * time.Hour)
	if err := get(t, c, bucket, key); err != nil {
		t.Errorf("after prolonging: %v", err)
	}
	cold.Advance(2 * 24 * time.Hour)
	if err := get(t, c, bucket, key); code(err) != "InvalidObjectState" {
		t.Errorf("after its days: %v", err)
	}
	if h := head(t, c, bucket, key); h.Restore != nil {
		t.Errorf("after its days: %q", *h.Restore)
	}
	asks := cold.Asks()
	if len(asks) != 3 || asks[0].Status != 202 || asks[1].Status != 409 || asks[2].Status != 200 || asks[2].Days != 5 || asks[0].Tier != "Bulk" || asks[0].Key != key {
		t.Errorf("noted were %+v", asks)
	}
	if n := cold.Asked(bucket, key); n != 1 {
		t.Errorf("%d restores were begun", n)
	}
}

func TestColdHasClassesAndTiers(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	cold := server.Cold(t)
	c := client(cold.Endpoint, server.Access, server.Secret)
	for _, class := range []types.StorageClass{
		types.StorageClassStandard, types.StorageClassStandardIa, types.StorageClassOnezoneIa, types.StorageClassGlacierIr,
		types.StorageClassIntelligentTiering, types.StorageClassGlacier, types.StorageClassDeepArchive,
	} {
		putClass(t, c, bucket, string(class), class)
		frozen := class == types.StorageClassGlacier || class == types.StorageClassDeepArchive
		err := get(t, c, bucket, string(class))
		if frozen != (code(err) == "InvalidObjectState") || !frozen && err != nil {
			t.Errorf("%s is got: %v", class, err)
		}
		if cold.Class(bucket, string(class)) != string(class) || cold.Readable(bucket, string(class)) == frozen {
			t.Errorf("%s is %s, readable %t", class, cold.Class(bucket, string(class)), cold.Readable(bucket, string(class)))
		}
	}
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("x"), Body: bytes.NewReader(nil), StorageClass: "FROZEN"})
	if code(err) != "InvalidStorageClass" {
		t.Errorf("a class that there is not: %v", err)
	}

	for _, tt := range []struct {
		key  string
		tier types.Tier
		days int32
		want string
	}{
		{"STANDARD", types.TierBulk, 1, "InvalidObjectState"},
		{"GLACIER_IR", types.TierBulk, 1, "InvalidObjectState"},
		{"INTELLIGENT_TIERING", types.TierBulk, 0, "InvalidObjectState"},
		{"DEEP_ARCHIVE", types.TierExpedited, 1, "InvalidArgument"},
		{"DEEP_ARCHIVE", types.TierBulk, 0, "MalformedXML"},
		{"GLACIER", "Slow", 1, "InvalidArgument"},
		{"DEEP_ARCHIVE", types.TierBulk, 1, ""},
		{"DEEP_ARCHIVE", types.TierStandard, 1, ""}, // made faster
		{"DEEP_ARCHIVE", types.TierBulk, 1, "RestoreAlreadyInProgress"},
		{"GLACIER", types.TierExpedited, 1, ""},
	} {
		if err := restore(t, c, bucket, tt.key, tt.tier, tt.days); code(err) != tt.want || tt.want == "" && err != nil {
			t.Errorf("restoring %s by %s for %d days: %v, want %q", tt.key, tt.tier, tt.days, err, tt.want)
		}
	}
	cold.Advance(s3test.ExpeditedTime)
	if !cold.Readable(bucket, "GLACIER") || cold.Readable(bucket, "DEEP_ARCHIVE") {
		t.Error("tiers take the wrong time")
	}
	cold.Advance(s3test.DeepStandardTime)
	if !cold.Readable(bucket, "DEEP_ARCHIVE") {
		t.Error("a restore that was made faster takes as long as before")
	}

	// Tiering.
	const key = "INTELLIGENT_TIERING"
	cold.Archive(t, bucket, key, "DEEP_ARCHIVE_ACCESS")
	if err := get(t, c, bucket, key); code(err) != "InvalidObjectState" {
		t.Errorf("from an archive tier: %v", err)
	}
	if h := head(t, c, bucket, key); h.ArchiveStatus != types.ArchiveStatusDeepArchiveAccess || h.StorageClass != types.StorageClassIntelligentTiering {
		t.Errorf("in an archive tier: %s, %s", h.ArchiveStatus, h.StorageClass)
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 3); code(err) != "InvalidArgument" {
		t.Errorf("for some days from an archive tier: %v", err)
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 0); err != nil {
		t.Errorf("from an archive tier: %v", err)
	}
	cold.Advance(s3test.DeepBulkTime)
	cold.Advance(365 * 24 * time.Hour)
	if err := get(t, c, bucket, key); err != nil {
		t.Errorf("back from an archive tier: %v", err)
	}
	if h := head(t, c, bucket, key); h.ArchiveStatus != "" || h.Restore != nil {
		t.Errorf("back from an archive tier: %s, %s", h.ArchiveStatus, aws.ToString(h.Restore))
	}
	if err := restore(t, c, bucket, key, types.TierBulk, 0); code(err) != "InvalidObjectState" {
		t.Errorf("asked for when it is back: %v", err)
	}
}

func TestColdCopiesAndLists(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	cold := server.Cold(t)
	c := client(cold.Endpoint, server.Access, server.Secret)
	putClass(t, c, bucket, "hot", "")
	putClass(t, c, bucket, "moved &", "")
	copyTo := func(from, to string, class types.StorageClass) error {
		_, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{
			Bucket: &bucket, Key: &to, CopySource: aws.String(bucket + "/" + from), StorageClass: class,
		})
		return err
	}
	if err := copyTo("hot", "cold", types.StorageClassDeepArchive); err != nil {
		t.Fatal(err)
	}
	if err := copyTo("cold", "copy", ""); code(err) != "InvalidObjectState" {
		t.Errorf("what is cold is copied: %v", err)
	}
	cold.Move(t, bucket, "moved &", "GLACIER")
	if err := get(t, c, bucket, "moved &"); code(err) != "InvalidObjectState" {
		t.Errorf("what was moved can be got: %v", err)
	}
	up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("parts"), StorageClass: types.StorageClassGlacierIr})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: &bucket, Key: aws.String("parts"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("content")),
	})
	if err != nil {
		t.Fatal(err)
	}
	uploads, err := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil || len(uploads.Uploads) != 1 || uploads.Uploads[0].StorageClass != types.StorageClassGlacierIr {
		t.Errorf("the uploads are %+v, %v", uploads, err)
	}
	parts, err := c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: &bucket, Key: aws.String("parts"), UploadId: up.UploadId})
	if err != nil || len(parts.Parts) != 1 || parts.StorageClass != types.StorageClassGlacierIr {
		t.Errorf("the parts are %+v, %v", parts, err)
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: aws.String("parts"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := restore(t, c, bucket, "cold", types.TierBulk, 1); err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []types.EncodingType{"", types.EncodingTypeUrl} {
		page, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{
			Bucket: &bucket, EncodingType: encoding, OptionalObjectAttributes: []types.OptionalObjectAttributes{types.OptionalObjectAttributesRestoreStatus},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, o := range page.Contents {
			got[aws.ToString(o.Key)] = string(o.StorageClass)
			if asked := o.RestoreStatus != nil && aws.ToBool(o.RestoreStatus.IsRestoreInProgress); asked != (aws.ToString(o.Key) == "cold") {
				t.Errorf("of %s the list says %+v", aws.ToString(o.Key), o.RestoreStatus)
			}
		}
		moved := "moved &"
		if encoding != "" {
			moved = "moved%20%26"
			if _, ok := got["moved+%26"]; ok {
				moved = "moved+%26"
			}
			if _, ok := got["moved &"]; ok { // the SDK decodes it
				moved = "moved &"
			}
		}
		for key, want := range map[string]string{"hot": "STANDARD", "cold": "DEEP_ARCHIVE", moved: "GLACIER", "parts": "GLACIER_IR"} {
			if got[key] != want {
				t.Errorf("with encoding %q, %s is listed as %q, not %s", encoding, key, got[key], want)
			}
		}
	}
	putClass(t, c, bucket, "cold", "") // in its place
	if err := get(t, c, bucket, "cold"); err != nil {
		t.Errorf("what was replaced is as cold as before: %v", err)
	}
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("moved &")}); err != nil {
		t.Errorf("deleting what is cold: %v", err)
	}
	server.Put(t, bucket, "moved &", []byte("content"))
	if err := get(t, c, bucket, "moved &"); err != nil {
		t.Errorf("what is new has the class of what was deleted: %v", err)
	}
}

func TestColdStaysTheServersBusiness(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	cold := server.Cold(t)
	c := client(cold.Endpoint, server.Access, server.Secret)
	putClass(t, c, bucket, "k", types.StorageClassGlacier)

	if err := restore(t, client(cold.Endpoint, server.Access, "wrong"), bucket, "k", types.TierBulk, 1); code(err) != "SignatureDoesNotMatch" {
		t.Errorf("with a wrong secret: %v", err)
	}
	if err := restore(t, c, bucket, "none", types.TierBulk, 1); code(err) != "NoSuchKey" {
		t.Errorf("restoring what is not there: %v", err)
	}
	access, secret := server.User(t, bucket, "s3:GetObject", "s3:ListBucket")
	if err := restore(t, client(cold.Endpoint, access, secret), bucket, "k", types.TierBulk, 1); code(err) != "AccessDenied" {
		t.Errorf("who may not restore: %v", err)
	}
	access, secret = server.User(t, bucket, "s3:GetObject", "s3:RestoreObject")
	if n := cold.Asked(bucket, "k"); n != 0 {
		t.Errorf("%d restores were begun", n)
	}
	if err := restore(t, client(cold.Endpoint, access, secret), bucket, "k", types.TierBulk, 1); err != nil {
		t.Errorf("who may restore: %v", err)
	}

	storm := cold.Storm(t)
	storm.Fail(1, 503, "GlacierExpeditedRetrievalNotAvailable", "RestoreObject")
	if err := restore(t, client(storm.Endpoint, server.Access, server.Secret), bucket, "k", types.TierExpedited, 1); code(err) != "GlacierExpeditedRetrievalNotAvailable" {
		t.Errorf("in the storm: %v", err)
	}
}

func TestColdComesBackWithWhatItKnew(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	cold := server.Cold(t)
	c := client(cold.Endpoint, server.Access, server.Secret)
	putClass(t, c, bucket, "k", types.StorageClassGlacier)
	putClass(t, c, bucket, "other", types.StorageClassDeepArchive)
	if err := restore(t, c, bucket, "k", types.TierBulk, 1); err != nil {
		t.Fatal(err)
	}
	cold.Advance(7 * time.Hour)
	cold.Stop()
	if err := get(t, c, bucket, "k"); err == nil || code(err) != "" {
		t.Errorf("while it is stopped: %v", err)
	}
	cold.Restart()
	if err := restore(t, c, bucket, "k", types.TierBulk, 1); code(err) != "RestoreAlreadyInProgress" {
		t.Errorf("after the restart: %v", err)
	}
	cold.Advance(5 * time.Hour)
	if err := get(t, c, bucket, "k"); err != nil {
		t.Errorf("when it is due: %v", err)
	}
	if cold.Class(bucket, "other") != "DEEP_ARCHIVE" || cold.Asked(bucket, "k") != 1 {
		t.Errorf("known are class %s and %d restores", cold.Class(bucket, "other"), cold.Asked(bucket, "k"))
	}
}
