package glaciertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/aws-sdk-go-v2/service/glacier/types"
	"github.com/aws/smithy-go"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

// client is the SDK's: what the server says of requests is said of those of a
// client that others wrote.
func client(s *glaciertest.Server, secret string) *glacier.Client {
	return glacier.New(glacier.Options{
		BaseEndpoint: &s.Endpoint, Region: glaciertest.Region, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(s.Access, secret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{}},
	})
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func TestArchiveGoesInAndComesOut(t *testing.T) {
	server := glaciertest.Start(t)
	c := client(server, server.Secret)
	ctx := context.Background()
	vault := aws.String("v.1-_")
	if _, err := c.CreateVault(ctx, &glacier.CreateVaultInput{VaultName: vault}); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	put, err := c.UploadArchive(ctx, &glacier.UploadArchiveInput{
		VaultName: vault, ArchiveDescription: aws.String("some archive"), Body: bytes.NewReader(data),
	})
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.InitiateJob(ctx, &glacier.InitiateJobInput{VaultName: vault, JobParameters: &types.JobParameters{
		Type: aws.String("archive-retrieval"), ArchiveId: put.ArchiveId, Tier: aws.String("Bulk"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	get := &glacier.GetJobOutputInput{VaultName: vault, JobId: job.JobId}
	if _, err := c.GetJobOutput(ctx, get); code(err) != "InvalidParameterValueException" {
		t.Errorf("the output of a job in progress: %v", err)
	}
	server.Advance(glaciertest.BulkTime)
	out, err := c.GetJobOutput(ctx, get)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.Body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("of %d bytes %d came back: %v", len(data), len(got), err)
	}
	if aws.ToString(out.Checksum) != aws.ToString(put.Checksum) || aws.ToString(out.ArchiveDescription) != "some archive" {
		t.Errorf("the output is said to be %q with %s", aws.ToString(out.ArchiveDescription), aws.ToString(out.Checksum))
	}
	server.Advance(glaciertest.OutputKept)
	if _, err := c.GetJobOutput(ctx, get); code(err) != "ResourceNotFoundException" {
		t.Errorf("the output of a job long past: %v", err)
	}
}
