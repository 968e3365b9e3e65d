package glaciertest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/aws-sdk-go-v2/service/glacier/types"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

const megabyte = 1 << 20

// begin starts a server with a vault.
func begin(t *testing.T) (*glaciertest.Server, *glacier.Client) {
	t.Helper()
	server := glaciertest.Start(t)
	server.Make(t, "vault")
	return server, client(server, server.Secret)
}

// content is so many bytes that repeat nowhere.
func content(n int) []byte {
	data := make([]byte, 0, n+sha256.Size)
	sum := sha256.Sum256([]byte{byte(n)})
	for len(data) < n {
		sum = sha256.Sum256(sum[:])
		data = append(data, sum[:]...)
	}
	return data[:n]
}

func sumOf(t *testing.T, data []byte) string {
	t.Helper()
	sum, err := glaciertest.TreeHash(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// raw sends a request that is signed as it should be, whatever else is wrong with
// it, and returns the status, the code of the error and the headers.
func raw(t *testing.T, s *glaciertest.Server, method, path string, body []byte, header map[string]string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, s.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Glacier-Version", "2012-06-01")
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	for key, value := range header {
		switch value {
		case "":
			r.Header.Del(key)
		case "SUM":
			r.Header.Set(key, payload)
		case "TREE":
			r.Header.Set(key, sumOf(t, body))
		default:
			r.Header.Set(key, value)
		}
	}
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.Access, SecretAccessKey: s.Secret}, r, payload, "glacier", glaciertest.Region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode < 300 {
		return resp.StatusCode, "", resp.Header
	}
	var e struct{ Code, Message, Type string }
	if err := json.Unmarshal(text, &e); err != nil || e.Message == "" || e.Type != "Client" && e.Type != "Server" {
		t.Errorf("%s %s: the error is %q", method, path, text)
	}
	return resp.StatusCode, e.Code, resp.Header
}

func TestRequestsThatAreRefused(t *testing.T) {
	server, c := begin(t)
	up, err := c.InitiateMultipartUpload(t.Context(), &glacier.InitiateMultipartUploadInput{VaultName: aws.String("vault"), PartSize: aws.String("2097152")})
	if err != nil {
		t.Fatal(err)
	}
	const (
		vault    = "/-/vaults/vault"
		archives = vault + "/archives"
		uploads  = vault + "/multipart-uploads"
		jobs     = vault + "/jobs"
	)
	upload := uploads + "/" + aws.ToString(up.UploadId)
	good := map[string]string{"X-Amz-Content-Sha256": "SUM", "X-Amz-Sha256-Tree-Hash": "TREE"}
	with := func(more ...string) map[string]string {
		h := map[string]string{}
		for k, v := range good {
			h[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	wrong := strings.Repeat("0", 64)
	two := content(2 * megabyte)
	invalid, missing, none := "InvalidParameterValueException", "MissingParameterValueException", "ResourceNotFoundException"
	for _, tt := range []struct {
		what, method, path string
		body               []byte
		header             map[string]string
		status             int
		code               string
	}{
		{"another account", "GET", "/123456789012/vaults/vault", nil, nil, 403, "AccessDeniedException"},
		{"our account", "GET", "/" + glaciertest.Account + "/vaults/vault", nil, nil, 200, ""},
		{"no version", "GET", vault, nil, map[string]string{"X-Amz-Glacier-Version": ""}, 400, missing},
		{"another version", "GET", vault, nil, map[string]string{"X-Amz-Glacier-Version": "2012-06-02"}, 400, invalid},
		{"no such operation", "PATCH", vault, nil, nil, 400, "BadRequest"},
		{"no such vault", "GET", "/-/vaults/other", nil, nil, 404, none},
		{"a vault's name", "PUT", "/-/vaults/a+b", nil, nil, 400, invalid},
		{"a vault's long name", "PUT", "/-/vaults/" + strings.Repeat("a", 256), nil, nil, 400, invalid},
		{"a vault's longest name", "PUT", "/-/vaults/" + strings.Repeat("a", 200), nil, nil, 201, ""},

		{"an archive without its hash", "POST", archives, two, with("X-Amz-Content-Sha256", ""), 400, missing},
		{"an archive with a wrong hash", "POST", archives, two, with("X-Amz-Content-Sha256", wrong), 400, invalid},
		{"an archive without its tree hash", "POST", archives, two, with("X-Amz-Sha256-Tree-Hash", ""), 400, missing},
		{"an archive with its plain hash as tree hash", "POST", archives, two, with("X-Amz-Sha256-Tree-Hash", "SUM"), 400, invalid},
		{"an archive of nothing", "POST", archives, nil, good, 400, invalid},
		{"a long description", "POST", archives, two, with("X-Amz-Archive-Description", strings.Repeat("d", 1025)), 400, invalid},
		{"the longest description", "POST", archives, two, with("X-Amz-Archive-Description", strings.Repeat("d", 1024)), 201, ""},
		{"a description that is not ASCII", "POST", archives, two, with("X-Amz-Archive-Description", "dü"), 400, invalid},
		{"an archive of no vault", "POST", "/-/vaults/other/archives", two, good, 404, none},
		{"deleting what never was", "DELETE", archives + "/x", nil, nil, 404, none},

		{"parts of no size", "POST", uploads, nil, nil, 400, missing},
		{"parts of one byte less", "POST", uploads, nil, map[string]string{"X-Amz-Part-Size": "1048575"}, 400, invalid},
		{"parts of half a megabyte", "POST", uploads, nil, map[string]string{"X-Amz-Part-Size": "524288"}, 400, invalid},
		{"parts of three megabytes", "POST", uploads, nil, map[string]string{"X-Amz-Part-Size": "3145728"}, 400, invalid},
		{"parts of eight gigabytes", "POST", uploads, nil, map[string]string{"X-Amz-Part-Size": "8589934592"}, 400, invalid},
		{"parts of four gigabytes", "POST", uploads, nil, map[string]string{"X-Amz-Part-Size": "4294967296"}, 201, ""},

		{"a part without a place", "PUT", upload, two, good, 400, missing},
		{"a part at an odd place", "PUT", upload, two, with("Content-Range", "bytes 1048576-3145727/*"), 400, invalid},
		{"a part that is too long", "PUT", upload, append(two, 1), with("Content-Range", "bytes 0-2097152/*"), 400, invalid},
		{"a part of another length", "PUT", upload, two, with("Content-Range", "bytes 0-1048575/*"), 400, invalid},
		{"a part at a place of another form", "PUT", upload, two, with("Content-Range", "bytes 0-2097151"), 400, invalid},
		{"a part too far out", "PUT", upload, two, with("Content-Range", "bytes 20971520000-20973617151/*"), 400, invalid},
		{"a part with a wrong tree hash", "PUT", upload, two, with("Content-Range", "bytes 0-2097151/*", "X-Amz-Sha256-Tree-Hash", wrong), 400, invalid},
		{"a part with a wrong hash", "PUT", upload, two, with("Content-Range", "bytes 0-2097151/*", "X-Amz-Content-Sha256", wrong), 400, invalid},
		{"a part without a hash", "PUT", upload, two, with("Content-Range", "bytes 0-2097151/*", "X-Amz-Content-Sha256", ""), 400, missing},
		{"a part of nothing that was begun", "PUT", uploads + "/x", two, with("Content-Range", "bytes 0-2097151/*"), 404, none},
		{"completing nothing", "POST", upload, nil, map[string]string{"X-Amz-Archive-Size": "0", "X-Amz-Sha256-Tree-Hash": wrong}, 400, invalid},
		{"completing without a size", "POST", upload, nil, map[string]string{"X-Amz-Sha256-Tree-Hash": wrong}, 400, missing},
		{"completing without a hash", "POST", upload, nil, map[string]string{"X-Amz-Archive-Size": "0"}, 400, missing},
		{"aborting what never was", "DELETE", uploads + "/x", nil, nil, 404, none},

		{"a job that cannot be read", "POST", jobs, []byte("{"), nil, 400, "SerializationException"},
		{"a job of no type", "POST", jobs, []byte("{}"), nil, 400, missing},
		{"a job of another type", "POST", jobs, []byte(`{"Type":"select"}`), nil, 400, invalid},
		{"a retrieval of nothing", "POST", jobs, []byte(`{"Type":"archive-retrieval"}`), nil, 400, missing},
		{"a retrieval of what is not there", "POST", jobs, []byte(`{"Type":"archive-retrieval","ArchiveId":"x"}`), nil, 404, none},
		{"an inventory where none was taken", "POST", jobs, []byte(`{"Type":"inventory-retrieval"}`), nil, 404, none},
		{"an inventory of another form", "POST", jobs, []byte(`{"Type":"inventory-retrieval","Format":"XML"}`), nil, 400, invalid},
		{"jobs of an unknown state", "GET", jobs + "?statuscode=finished", nil, nil, 400, invalid},
		{"too many jobs", "GET", jobs + "?limit=51", nil, nil, 400, invalid},
		{"no jobs", "GET", jobs + "?limit=0", nil, nil, 400, invalid},
		{"jobs from nowhere", "GET", jobs + "?marker=x", nil, nil, 400, invalid},
		{"a job that never was", "GET", jobs + "/x", nil, nil, 404, none},
		{"the output of a job that never was", "GET", jobs + "/x/output", nil, nil, 404, none},
	} {
		status, code, h := raw(t, server, tt.method, tt.path, tt.body, tt.header)
		if status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s, not %d %s", tt.what, status, code, tt.status, tt.code)
		}
		if h.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: the answer has no ID", tt.what)
		}
	}
	if _, err := client(server, "wrong").ListVaults(t.Context(), &glacier.ListVaultsInput{}); code(err) != "InvalidSignatureException" {
		t.Errorf("with a wrong secret: %v", err)
	}
	if n := len(server.Archives(t, "vault")); n != 1 {
		t.Errorf("there are %d archives", n)
	}
}

func TestUploadInParts(t *testing.T) {
	server, c := begin(t)
	vault := aws.String("vault")
	data := content(3*megabyte + 12345)
	up, err := c.InitiateMultipartUpload(t.Context(), &glacier.InitiateMultipartUploadInput{
		VaultName: vault, PartSize: aws.String("1048576"), ArchiveDescription: aws.String("  in parts"),
	})
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to int) error {
		_, err := c.UploadMultipartPart(t.Context(), &glacier.UploadMultipartPartInput{
			VaultName: vault, UploadId: up.UploadId, Body: bytes.NewReader(data[from:to]),
			Range: aws.String(fmt.Sprintf("bytes %d-%d/*", from, to-1)),
		})
		return err
	}
	complete := func(size int, sum string) (string, error) {
		out, err := c.CompleteMultipartUpload(t.Context(), &glacier.CompleteMultipartUploadInput{
			VaultName: vault, UploadId: up.UploadId, ArchiveSize: aws.String(fmt.Sprint(size)), Checksum: &sum,
		})
		if err != nil {
			return "", err
		}
		return aws.ToString(out.ArchiveId), nil
	}
	sum := sumOf(t, data)
	refused := func(what string) {
		t.Helper()
		if _, err := complete(len(data), sum); code(err) != "InvalidParameterValueException" {
			t.Errorf("completing with %s: %v", what, err)
		}
	}
	// In any order, a short one in the middle, that is replaced later.
	for _, part := range [][2]int{{3 * megabyte, len(data)}, {megabyte, 2*megabyte - 5}, {0, megabyte}} {
		if err := put(part[0], part[1]); err != nil {
			t.Fatal(err)
		}
	}
	refused("a gap")
	sent := slices.Concat(data[:2*megabyte-5], data[3*megabyte:])
	if _, err := complete(len(sent), sumOf(t, sent)); code(err) != "InvalidParameterValueException" {
		t.Errorf("completing with a gap, by what was sent: %v", err)
	}
	if err := put(2*megabyte, 3*megabyte); err != nil {
		t.Fatal(err)
	}
	refused("a short part")
	if err := put(megabyte, 2*megabyte); err != nil {
		t.Fatal(err)
	}
	if _, err := complete(len(data)-1, sum); code(err) != "InvalidParameterValueException" {
		t.Errorf("completing with another size: %v", err)
	}
	if _, err := complete(len(data), sumOf(t, data[1:])); code(err) != "InvalidParameterValueException" {
		t.Errorf("completing with another hash: %v", err)
	}

	list, err := c.ListMultipartUploads(t.Context(), &glacier.ListMultipartUploadsInput{VaultName: vault})
	if err != nil || len(list.UploadsList) != 1 || aws.ToString(list.UploadsList[0].ArchiveDescription) != "in parts" || list.UploadsList[0].PartSizeInBytes != megabyte {
		t.Errorf("the uploads are %+v, %v", list, err)
	}
	var parts []string
	pages := glacier.NewListPartsPaginator(c, &glacier.ListPartsInput{VaultName: vault, UploadId: up.UploadId, Limit: aws.Int32(3)})
	n := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, p := range page.Parts {
			var from, to int
			if _, err := fmt.Sscanf(aws.ToString(p.RangeInBytes), "%d-%d", &from, &to); err != nil {
				t.Fatal(err)
			}
			if got := sumOf(t, data[from:to+1]); got != aws.ToString(p.SHA256TreeHash) {
				t.Errorf("of part %d the hash is listed as %s", from, got)
			}
			parts = append(parts, aws.ToString(p.RangeInBytes))
		}
	}
	if want := []string{"0-1048575", "1048576-2097151", "2097152-3145727", fmt.Sprintf("3145728-%d", len(data)-1)}; n != 2 || !slices.Equal(parts, want) {
		t.Errorf("on %d pages the parts are %q", n, parts)
	}

	// Over and over, as after a reply that was lost.
	id, err := complete(len(data), sum)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := complete(len(data), sum); err != nil || again != id {
		t.Errorf("completed again: %q, %v", again, err)
	}
	if _, err := complete(len(data)-1, sum); code(err) != "ResourceNotFoundException" {
		t.Errorf("completed again in another way: %v", err)
	}
	if err := put(0, megabyte); code(err) != "ResourceNotFoundException" {
		t.Errorf("a part for what is complete: %v", err)
	}
	if _, err := c.ListParts(t.Context(), &glacier.ListPartsInput{VaultName: vault, UploadId: up.UploadId}); code(err) != "ResourceNotFoundException" {
		t.Errorf("the parts of what is complete: %v", err)
	}
	if _, err := c.AbortMultipartUpload(t.Context(), &glacier.AbortMultipartUploadInput{VaultName: vault, UploadId: up.UploadId}); code(err) != "ResourceNotFoundException" {
		t.Errorf("aborting what is complete: %v", err)
	}
	server.Advance(glaciertest.RepeatKept)
	if _, err := complete(len(data), sum); code(err) != "ResourceNotFoundException" {
		t.Errorf("completed again much later: %v", err)
	}
	if got := server.Content(t, "vault", id); !bytes.Equal(got, data) {
		t.Errorf("the archive has %d bytes, not these %d", len(got), len(data))
	}
	if all := server.Archives(t, "vault"); len(all) != 1 || all[0].Tree != sum || all[0].Description != "in parts" {
		t.Errorf("there are %+v", all)
	}
}

func TestUploadsGoAway(t *testing.T) {
	server, c := begin(t)
	vault := aws.String("vault")
	start := func() *string {
		up, err := c.InitiateMultipartUpload(t.Context(), &glacier.InitiateMultipartUploadInput{VaultName: vault, PartSize: aws.String("1048576")})
		if err != nil {
			t.Fatal(err)
		}
		return up.UploadId
	}
	put := func(id *string) error {
		_, err := c.UploadMultipartPart(t.Context(), &glacier.UploadMultipartPartInput{
			VaultName: vault, UploadId: id, Body: bytes.NewReader([]byte("x")), Range: aws.String("bytes 0-0/*"),
		})
		return err
	}
	abort := func(id *string) error {
		_, err := c.AbortMultipartUpload(t.Context(), &glacier.AbortMultipartUploadInput{VaultName: vault, UploadId: id})
		return err
	}
	dropped, idle, busy := start(), start(), start()
	for range 2 {
		if err := abort(dropped); err != nil {
			t.Errorf("aborting: %v", err)
		}
	}
	if err := put(dropped); code(err) != "ResourceNotFoundException" {
		t.Errorf("a part for what was aborted: %v", err)
	}
	server.Advance(glaciertest.UploadKept - time.Hour)
	if err := put(busy); err != nil {
		t.Fatal(err)
	}
	server.Advance(time.Hour)
	if err := put(idle); code(err) != "ResourceNotFoundException" {
		t.Errorf("a part for what was idle too long: %v", err)
	}
	if err := put(busy); err != nil {
		t.Errorf("a part for what was not: %v", err)
	}
	if all := server.Uploads(t, "vault"); len(all) != 1 || all[0].ID != aws.ToString(busy) || all[0].Parts != 1 {
		t.Errorf("there are %+v", all)
	}
	if err := abort(dropped); code(err) != "ResourceNotFoundException" {
		t.Errorf("aborting much later: %v", err)
	}
}

func TestVaults(t *testing.T) {
	server, c := begin(t)
	for i := range 12 {
		if _, err := c.CreateVault(t.Context(), &glacier.CreateVaultInput{VaultName: aws.String(fmt.Sprintf("v%02d", i))}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := glacier.NewListVaultsPaginator(c, &glacier.ListVaultsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.VaultList {
			names = append(names, aws.ToString(v.VaultName))
		}
	}
	if !slices.Equal(names, server.Vaults()) || len(names) != 13 {
		t.Errorf("listed are %q, there are %q", names, server.Vaults())
	}
	describe := func() *glacier.DescribeVaultOutput {
		t.Helper()
		v, err := c.DescribeVault(t.Context(), &glacier.DescribeVaultInput{VaultName: aws.String("vault")})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	remove := func() error {
		_, err := c.DeleteVault(t.Context(), &glacier.DeleteVaultInput{VaultName: aws.String("vault")})
		return err
	}
	id := server.Put(t, "vault", "", content(100))
	if v := describe(); v.LastInventoryDate != nil || v.NumberOfArchives != 0 {
		t.Errorf("at once the vault is %+v", v)
	}
	if err := remove(); code(err) != "InvalidParameterValueException" {
		t.Errorf("deleting a vault that was written to: %v", err)
	}
	server.Advance(48 * time.Hour)
	if v := describe(); v.LastInventoryDate == nil || v.NumberOfArchives != 1 || v.SizeInBytes != 100+40<<10 {
		t.Errorf("later the vault is %+v", v)
	}
	server.Delete(t, "vault", id)
	if err := remove(); code(err) != "InvalidParameterValueException" {
		t.Errorf("deleting a vault that had an archive at its last inventory: %v", err)
	}
	server.Advance(48 * time.Hour)
	for range 2 {
		if err := remove(); err != nil {
			t.Errorf("deleting a vault that is empty: %v", err)
		}
	}
	if slices.Contains(server.Vaults(), "vault") {
		t.Error("the vault is still there")
	}
}

// ask starts a retrieval.
func ask(c *glacier.Client, p *types.JobParameters) (*string, error) {
	out, err := c.InitiateJob(context.Background(), &glacier.InitiateJobInput{VaultName: aws.String("vault"), JobParameters: p})
	if err != nil {
		return nil, err
	}
	return out.JobId, nil
}
