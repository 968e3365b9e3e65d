package endurance

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/s3test"
)

// A watch sees every request that the program makes of an archive in S3.
type watch struct {
	*s3test.Storm
	run   int
	since map[int]int // the number of requests when a run began
}

// watched puts a watch before an archive's server.
func watched(t *testing.T, d *depot) *watch {
	t.Helper()
	b := d.bucket.(s3Bucket)
	w := &watch{Storm: b.server.Storm(t), since: map[int]int{}}
	d.env = b.server.EnvAt(w.Endpoint)
	return w
}

// next says that another run begins.
func (w *watch) next() {
	w.run++
	w.since[w.run] = w.Count()
}

// sends waits until a part that a run has sent is stored, or the run has ended.
func (w *watch) sends(r *run) {
	taken := func() (n int) {
		for _, q := range w.Requests("UploadPart") {
			if q.Status == 200 {
				n++
			}
		}
		return n
	}
	for before := taken(); taken() == before && !r.gone(); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(rand.N(5 * time.Millisecond))
}

// forget begins anew.
func (w *watch) forget() {
	w.Forget()
	w.run, w.since = 0, map[int]int{}
}

// A storedPart is a part that the server has taken.
type storedPart struct {
	upload string
	number int
}

// stored returns how often each part was stored, and in which runs something of
// each upload was.
func (w *watch) stored() (count map[storedPart]int, runs map[string]map[int]bool) {
	count, runs = map[storedPart]int{}, map[string]map[int]bool{}
	run := 0
	for i, r := range w.Requests() {
		for run < w.run && w.since[run+1] <= i {
			run++
		}
		if r.Op != "UploadPart" || r.Status != 200 {
			continue
		}
		part := partOf(r)
		count[part]++
		if runs[part.upload] == nil {
			runs[part.upload] = map[int]bool{}
		}
		runs[part.upload][run] = true
	}
	return count, runs
}

func partOf(r s3test.Request) storedPart {
	number, _ := strconv.Atoi(r.Query.Get("partNumber"))
	return storedPart{r.Query.Get("uploadId"), number}
}

// once fails the test if a part that had been stored was stored again.
func (w *watch) once(t *testing.T) {
	t.Helper()
	count, _ := w.stored()
	for part, n := range count {
		if n > 1 {
			t.Errorf("part %d of an upload is sent %d times", part.number, n)
		}
	}
}

// carriedOn returns how many uploads got parts in more than one run.
func (w *watch) carriedOn() int {
	_, runs := w.stored()
	n := 0
	for _, of := range runs {
		if len(of) > 1 {
			n++
		}
	}
	return n
}

// parts returns the numbers of the parts of an object that were sent, in order.
func (w *watch) parts(key string) []int {
	var numbers []int
	for _, r := range w.Requests("UploadPart") {
		if r.Key == key {
			numbers = append(numbers, partOf(r).number)
		}
	}
	slices.Sort(numbers)
	return numbers
}
