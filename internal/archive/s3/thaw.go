package s3

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// usualDays is how long what was thawed stays readable where nobody says so.
const usualDays = 7

// Thaw tells how things stand with objects, and asks for those that are cold. The
// server keeps what has been asked for, so every machine sees the same.
func (b *Bucket) Thaw(ctx context.Context, keys []string, o store.ThawOptions) ([]store.Thawing, error) {
	if o.Tier == "" {
		o.Tier = store.Bulk
	}
	if o.Days == 0 {
		o.Days = usualDays
	}
	if o.Days < 0 || o.Days > math.MaxInt32 {
		return nil, fmt.Errorf("thawing objects in %s for %d days: want a day at least", b, o.Days)
	}
	if _, err := store.ParseTier(string(o.Tier)); err != nil {
		return nil, fmt.Errorf("thawing objects in %s: %w", b, err)
	}
	all, errs := make([]store.Thawing, len(keys)), make([]error, len(keys))
	first := map[string]int{} // where a key is to be found the first time

	const atOnce = 16
	var (
		work    = make(chan int)
		workers sync.WaitGroup
	)
	for range min(atOnce, len(keys)) {
		workers.Go(func() {
			for i := range work {
				all[i], errs[i] = b.thaw(ctx, keys[i], o)
			}
		})
	}
	for i, key := range keys {
		if _, seen := first[key]; !seen {
			first[key] = i
			work <- i
		}
	}
	close(work)
	workers.Wait()
	for i, key := range keys {
		all[i] = all[first[key]]
	}
	if ctx.Err() != nil {
		return all, fmt.Errorf("thawing objects in %s: %w", b, context.Cause(ctx))
	}
	return all, some(errs)
}

// thaw does so for one object.
func (b *Bucket) thaw(ctx context.Context, key string, o store.ThawOptions) (store.Thawing, error) {
	h, err := b.head(ctx, key)
	if err != nil {
		return store.Thawing{Object: key}, err
	}
	t := h.thawing()
	if t.State != store.Cold || !o.Ask {
		return t, nil
	}
	r := &request{doing: "thawing", key: key, action: "s3:RestoreObject"}
	if h.deep && o.Tier == store.Expedited {
		return t, r.wrap(b, fmt.Errorf("nothing comes out of %s within minutes; ask with another tier (--tier standard)", t.Class))
	}
	in := &sdk.RestoreObjectInput{Bucket: &b.o.Bucket, Key: &key, RestoreRequest: &types.RestoreRequest{
		GlacierJobParameters: &types.GlacierJobParameters{Tier: tiers[o.Tier]},
	}}
	if classOf(t.Class).cold { // what is not goes back to another tier, and stays
		in.RestoreRequest.Days = aws.Int32(int32(o.Days))
	}
	status := 0
	err = b.do(ctx, r, func(opt option) error {
		out, err := b.client.RestoreObject(ctx, in, opt)
		if err == nil {
			status = statusOf(out)
			err = whole(nil, status == http.StatusOK || status == http.StatusAccepted)
		}
		return err
	})
	a, _ := answerIn(err)
	_, still := errors.AsType[*archive.ColdError](err)
	switch {
	case err == nil && status == http.StatusAccepted:
		t.State, t.Asked, t.Tier, t.Fresh = store.Pending, time.Now().UTC(), o.Tier, true
		return t, nil
	case a.code == "RestoreAlreadyInProgress":
		// Another machine has been faster, or the reply to ourselves was lost.
		t.State = store.Pending
		if r.unsure {
			t.Asked, t.Tier, t.Fresh = time.Now().UTC(), o.Tier, true
		}
		return t, nil
	case err == nil, still, a.code == "ObjectAlreadyInActiveTierError":
		return b.notCold(ctx, r, key)
	case a.status == http.StatusNotImplemented:
		return t, r.wrap(b, fmt.Errorf("%w: the server cannot be asked for what is in %s", a, t.Class))
	}
	return t, err
}

// notCold looks again at an object that did not have to be thawed when it was asked
// for: it has been thawed meanwhile, or is another one.
func (b *Bucket) notCold(ctx context.Context, r *request, key string) (store.Thawing, error) {
	h, err := b.head(ctx, key)
	if err != nil {
		return store.Thawing{Object: key}, err
	}
	t := h.thawing()
	if t.State == store.Cold {
		return t, r.wrap(b, errors.New("the server says that there is nothing to thaw, and that it is cold"))
	}
	return t, nil
}

// tiers are our names for how soon something is wanted, as S3 has them.
var tiers = map[store.Tier]types.Tier{
	store.Bulk: types.TierBulk, store.Standard: types.TierStandard, store.Expedited: types.TierExpedited,
}

// statusOf is the status of a reply: that it says 200 and not 202 is all that tells
// that there was nothing to be done any more.
func statusOf(out *sdk.RestoreObjectOutput) int {
	if resp, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		return resp.StatusCode
	}
	return 0
}

// thawing is how things stand with an object.
func (h header) thawing() store.Thawing {
	t := store.Thawing{Object: h.Key, Bytes: h.Size, Class: h.Class, State: store.Readable}
	switch {
	case h.Cold && h.thaw.ongoing:
		t.State = store.Pending
	case h.Cold:
		t.State = store.Cold
	default:
		t.Until = h.thaw.until
	}
	return t
}

// thawed is what a server says of an object that was asked for.
type thawed struct {
	ongoing, done bool
	until         time.Time // zero if it is not known, or has no end
}

// parseRestore reads the header x-amz-restore:
//
//	ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"
//
// docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
func parseRestore(text string) (t thawed) {
	t.ongoing = quoted(text, "ongoing-request") == "true"
	t.done = quoted(text, "ongoing-request") == "false"
	date := quoted(text, "expiry-date")
	until, err := http.ParseTime(date)
	if err != nil {
		until, err = time.Parse(time.RFC3339, date)
	}
	if err == nil && t.done {
		t.until = until.UTC()
	}
	return t
}

// quoted is the value of a name in a list of name="value".
func quoted(text, name string) string {
	_, after, _ := strings.Cut(text, name+`="`)
	value, _, ok := strings.Cut(after, `"`)
	if !ok {
		return ""
	}
	return value
}

// someError is what keeps some of many objects from being thawed.
type someError struct{ errs []error }

func (e *someError) Error() string {
	return fmt.Sprintf("%v; there are errors of %d more objects", e.errs[0], len(e.errs)-1)
}

func (e *someError) Unwrap() []error { return e.errs }

// some is what there is of errors.
func some(all []error) error {
	var errs []error
	for _, err := range all {
		if err != nil {
			errs = append(errs, err)
		}
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return &someError{errs}
}
