package glaciertest_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

func upload(t *testing.T, c *glacier.Client, data []byte) error {
	t.Helper()
	_, err := c.UploadArchive(t.Context(), &glacier.UploadArchiveInput{VaultName: aws.String("vault"), Body: bytes.NewReader(data)})
	return err
}

func TestFaults(t *testing.T) {
	server, c := begin(t)
	data := content(megabyte)
	count := func(want int) {
		t.Helper()
		if got := len(server.Archives(t, "vault")); got != want {
			t.Errorf("there are %d archives, not %d", got, want)
		}
	}
	server.Throttle(1, "UploadArchive")
	if err := upload(t, c, data); code(err) != "ThrottlingException" {
		t.Errorf("throttled: %v", err)
	}
	count(0)
	server.FailAfter(1, 1, 500, "ServiceUnavailableException", "UploadArchive")
	for i, want := range []string{"", "ServiceUnavailableException", ""} {
		if err := upload(t, c, data); code(err) != want {
			t.Errorf("request %d of trouble that comes after the first: %v", i+1, err)
		}
	}
	count(2)
	server.Lose(1, "UploadArchive")
	if err := upload(t, c, data); err == nil || code(err) != "" {
		t.Errorf("a lost reply: %v", err)
	}
	count(3)
	server.CutUp(1, 1000, "UploadArchive")
	if err := upload(t, c, data); err == nil || code(err) != "" {
		t.Errorf("cut on the way up: %v", err)
	}
	count(3)
	server.FailShare(1, 408, "RequestTimeoutException")
	if err := upload(t, c, data); code(err) != "RequestTimeoutException" {
		t.Errorf("a share of all: %v", err)
	}
	server.Calm()
	server.LoseShare(1, "UploadArchive")
	if err := upload(t, c, data); err == nil {
		t.Error("all replies get lost, and one comes")
	}
	count(4)
	server.Calm()

	id := server.Archives(t, "vault")[0].ID
	job, err := ask(c, retrieval(id, "Expedited"))
	if err != nil {
		t.Fatal(err)
	}
	server.Advance(glaciertest.ExpeditedTime)
	server.Cut(1, 5000, "GetJobOutput")
	got, _, err := fetch(t, c, job, "")
	if err == nil || len(got) != 5000 || !bytes.Equal(got, data[:5000]) {
		t.Errorf("cut on the way down: %d bytes, %v", len(got), err)
	}
	if got, _, err := fetch(t, c, job, ""); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after the cut: %d bytes, %v", len(got), err)
	}

	seen := server.Requests("UploadArchive")
	if len(seen) != 8 || server.Count() != 11 {
		t.Fatalf("seen were %d of %d", len(seen), server.Count())
	}
	if r := seen[0]; r.Status != 400 || r.Code != "ThrottlingException" || !r.Ours || r.Vault != "vault" || r.Sent != megabyte || r.Header.Get("Authorization") == "" {
		t.Errorf("noted was %+v", r)
	}
	if r := seen[1]; r.Status != 201 || r.Code != "" || r.Ours {
		t.Errorf("noted was %+v", r)
	}
	if r := seen[4]; r.Status != 0 || !r.Ours {
		t.Errorf("noted was %+v", r)
	}
	if r := seen[5]; r.Status != 0 || !r.Ours || r.Sent != 1000 {
		t.Errorf("noted was %+v", r)
	}
	if r := server.Requests("InitiateJob")[0]; r.ID != id || r.Tier != "Expedited" || r.Type != "archive-retrieval" {
		t.Errorf("noted was %+v", r)
	}
	if r := server.Requests("GetJobOutput"); r[0].Answered != 5000 || r[1].Answered != megabyte {
		t.Errorf("answered were %d and %d bytes", r[0].Answered, r[1].Answered)
	}
	server.Forget()
	if n := server.Count(); n != 0 {
		t.Errorf("%d are not forgotten", n)
	}
}

func TestServerComesBackWithWhatItKnew(t *testing.T) {
	dir := t.TempDir()
	server := glaciertest.Start(t, glaciertest.In(dir), glaciertest.At(time.Date(2031, 5, 4, 3, 0, 0, 0, time.UTC)))
	c := client(server, server.Secret)
	server.Make(t, "vault")
	data := content(megabyte + 5)
	id := server.Put(t, "vault", "about it", data)
	gone := server.Put(t, "vault", "", content(3))
	server.Delete(t, "vault", gone)
	job, err := ask(c, retrieval(id, "Bulk"))
	if err != nil {
		t.Fatal(err)
	}
	up, err := c.InitiateMultipartUpload(t.Context(), &glacier.InitiateMultipartUploadInput{VaultName: aws.String("vault"), PartSize: aws.String("1048576")})
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to int) {
		t.Helper()
		_, err := c.UploadMultipartPart(t.Context(), &glacier.UploadMultipartPartInput{
			VaultName: aws.String("vault"), UploadId: up.UploadId, Body: bytes.NewReader(data[from:to]),
			Range: aws.String(fmt.Sprintf("bytes %d-%d/*", from, to-1)),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(0, megabyte)
	server.Advance(11 * time.Hour)
	archives, uploads, jobs, now := server.Archives(t, "vault"), server.Uploads(t, "vault"), server.Jobs(t, "vault"), server.Now()

	endpoint := server.Endpoint
	server.Stop()
	if err := upload(t, c, data); err == nil || code(err) != "" {
		t.Errorf("while it is stopped: %v", err)
	}
	server.Restart()
	if server.Endpoint != endpoint {
		t.Errorf("it is at %s, and was at %s", server.Endpoint, endpoint)
	}
	check := func(server *glaciertest.Server) {
		t.Helper()
		if diff := cmp.Diff(archives, server.Archives(t, "vault")); diff != "" {
			t.Errorf("the archives differ:\n%s", diff)
		}
		if diff := cmp.Diff(uploads, server.Uploads(t, "vault")); diff != "" {
			t.Errorf("the uploads differ:\n%s", diff)
		}
		if diff := cmp.Diff(jobs, server.Jobs(t, "vault")); diff != "" {
			t.Errorf("the jobs differ:\n%s", diff)
		}
		if d := server.Now().Sub(now); d < 0 || d > time.Hour {
			t.Errorf("the clock is %v on", d)
		}
	}
	check(server)
	server.Stop()

	// Another one on the same directory.
	server = glaciertest.Start(t, glaciertest.In(dir), glaciertest.Keys(server.Access, server.Secret))
	c = client(server, server.Secret)
	check(server)
	put(megabyte, len(data))
	out, err := c.CompleteMultipartUpload(t.Context(), &glacier.CompleteMultipartUploadInput{
		VaultName: aws.String("vault"), UploadId: up.UploadId, ArchiveSize: aws.String(fmt.Sprint(len(data))), Checksum: aws.String(sumOf(t, data)),
	})
	if err != nil || !bytes.Equal(server.Content(t, "vault", aws.ToString(out.ArchiveId)), data) {
		t.Errorf("going on with the upload: %v", err)
	}
	server.Advance(time.Hour)
	if got, _, err := fetch(t, c, job, ""); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the retrieval: %d bytes, %v", len(got), err)
	}
	left, err := os.ReadDir(dir + "/spool")
	if err != nil || len(left) != 0 {
		t.Errorf("bodies are left behind: %v, %v", left, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	server, c := begin(t)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if err := upload(t, c, content(1000+i)); err != nil {
				t.Errorf("upload %d: %v", i, err)
			}
			_ = server.Count()
			server.Advance(time.Minute)
		})
	}
	all.Wait()
	if n := len(server.Archives(t, "vault")); n != 16 {
		t.Errorf("there are %d archives", n)
	}
}

// TestBotocoreUsesIt has another client than that of the programs under test go
// through the API.
func TestBotocoreUsesIt(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import botocore.session").Run(); err != nil {
		if os.Getenv("BUTTERSINK_TEST_REAL") == "1" {
			t.Fatalf("python3-botocore is not there: %v: run packaging/deps.sh", err)
		}
		t.Skip("needs python3-botocore")
	}
	server := glaciertest.Start(t)
	run := func(program string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), python, "-c", `
import botocore.session, botocore.utils, io, os
c = botocore.session.get_session().create_client('glacier', endpoint_url=os.environ['AWS_ENDPOINT_URL_GLACIER'], region_name=os.environ['AWS_REGION'],
    aws_access_key_id=os.environ['AWS_ACCESS_KEY_ID'], aws_secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY'])
`+program)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
		for _, e := range server.Env() {
			if !strings.HasSuffix(e, "=") { // which botocore takes for a value
				cmd.Env = append(cmd.Env, e)
			}
		}
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, said.Bytes())
		}
		return string(out)
	}
	run(`
c.create_vault(vaultName='vault')
c.upload_archive(vaultName='vault', archiveDescription='one', body=b'x' * (3 << 20))
u = c.initiate_multipart_upload(vaultName='vault', archiveDescription='two', partSize=str(1 << 20))['uploadId']
data = os.urandom((2 << 20) + 77)
for at in range(0, len(data), 1 << 20):
    part = data[at:at + (1 << 20)]
    c.upload_multipart_part(vaultName='vault', uploadId=u, range='bytes %d-%d/*' % (at, at + len(part) - 1), body=part)
parts = c.list_parts(vaultName='vault', uploadId=u)
assert len(parts['Parts']) == 3 and parts['ArchiveDescription'] == 'two', parts
assert len(c.list_multipart_uploads(vaultName='vault')['UploadsList']) == 1
a = c.complete_multipart_upload(vaultName='vault', uploadId=u, archiveSize=str(len(data)), checksum=botocore.utils.calculate_tree_hash(io.BytesIO(data)))
c.initiate_job(vaultName='vault', jobParameters={'Type': 'archive-retrieval', 'ArchiveId': a['archiveId'], 'Tier': 'Expedited'})
try:
    c.describe_vault(vaultName='none')
    assert False
except c.exceptions.ResourceNotFoundException:
    pass
`)
	server.Advance(glaciertest.ExpeditedTime)
	var two []byte
	for _, a := range server.Archives(t, "vault") {
		if a.Description == "two" {
			two = server.Content(t, "vault", a.ID)
		}
	}
	got := run(`
j, = c.list_jobs(vaultName='vault', statuscode='Succeeded')['JobList']
o = c.get_job_output(vaultName='vault', jobId=j['JobId'])
data = o['body'].read()
assert o['checksum'] == botocore.utils.calculate_tree_hash(io.BytesIO(data)) == j['SHA256TreeHash'], o
import sys
sys.stdout.buffer.write(data)
`)
	if got != string(two) {
		t.Errorf("of %d bytes %d came", len(two), len(got))
	}
	if len(two) != 2<<20+77 {
		t.Errorf("of two there are %d bytes", len(two))
	}
}
