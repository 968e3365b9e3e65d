package glaciertest_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/aws-sdk-go-v2/service/glacier/types"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

func retrieval(id, tier string) *types.JobParameters {
	p := &types.JobParameters{Type: aws.String("archive-retrieval"), ArchiveId: &id}
	if tier != "" {
		p.Tier = &tier
	}
	return p
}

// fetch gets the output of a job, or a range of it.
func fetch(t *testing.T, c *glacier.Client, id *string, span string) ([]byte, *glacier.GetJobOutputOutput, error) {
	t.Helper()
	in := &glacier.GetJobOutputInput{VaultName: aws.String("vault"), JobId: id}
	if span != "" {
		in.Range = &span
	}
	out, err := c.GetJobOutput(t.Context(), in)
	if err != nil {
		return nil, nil, err
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	return data, out, err
}

func describe(t *testing.T, c *glacier.Client, id *string) *glacier.DescribeJobOutput {
	t.Helper()
	out, err := c.DescribeJob(t.Context(), &glacier.DescribeJobInput{VaultName: aws.String("vault"), JobId: id})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRetrievalsTakeTheirTime(t *testing.T) {
	server, c := begin(t)
	data := content(3*megabyte + 1)
	id := server.Put(t, "vault", "about it", data)
	jobs := map[string]*string{}
	for _, tier := range []string{"Expedited", "Standard", "Bulk", ""} {
		job, err := ask(c, retrieval(id, tier))
		if err != nil {
			t.Fatal(err)
		}
		jobs[tier] = job
	}
	if _, err := ask(c, retrieval(id, "Slow")); code(err) != "InvalidParameterValueException" {
		t.Errorf("by a tier that there is not: %v", err)
	}
	expect := func(want ...string) {
		t.Helper()
		for tier, job := range jobs {
			d := describe(t, c, job)
			_, _, err := fetch(t, c, job, "")
			if slices.Contains(want, tier) {
				if err != nil || !d.Completed || d.StatusCode != types.StatusCodeSucceeded || d.CompletionDate == nil || aws.ToString(d.SHA256TreeHash) != sumOf(t, data) {
					t.Errorf("%q, which is done: %v, %+v", tier, err, d)
				}
				continue
			}
			if code(err) != "InvalidParameterValueException" || d.Completed || d.StatusCode != types.StatusCodeInProgress || d.CompletionDate != nil {
				t.Errorf("%q, which is not done: %v, %+v", tier, err, d)
			}
		}
		list, err := c.ListJobs(t.Context(), &glacier.ListJobsInput{VaultName: aws.String("vault"), Completed: aws.String("true")})
		if err != nil || len(list.JobList) != len(want) {
			t.Errorf("listed as done are %+v, %v", list, err)
		}
	}
	expect()
	server.Advance(glaciertest.ExpeditedTime)
	expect("Expedited")
	server.Advance(glaciertest.StandardTime)
	expect("Expedited", "Standard", "")
	server.Advance(glaciertest.BulkTime)
	expect("Expedited", "Standard", "", "Bulk")
	d := describe(t, c, jobs[""])
	if aws.ToString(d.Tier) != "Standard" || aws.ToString(d.ArchiveId) != id || aws.ToInt64(d.ArchiveSizeInBytes) != int64(len(data)) || aws.ToString(d.RetrievalByteRange) != "0-3145728" || d.Action != types.ActionCodeArchiveRetrieval {
		t.Errorf("without a tier the job is %+v", d)
	}

	// A day after it is done each is forgotten.
	server.Advance(glaciertest.OutputKept - glaciertest.BulkTime)
	for _, tier := range []string{"Expedited", "Standard"} {
		if _, _, err := fetch(t, c, jobs[tier], ""); code(err) != "ResourceNotFoundException" {
			t.Errorf("%q, long past: %v", tier, err)
		}
	}
	if _, _, err := fetch(t, c, jobs["Bulk"], ""); err != nil {
		t.Errorf("bulk, not so long past: %v", err)
	}
	if all := server.Jobs(t, "vault"); len(all) != 4 || server.Asked(t, "vault", id) != 4 || !all[0].Expired {
		t.Errorf("known are %+v", all)
	}
}

func TestOutputByRanges(t *testing.T) {
	server, c := begin(t)
	data := content(6*megabyte + megabyte/2) // the documentation's example
	id := server.Put(t, "vault", "about it", data)
	whole, err := ask(c, retrieval(id, "Expedited"))
	if err != nil {
		t.Fatal(err)
	}
	part := retrieval(id, "Expedited")
	part.RetrievalByteRange = aws.String("4194304-6291455")
	middle, err := ask(c, part)
	if err != nil {
		t.Fatal(err)
	}
	odd := retrieval(id, "Expedited")
	odd.RetrievalByteRange = aws.String("1048576-3145727")
	crooked, err := ask(c, odd)
	if err != nil {
		t.Fatal(err)
	}
	for _, span := range []string{"0-1048574", "1-1048575", "0-7340031", "5-4", "x"} {
		p := retrieval(id, "")
		p.RetrievalByteRange = &span
		if _, err := ask(c, p); code(err) != "InvalidParameterValueException" {
			t.Errorf("retrieving %s: %v", span, err)
		}
	}
	server.Advance(glaciertest.ExpeditedTime)
	for _, tt := range []struct {
		job      *string
		span     string
		from, to int
		of       string // of Content-Range
		sum      bool
	}{
		{whole, "", 0, len(data), "", true},
		{whole, "bytes=0-1048575", 0, megabyte, "bytes 0-1048575/6815744", true},
		{whole, "bytes=2097152-4194303", 2 * megabyte, 4 * megabyte, "bytes 2097152-4194303/6815744", true},
		{whole, "bytes=1048576-3145727", megabyte, 3 * megabyte, "bytes 1048576-3145727/6815744", false},
		{whole, "bytes=4194304-", 4 * megabyte, len(data), "bytes 4194304-6815743/6815744", true},
		{whole, "bytes=4194304-9999999", 4 * megabyte, len(data), "bytes 4194304-6815743/6815744", true},
		{whole, "bytes=10-19", 10, 20, "bytes 10-19/6815744", false},
		{middle, "", 4 * megabyte, 6 * megabyte, "", true},
		{middle, "bytes=1048576-2097151", 5 * megabyte, 6 * megabyte, "bytes 1048576-2097151/2097152", true},
		{crooked, "", megabyte, 3 * megabyte, "", false},
		{crooked, "bytes=0-1048575", megabyte, 2 * megabyte, "bytes 0-1048575/2097152", false},
	} {
		got, out, err := fetch(t, c, tt.job, tt.span)
		if err != nil || !bytes.Equal(got, data[tt.from:tt.to]) {
			t.Errorf("%q: %d bytes, %v", tt.span, len(got), err)
			continue
		}
		want := ""
		if tt.sum {
			want = sumOf(t, got)
		}
		if aws.ToString(out.Checksum) != want || aws.ToString(out.ContentRange) != tt.of || aws.ToString(out.ArchiveDescription) != "about it" {
			t.Errorf("%q: checksum %q, not %q; range %q", tt.span, aws.ToString(out.Checksum), want, aws.ToString(out.ContentRange))
		}
		if status := int32(206); tt.span != "" && out.Status != status {
			t.Errorf("%q: status %d", tt.span, out.Status)
		}
	}
	for _, span := range []string{"bytes=6815744-", "bytes=5-4", "bytes=x", "bytes=-5"} {
		if _, _, err := fetch(t, c, whole, span); code(err) != "InvalidParameterValueException" {
			t.Errorf("%q: %v", span, err)
		}
	}
	if d := describe(t, c, crooked); d.SHA256TreeHash != nil {
		t.Errorf("a range that is not aligned has the hash %s", *d.SHA256TreeHash)
	}
	if d := describe(t, c, middle); aws.ToString(d.SHA256TreeHash) != sumOf(t, data[4*megabyte:6*megabyte]) {
		t.Errorf("a range that is aligned has the hash %s", aws.ToString(d.SHA256TreeHash))
	}
}

func TestJobsAreListedOnPages(t *testing.T) {
	server, c := begin(t)
	id := server.Put(t, "vault", "", content(1))
	want := map[string]bool{}
	for range 60 {
		job, err := ask(c, retrieval(id, "Bulk"))
		if err != nil {
			t.Fatal(err)
		}
		want[*job] = true
	}
	quick, err := ask(c, retrieval(id, "Expedited"))
	if err != nil {
		t.Fatal(err)
	}
	server.Advance(time.Hour)
	list := func(in *glacier.ListJobsInput) (ids []string, pages int) {
		t.Helper()
		in.VaultName = aws.String("vault")
		p := glacier.NewListJobsPaginator(c, in)
		for p.HasMorePages() {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, j := range page.JobList {
				ids = append(ids, aws.ToString(j.JobId))
			}
		}
		return ids, pages
	}
	if ids, pages := list(&glacier.ListJobsInput{}); len(ids) != 61 || pages != 2 {
		t.Errorf("%d jobs on %d pages", len(ids), pages)
	}
	ids, pages := list(&glacier.ListJobsInput{Statuscode: aws.String("InProgress"), Limit: aws.Int32(25)})
	if len(ids) != 60 || pages != 3 {
		t.Errorf("%d jobs in progress on %d pages", len(ids), pages)
	}
	for _, id := range ids {
		delete(want, id)
	}
	if len(want) != 0 {
		t.Errorf("%d jobs are not listed", len(want))
	}
	for _, in := range []*glacier.ListJobsInput{{Statuscode: aws.String("Succeeded")}, {Completed: aws.String("true")}} {
		if ids, _ := list(in); !slices.Equal(ids, []string{*quick}) {
			t.Errorf("done are %q", ids)
		}
	}
	if ids, _ := list(&glacier.ListJobsInput{Completed: aws.String("true"), Statuscode: aws.String("InProgress")}); len(ids) != 0 {
		t.Errorf("done and in progress are %q", ids)
	}
	server.Advance(3 * 24 * time.Hour)
	if ids, _ := list(&glacier.ListJobsInput{}); len(ids) != 0 {
		t.Errorf("much later there are %q", ids)
	}
}

func TestRetrievalOfWhatIsDeleted(t *testing.T) {
	server, c := begin(t)
	id, other := server.Put(t, "vault", "", content(10)), server.Put(t, "vault", "", content(20))
	early, err := ask(c, retrieval(id, "Expedited"))
	if err != nil {
		t.Fatal(err)
	}
	late, err := ask(c, retrieval(id, "Bulk"))
	if err != nil {
		t.Fatal(err)
	}
	fails, err := ask(c, retrieval(other, "Bulk"))
	if err != nil {
		t.Fatal(err)
	}
	server.FailJob(t, "vault", *fails)
	server.Advance(time.Hour)
	for range 2 {
		if _, err := c.DeleteArchive(t.Context(), &glacier.DeleteArchiveInput{VaultName: aws.String("vault"), ArchiveId: &id}); err != nil {
			t.Fatal(err)
		}
	}
	after, err := ask(c, retrieval(id, "Bulk"))
	if err != nil {
		t.Fatal(err)
	}
	server.Advance(12 * time.Hour)
	if got, _, err := fetch(t, c, early, ""); err != nil || !bytes.Equal(got, content(10)) {
		t.Errorf("what was there before it was deleted: %q, %v", got, err)
	}
	for what, job := range map[string]*string{"in progress when it was deleted": late, "asked for after it was deleted": after, "made to fail": fails} {
		if _, _, err := fetch(t, c, job, ""); code(err) != "InvalidParameterValueException" {
			t.Errorf("%s: %v", what, err)
		}
		if d := describe(t, c, job); d.StatusCode != types.StatusCodeFailed || !d.Completed || d.CompletionDate == nil {
			t.Errorf("%s: %+v", what, d)
		}
	}
	server.Advance(24 * time.Hour)
	if _, err := ask(c, retrieval(id, "Bulk")); code(err) != "ResourceNotFoundException" {
		t.Errorf("asked for long after it was deleted: %v", err)
	}
}

// inventory is what a job of one brings.
type inventory struct {
	VaultARN, InventoryDate string
	ArchiveList             []struct {
		ArchiveID, ArchiveDescription, CreationDate, SHA256TreeHash string
		Size                                                        int64
	}
}

func (i inventory) descriptions() string {
	var all []string
	for _, a := range i.ArchiveList {
		all = append(all, a.ArchiveDescription)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestInventoryIsADayBehind(t *testing.T) {
	noon := time.Date(2030, 1, 10, 12, 0, 0, 0, time.UTC)
	server := glaciertest.Start(t, glaciertest.At(noon))
	c := client(server, server.Secret)
	server.Make(t, "vault")
	take := func() (inventory, error) {
		t.Helper()
		job, err := ask(c, &types.JobParameters{Type: aws.String("inventory-retrieval")})
		if err != nil {
			return inventory{}, err
		}
		if _, _, err := fetch(t, c, job, ""); code(err) != "InvalidParameterValueException" {
			t.Errorf("at once: %v", err)
		}
		server.Advance(glaciertest.InventoryTime)
		text, out, err := fetch(t, c, job, "")
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.ContentType) != "application/json" || out.Checksum != nil {
			t.Errorf("the inventory is of type %s", aws.ToString(out.ContentType))
		}
		if d := describe(t, c, job); aws.ToInt64(d.InventorySizeInBytes) != int64(len(text)) || d.Action != types.ActionCodeInventoryRetrieval {
			t.Errorf("the job is %+v", d)
		}
		var i inventory
		return i, json.Unmarshal(text, &i)
	}
	until := func(day, hour int) {
		t.Helper()
		server.Advance(time.Date(2030, 1, day, hour, 0, 1, 0, time.UTC).Sub(server.Now()))
	}
	expect := func(when, date, want string) {
		t.Helper()
		i, err := take()
		if err != nil || i.InventoryDate != date || i.descriptions() != want {
			t.Errorf("%s the inventory of %s has %q, %v", when, i.InventoryDate, i.descriptions(), err)
		}
	}
	a := server.Put(t, "vault", "a", content(10))
	until(11, 23)
	if _, err := take(); code(err) != "ResourceNotFoundException" {
		t.Errorf("before there is one: %v", err)
	}
	until(12, 1)
	server.Put(t, "vault", "b", content(20))
	expect("on the 12th", "2030-01-11T00:00:00Z", "a")
	until(13, 23)
	expect("on the 13th", "2030-01-11T00:00:00Z", "a")
	until(14, 12)
	server.Delete(t, "vault", a)
	expect("on the 14th", "2030-01-13T00:00:00Z", "a b")
	until(15, 23)
	expect("on the 15th", "2030-01-13T00:00:00Z", "a b")
	until(16, 12)
	expect("on the 16th", "2030-01-15T00:00:00Z", "b")
	until(30, 12)
	i, err := take()
	if err != nil || i.InventoryDate != "2030-01-15T00:00:00Z" || len(i.ArchiveList) != 1 {
		t.Fatalf("nothing has changed since the 14th, and the inventory is %+v, %v", i, err)
	}
	b := i.ArchiveList[0]
	if want := server.Archives(t, "vault")[0]; b.ArchiveID != want.ID || b.Size != 20 || b.SHA256TreeHash != want.Tree || b.CreationDate != want.Created.Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("listed is %+v, there is %+v", b, want)
	}
}

func TestInventoryInPieces(t *testing.T) {
	server, c := begin(t)
	for i := range 5 {
		server.Put(t, "vault", fmt.Sprintf(`%d, "quoted"`, i), content(10+i))
	}
	between := server.Now()
	server.Advance(time.Hour)
	server.Put(t, "vault", "later", content(1))
	server.Advance(48 * time.Hour)
	get := func(p *types.InventoryRetrievalJobInput) (i inventory, next *string) {
		t.Helper()
		job, err := ask(c, &types.JobParameters{Type: aws.String("inventory-retrieval"), InventoryRetrievalParameters: p})
		if err != nil {
			t.Fatal(err)
		}
		server.Advance(glaciertest.InventoryTime)
		text, _, err := fetch(t, c, job, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &i); err != nil {
			t.Fatal(err)
		}
		return i, describe(t, c, job).InventoryRetrievalParameters.Marker
	}
	date := between.Add(time.Minute).Format(time.RFC3339)
	if i, _ := get(&types.InventoryRetrievalJobInput{StartDate: &date}); i.descriptions() != "later" {
		t.Errorf("from a date on: %s", i.descriptions())
	}
	if i, _ := get(&types.InventoryRetrievalJobInput{EndDate: &date}); len(i.ArchiveList) != 5 {
		t.Errorf("up to a date: %s", i.descriptions())
	}
	seen := map[string]bool{}
	var marker *string
	for range 3 {
		var i inventory
		i, marker = get(&types.InventoryRetrievalJobInput{Limit: aws.String("2"), Marker: marker})
		for _, a := range i.ArchiveList {
			seen[a.ArchiveID] = true
		}
	}
	if len(seen) != 6 || marker != nil {
		t.Errorf("in pieces there are %d archives, and more at %q", len(seen), aws.ToString(marker))
	}

	job, err := ask(c, &types.JobParameters{Type: aws.String("inventory-retrieval"), Format: aws.String("CSV")})
	if err != nil {
		t.Fatal(err)
	}
	server.Advance(glaciertest.InventoryTime)
	text, out, err := fetch(t, c, job, "")
	if err != nil || aws.ToString(out.ContentType) != "text/csv" {
		t.Fatalf("of type %s: %v", aws.ToString(out.ContentType), err)
	}
	// Amazon's quoting is not that of others.
	rows, err := csv.NewReader(strings.NewReader(strings.ReplaceAll(string(text), `\"`, `""`))).ReadAll()
	quoted := 0
	for _, row := range rows {
		if strings.HasSuffix(row[1], `, "quoted"`) {
			quoted++
		}
	}
	if err != nil || len(rows) != 7 || len(rows[1]) != 5 || quoted != 5 {
		t.Errorf("as CSV: %q, %v", text, err)
	}
}
