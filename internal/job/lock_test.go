package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// olderServer is a store that knows the long lock only.
type olderServer struct{ *storetest.Memory }

func (olderServer) LockTaking(context.Context, string) (func() error, error) {
	return nil, fmt.Errorf("far: %w", errors.ErrUnsupported)
}

// TestTakeWhileLocked: who has the directory for days keeps nobody from making
// snapshots, unless a server does not know how to tell these apart.
func TestTakeWhileLocked(t *testing.T) {
	src := newNightly(t)
	release, err := src.Lock(t.Context(), "a transfer")
	if err != nil {
		t.Fatal(err)
	}
	r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Wait: true})
	if got := taken(t, r, err); got != "20261120-231455" {
		t.Error(got)
	}
	_, err = src.Take(t.Context(), olderServer{src.Memory}, TakeOptions{Zone: time.UTC})
	if held, ok := errors.AsType[*store.LockedError](err); !ok || held.Holder != "a transfer" {
		t.Errorf("an older server: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	// There, what makes a snapshot with the long lock in hand does not wait for itself.
	if _, err := src.Backup(t.Context(), olderServer{src.Memory}, utc()); err != nil {
		t.Error(err)
	}
}

// TestTakersTakeTurns: of several that are at it in the same second, each finds what
// those before it have made.
func TestTakersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newNightly(t)
		names := make(chan string)
		const takers = 12
		for range takers {
			go func() {
				r, err := src.Take(t.Context(), slowly{src.Memory}, TakeOptions{Zone: time.UTC, Wait: true})
				if err != nil {
					names <- err.Error()
					return
				}
				names <- r.Name
			}()
		}
		var got, want []string
		for i := range takers {
			got = append(got, <-names)
			want = append(want, fmt.Sprintf("20261120-2314%d", 55+i))
			if i >= 5 {
				want[i] = fmt.Sprintf("20261120-2315%02d", i-5)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// Of names that have only the day, one is all that is needed: nobody fails.
		made := 0
		for range takers {
			go func() {
				_, err := src.Take(t.Context(), slowly{src.Memory}, TakeOptions{Zone: time.UTC, Wait: true, Layout: "YYYY-MM-DD"})
				names <- fmt.Sprint(err)
			}()
		}
		for range takers {
			if got := <-names; got != "<nil>" {
				t.Error(got)
			}
		}
		for _, s := range list(t, src.Memory).Inside() {
			if len(s.Path) == len(time.DateOnly) {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d snapshots of one day", made)
		}
	})
}

// slowly is a store that takes its time between a listing and a snapshot.
type slowly struct{ *storetest.Memory }

func (s slowly) Snapshot(ctx context.Context, path string) (snapshot.Snapshot, error) {
	time.Sleep(time.Second)
	return s.Memory.Snapshot(ctx, path)
}

// vanishing is a store whose last snapshot goes while it is compared with.
type vanishing struct {
	*storetest.Memory
	gone snapshot.Snapshot
}

func (v *vanishing) Changed(ctx context.Context, since snapshot.ID) (bool, error) {
	if since != v.gone.ID {
		return true, nil
	}
	if err := v.Remove(ctx, v.gone); err != nil {
		return false, err
	}
	return false, errors.New("it is not there any more")
}

// TestTakeOnlyIfChangedSinceWhatIsThere: a snapshot that another run removes meanwhile
// is no reason to make none, nor to fail.
func TestTakeOnlyIfChangedSinceWhatIsThere(t *testing.T) {
	src := newNightly(t)
	src.add(1, 2)
	v := &vanishing{Memory: src.Memory, gone: src.add(2, 1)}
	r, err := src.Take(t.Context(), v, TakeOptions{Zone: time.UTC, OnlyIfChanged: true})
	if got := taken(t, r, err); got != "20261120-231455" || r.Last == nil || r.Last.ID == v.gone.ID {
		t.Errorf("%s, %+v", got, r)
	}
}

// TestBackupGivesWay: a run without destinations leaves what is due to the next one
// where another run is at work, for as long as that takes; nothing of it takes force
// then. With nothing to remove there is nothing to put off.
func TestBackupGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newNightly(t)
		now := night
		src.Engine.Now = func() time.Time { return now }
		hour := func() *BackupReport {
			t.Helper()
			now = now.Add(time.Hour)
			r, err := src.Take(t.Context(), src.Memory, TakeOptions{Zone: time.UTC, Wait: true})
			if err != nil {
				t.Fatal(err)
			}
			o := utc()
			o.NoSnapshot, o.Made, o.Rules, o.Wait, o.PutOffAfter = true, r.Taken, schedule.Rules{Last: 3}, true, 5*time.Second
			report, err := src.Backup(t.Context(), src.Memory, o)
			if err != nil {
				t.Fatal(err)
			}
			if !report.Newest.Equal(now) {
				t.Errorf("the newest is of %s, want %s", report.Newest, now)
			}
			return report
		}
		release, err := src.Lock(t.Context(), "buttersink run nightly")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			r := hour()
			switch due := i + 1 - 3; {
			case due <= 0 && r.PutOff != nil:
				t.Fatalf("%d: %s", i, r.PutOff)
			case due > 0 && (r.PutOff == nil || r.PutOff.Due != due || !strings.Contains(r.PutOff.String(), "buttersink run nightly")):
				t.Fatalf("%d: %v, want %d", i, r.PutOff, due)
			}
		}
		if n := len(held(t, src.Memory)); n != 40 {
			t.Errorf("%d snapshots are there", n)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
		if r := hour(); r.PutOff != nil || r.Source == nil || len(r.Source.Removed) != 38 {
			t.Errorf("afterwards: %+v", r)
		}
		if n := len(held(t, src.Memory)); n != 3 {
			t.Errorf("%d snapshots stay", n)
		}

		// Another run that is at it for a moment only is waited for.
		if release, err = src.Lock(t.Context(), "another prune"); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Second, func() { _ = release() })
		if r := hour(); r.PutOff != nil || r.Source == nil || len(r.Source.Removed) != 1 {
			t.Errorf("after a moment: %+v", r)
		}
	})
}
