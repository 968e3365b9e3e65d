package glacier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/aws-sdk-go-v2/service/glacier/types"

	"github.com/buttersink/buttersink/internal/store"
)

// Job is a request to the vault that takes hours.
type Job struct {
	ID          string
	Tier        store.Tier
	Asked, Done time.Time // Done is zero as long as it is not
	// Size is how long the archive is.
	Size int64
	// Fresh is set if it was this call that asked.
	Fresh bool
}

// OutputKept is how long the output of a job is there at least, once it is done.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-job-output-get.html
const OutputKept = 24 * time.Hour

// errNoJob says that a job, or its output, is not there any more.
var errNoJob = errors.New("no such job")

// tier is a tier as the API names it.
func tier(t store.Tier) (string, error) {
	switch t {
	case store.Bulk, "":
		return "Bulk", nil
	case store.Standard:
		return "Standard", nil
	case store.Expedited:
		return "Expedited", nil
	}
	return "", fmt.Errorf("%q is no way of thawing", t)
}

// Retrievals tells which of some archives have been asked for, by ID, and asks for
// the others if ask is set. One that is done counts before one that is not, and
// otherwise the newest; one whose output has expired does not. What keeps some from
// being asked for is the error; the map has the others all the same.
func (v *Vault) Retrievals(ctx context.Context, ids []string, t store.Tier, ask bool) (map[string]Job, error) {
	name, err := tier(t)
	if err != nil {
		return nil, fmt.Errorf("retrieving archives of %s: %w", v, err)
	}
	all, err := v.retrievals(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]Job{}
	var missing []string
	for _, id := range ids {
		if _, ok := found[id]; ok {
			continue
		}
		j, ok, err := v.current(ctx, all[id])
		switch {
		case err != nil:
			return nil, err
		case ok:
			found[id] = j
		default:
			missing = append(missing, id)
		}
	}
	if !ask {
		return found, nil
	}
	nowhere, err := v.askForAll(ctx, missing, name, found)
	for _, id := range nowhere {
		err = errors.Join(err, fmt.Errorf("asking for archive %s in %s: %w", id, v, errNoArchive))
	}
	return found, err
}

// askForAll asks for archives, some at a time, adds the jobs, and tells which are
// not in the vault.
func (v *Vault) askForAll(ctx context.Context, ids []string, tier string, found map[string]Job) (nowhere []string, err error) {
	const atATime = 4
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		errs  []error
		turn  = make(chan struct{}, atATime)
		asked = map[string]bool{}
	)
	for _, id := range ids {
		if asked[id] {
			continue
		}
		asked[id] = true
		turn <- struct{}{}
		group.Go(func() {
			defer func() { <-turn }()
			j, err := v.askFor(ctx, id, tier)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errNoArchive):
				nowhere = append(nowhere, id)
			case err != nil:
				errs = append(errs, err)
			default:
				found[id] = j
			}
		})
	}
	group.Wait()
	if len(errs) > 3 {
		errs = append(errs[:3:3], fmt.Errorf("and %d more", len(errs)-3))
	}
	slices.Sort(nowhere)
	return nowhere, errors.Join(errs...)
}

// askFor asks for one archive.
func (v *Vault) askFor(ctx context.Context, id, tier string) (Job, error) {
	r := &request{doing: "asking for", what: "archive " + id, action: "glacier:InitiateJob", missing: errNoArchive}
	wanted := &types.JobParameters{Type: aws.String("archive-retrieval"), ArchiveId: &id, Tier: &tier}
	return v.initiate(ctx, r, wanted, func() (Job, bool, error) {
		all, err := v.retrievals(ctx)
		if err != nil {
			return Job{}, false, err
		}
		return v.current(ctx, all[id])
	})
}

// errNoArchive says that a vault has no archive with an ID.
var errNoArchive = errors.New("there is no such archive")

// initiate asks for a job. When no reply comes it looks whether it has been asked
// for before it asks again.
func (v *Vault) initiate(ctx context.Context, r *request, wanted *types.JobParameters, look func() (Job, bool, error)) (Job, error) {
	r.once = true
	for attempt := 1; ; attempt++ {
		r.unsure = false
		begun := v.now().UTC()
		var out *sdk.InitiateJobOutput
		err := v.do(ctx, r, func(o option) (err error) {
			out, err = v.client.InitiateJob(ctx, &sdk.InitiateJobInput{AccountId: v.account(), VaultName: &v.o.Vault, JobParameters: wanted}, o)
			return whole(err, err == nil && aws.ToString(out.JobId) != "")
		})
		if err == nil {
			return Job{ID: *out.JobId, Tier: ourTier(aws.ToString(wanted.Tier)), Asked: begun, Fresh: true}, nil
		}
		if !r.unsure || ctx.Err() != nil {
			return Job{}, err
		}
		j, ok, e := look()
		if e != nil {
			return Job{}, fmt.Errorf("%w (whether it has been asked for all the same cannot be told: %w)", err, e)
		}
		if ok {
			j.Fresh = true
			return j, nil
		}
		if attempt >= v.attempts || !store.Temporary(err) {
			return Job{}, err
		}
		select {
		case <-ctx.Done():
			return Job{}, r.wrap(v, ctx.Err())
		case <-time.After(min(time.Second<<min(attempt-1, 10), v.longest)):
		}
	}
}

// ourTier is a tier of the API as we know it.
func ourTier(name string) store.Tier { return store.Tier(strings.ToLower(name)) }

// listJobs gives all jobs that the vault still knows of.
func (v *Vault) listJobs(ctx context.Context) ([]types.GlacierJobDescription, error) {
	r := &request{doing: "listing the jobs of", action: "glacier:ListJobs"}
	var (
		all    []types.GlacierJobDescription
		marker *string
	)
	for {
		var out *sdk.ListJobsOutput
		err := v.do(ctx, r, func(o option) (err error) {
			out, err = v.client.ListJobs(ctx, &sdk.ListJobsInput{AccountId: v.account(), VaultName: &v.o.Vault, Marker: marker}, o)
			return whole(err, err == nil && out.JobList != nil)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, out.JobList...)
		if marker, err = next(marker, out.Marker); err != nil {
			return nil, r.wrap(v, err)
		}
		if marker == nil {
			return all, nil
		}
	}
}

// retrievals gives the jobs that retrieve whole archives, by archive, the one that
// counts first.
func (v *Vault) retrievals(ctx context.Context) (map[string][]Job, error) {
	list, err := v.listJobs(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string][]Job{}
	for _, d := range list {
		if d.Action != types.ActionCodeArchiveRetrieval || d.StatusCode == types.StatusCodeFailed || !isWhole(d) {
			continue
		}
		id := aws.ToString(d.ArchiveId)
		all[id] = sooner(all[id], jobOf(d))
	}
	return all, nil
}

// isWhole reports whether a job retrieves all of an archive. Other programs may ask
// for less.
func isWhole(d types.GlacierJobDescription) bool {
	if d.RetrievalByteRange == nil {
		return true
	}
	first, last, ok := parseRange(*d.RetrievalByteRange)
	return ok && first == 0 && last == aws.ToInt64(d.ArchiveSizeInBytes)-1
}

// jobOf makes what the vault says of a job ours.
func jobOf(d types.GlacierJobDescription) Job {
	j := Job{
		ID: aws.ToString(d.JobId), Tier: ourTier(aws.ToString(d.Tier)), Asked: moment(d.CreationDate),
		Size: aws.ToInt64(d.ArchiveSizeInBytes),
	}
	if d.Completed && d.StatusCode == types.StatusCodeSucceeded {
		if j.Done = moment(d.CompletionDate); j.Done.IsZero() {
			j.Done = j.Asked
		}
	}
	return j
}

// sooner puts a job where it belongs among others: those that are done first, and
// of those the newest.
func sooner(jobs []Job, j Job) []Job {
	i := 0
	for ; i < len(jobs); i++ {
		done, other := !j.Done.IsZero(), !jobs[i].Done.IsZero()
		if done && !other || done == other && j.Asked.After(jobs[i].Asked) {
			break
		}
	}
	return append(jobs[:i:i], append([]Job{j}, jobs[i:]...)...)
}

// current is the first of some jobs whose output is there, or will be. Where it is
// so old that the output may be gone, the vault is asked.
func (v *Vault) current(ctx context.Context, jobs []Job) (Job, bool, error) {
	for _, j := range jobs {
		if v.isGone(j.ID) {
			continue
		}
		if !j.Done.IsZero() && v.now().Sub(j.Done) > OutputKept {
			there, err := v.hasOutput(ctx, j.ID)
			if err != nil {
				return Job{}, false, err
			}
			if !there {
				v.markGone(j.ID)
				continue
			}
		}
		return j, true, nil
	}
	return Job{}, false, nil
}

func (v *Vault) isGone(job string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone[job]
}

func (v *Vault) markGone(job string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone[job] = true
}

// hasOutput reports whether the output of a job can still be read.
func (v *Vault) hasOutput(ctx context.Context, job string) (bool, error) {
	out, err := v.output(ctx, job, aws.String("bytes=0-0"))
	if errors.Is(err, errNoJob) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, out.Body.Close()
}

// output asks for the output of a job.
func (v *Vault) output(ctx context.Context, job string, bytes *string) (*sdk.GetJobOutputOutput, error) {
	r := &request{doing: "reading the output of", what: "job " + job, action: "glacier:GetJobOutput", missing: errNoJob}
	var out *sdk.GetJobOutputOutput
	err := v.do(ctx, r, func(o option) (err error) {
		out, err = v.client.GetJobOutput(ctx, &sdk.GetJobOutputInput{AccountId: v.account(), VaultName: &v.o.Vault, JobId: &job, Range: bytes}, o)
		return err
	})
	return out, err
}
