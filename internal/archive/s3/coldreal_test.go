package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/s3test"
	contract "github.com/buttersink/buttersink/internal/store"
)

// openCold opens a bucket behind a cold storage.
func openCold(t *testing.T, server *s3test.Server, cold *s3test.Cold, o Options) *Bucket {
	t.Helper()
	o.Getenv = environment(server.EnvAt(cold.Endpoint))
	return open(t, server, o)
}

// states are how things stand with objects.
func states(t *testing.T, b *Bucket, o contract.ThawOptions, keys ...string) []contract.Thawing {
	t.Helper()
	all, err := b.Thaw(t.Context(), keys, o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func stateOf(t *testing.T, b *Bucket, o contract.ThawOptions, key string) contract.ThawState {
	t.Helper()
	return states(t, b, o, key)[0].State
}

// TestLifeInTheCold does what TestAWS does, on a server that is here.
func TestLifeInTheCold(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	b := openCold(t, server, cold, Options{Class: "GLACIER"})
	waited := 0
	lives(t.Context(), t, b, "p/", func(contract.Thawing) {
		waited++
		cold.Advance(s3test.ExpeditedTime)
	}, cold.Now)
	if waited != 1 {
		t.Errorf("waited %d times", waited)
	}
}

// TestThawInEveryClass goes through all classes and tiers: what is asked for, when
// it is there, and when it is gone again.
func TestThawInEveryClass(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	b := openCold(t, server, cold, Options{})
	keys := []string{"STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"}
	times := map[contract.Tier]map[string]time.Duration{
		contract.Bulk: {
			"GLACIER": s3test.BulkTime, "DEEP_ARCHIVE": s3test.DeepBulkTime, "ARCHIVE_ACCESS": s3test.BulkTime, "DEEP_ARCHIVE_ACCESS": s3test.DeepBulkTime,
		},
		contract.Standard: {
			"GLACIER": s3test.StandardTime, "DEEP_ARCHIVE": s3test.DeepStandardTime, "ARCHIVE_ACCESS": s3test.StandardTime, "DEEP_ARCHIVE_ACCESS": s3test.DeepStandardTime,
		},
		contract.Expedited: {"GLACIER": s3test.ExpeditedTime, "ARCHIVE_ACCESS": s3test.ExpeditedTime},
	}
	for tier, takes := range times {
		for _, key := range keys {
			if err := b.Put(t.Context(), key, []byte(key), false); err != nil {
				t.Fatal(err)
			}
			if archived := key == "ARCHIVE_ACCESS" || key == "DEEP_ARCHIVE_ACCESS"; archived {
				cold.Move(t, b.o.Bucket, key, "INTELLIGENT_TIERING")
				cold.Archive(t, b.o.Bucket, key, key)
			} else {
				cold.Move(t, b.o.Bucket, key, key)
			}
		}
		isCold := func(key string) bool { return times[contract.Bulk][key] != 0 }
		for i, got := range states(t, b, contract.ThawOptions{}, keys...) {
			if (got.State == contract.Cold) != isCold(keys[i]) || got.Asked != (time.Time{}) {
				t.Errorf("%s is %+v", keys[i], got)
			}
		}
		before := len(cold.Asks())
		for range 2 {
			all, err := b.Thaw(t.Context(), keys, contract.ThawOptions{Ask: true, Tier: tier, Days: 3})
			if denied := tier == contract.Expedited; (err != nil) != denied {
				t.Errorf("%s: %v", tier, err)
			}
			for i, got := range all {
				want := contract.Readable
				switch {
				case takes[keys[i]] != 0:
					want = contract.Pending
				case isCold(keys[i]):
					want = contract.Cold
				}
				if got.State != want {
					t.Errorf("%s, asked for as %s, is %+v", keys[i], tier, got)
				}
			}
		}
		if got := len(cold.Asks()) - before; got != len(takes) {
			t.Errorf("%s: %d are asked for", tier, got)
		}
		elapsed := time.Duration(0)
		for _, due := range slices.Compact(slices.Sorted(maps.Values(takes))) {
			for _, late := range []time.Duration{-time.Minute, time.Minute} {
				cold.Advance(due + late - elapsed)
				elapsed = due + late
				for key, time := range takes {
					want := contract.Pending
					if time < elapsed {
						want = contract.Readable
						if got := get(t, b, key, 0, 100); string(got) != key {
							t.Errorf("%s holds %q", key, got)
						}
					}
					if s := stateOf(t, b, contract.ThawOptions{}, key); s != want {
						t.Errorf("%s, asked for as %s, is %s after %v", key, tier, s, elapsed)
					}
				}
			}
		}
		cold.Advance(5 * 24 * time.Hour)
		for i, got := range states(t, b, contract.ThawOptions{}, keys...) {
			// What was moved out of an archive tier stays.
			gone := keys[i] == "GLACIER" || keys[i] == "DEEP_ARCHIVE" || isCold(keys[i]) && takes[keys[i]] == 0
			if (got.State == contract.Cold) != gone || gone && got.Until != (time.Time{}) {
				t.Errorf("%s, long after, is %+v", keys[i], got)
			}
		}
	}
}

// TestWhatAnotherHasAskedFor: how things stand is the server's knowledge, so that
// another program, after a restart of everything, asks for nothing again.
func TestWhatAnotherHasAskedFor(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	b := openCold(t, server, cold, Options{})
	keys := []string{"a", "b", "c"}
	for _, key := range keys {
		if err := b.Put(t.Context(), key, []byte(key), false); err != nil {
			t.Fatal(err)
		}
		cold.Move(t, b.o.Bucket, key, "DEEP_ARCHIVE")
	}
	ask := contract.ThawOptions{Ask: true}
	if got := states(t, b, ask, keys[:2]...); !got[0].Fresh || !got[1].Fresh {
		t.Errorf("they are %+v", got)
	}
	cold.Restart()
	// Several at a time, which may want it sooner.
	const machines = 4
	fresh := make(chan int, machines)
	for range machines {
		other := openCold(t, server, cold, Options{Bucket: b.o.Bucket})
		go func() {
			n := 0
			all, err := other.Thaw(t.Context(), keys, ask)
			for _, got := range all {
				if got.Fresh {
					n++
				}
				if got.State != contract.Pending {
					t.Errorf("it is %+v", got)
				}
			}
			if err != nil {
				t.Error(err)
			}
			fresh <- n
		}()
	}
	sum := 0
	for range machines {
		sum += <-fresh
	}
	if sum != 1 {
		t.Errorf("%d have been asked for", sum)
	}
	for _, key := range keys {
		if n := cold.Asked(b.o.Bucket, key); n != 1 {
			t.Errorf("%s has been asked for %d times", key, n)
		}
	}
}

// TestCopyThatExpiresWhileItIsRead: what is on its way comes to its end, and the next
// range has to be asked for again.
func TestCopyThatExpiresWhileItIsRead(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	b := openCold(t, server, cold, Options{})
	data := content(5, 3<<20)
	if err := b.Put(t.Context(), "k", data, false); err != nil {
		t.Fatal(err)
	}
	cold.Move(t, b.o.Bucket, "k", "GLACIER")
	states(t, b, contract.ThawOptions{Ask: true, Days: 1}, "k")
	cold.Advance(s3test.BulkTime)
	in, err := b.Get(t.Context(), "k", 0, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(in, first); err != nil {
		t.Fatal(err)
	}
	cold.Advance(3 * 24 * time.Hour)
	rest, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(slices.Concat(first, rest), data[:2<<20]) {
		t.Errorf("%d bytes of what was on its way, %v", len(rest), err)
	}
	_, err = b.Get(t.Context(), "k", 2<<20, 1<<20)
	if gone, ok := errors.AsType[*archive.ColdError](err); !ok || gone.Class != "GLACIER" || gone.Key != "k" || contract.Temporary(err) || !strings.Contains(err.Error(), "GLACIER") {
		t.Errorf("the next range: %v", err)
	}
	if got := states(t, b, contract.ThawOptions{Ask: true}, "k")[0]; !got.Fresh || cold.Asked(b.o.Bucket, "k") != 2 {
		t.Errorf("it is %+v", got)
	}
}

// TestThawingThatIsNotAllowed is told by the name of what is missing, and does not
// keep from reading what is thawed already.
func TestThawingThatIsNotAllowed(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	root := openCold(t, server, cold, Options{})
	if err := root.Put(t.Context(), "k", []byte("content"), false); err != nil {
		t.Fatal(err)
	}
	cold.Move(t, root.o.Bucket, "k", "GLACIER")
	access, secret := server.User(t, root.o.Bucket, s3test.Everything...)
	b := open(t, server, Options{Bucket: root.o.Bucket, Getenv: environment(s3test.EnvOf(cold.Endpoint, access, secret))})
	_, err := b.Thaw(t.Context(), []string{"k"}, contract.ThawOptions{Ask: true})
	if denied, ok := errors.AsType[*archive.DeniedError](err); !ok || denied.Action != "s3:RestoreObject" || denied.Key != "k" {
		t.Errorf("the error is %v", err)
	}
	if len(cold.AskedAll()) > 0 {
		t.Error("it was asked for")
	}
	states(t, root, contract.ThawOptions{Ask: true}, "k")
	for _, want := range []contract.ThawState{contract.Pending, contract.Readable} {
		if got := stateOf(t, b, contract.ThawOptions{Ask: true}, "k"); got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
		cold.Advance(s3test.BulkTime)
	}
	if diff := cmp.Diff("content", string(get(t, b, "k", 0, 100))); diff != "" {
		t.Error(diff)
	}
}

// TestThawThroughStorms asks for many objects while replies are lost and requests
// fail, in runs that are broken off: each is asked for once, and all come.
func TestThawThroughStorms(t *testing.T) {
	server := s3test.Start(t)
	cold := server.Cold(t)
	storm := cold.Storm(t)
	root := openCold(t, server, cold, Options{})
	var keys []string
	for i := range 30 {
		key := fmt.Sprintf("k/%02d", i)
		keys = append(keys, key)
		if err := root.Put(t.Context(), key, []byte(key), false); err != nil {
			t.Fatal(err)
		}
		cold.Move(t, root.o.Bucket, key, []string{"GLACIER", "DEEP_ARCHIVE"}[i%2])
	}
	storm.FailShare(0.2, 503, "SlowDown", "RestoreObject", "HeadObject")
	storm.Lose(12, "RestoreObject")
	for run := range 12 {
		b := open(t, server, Options{Bucket: root.o.Bucket, Getenv: environment(server.EnvAt(storm.Endpoint))})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(5*(run+1))*time.Millisecond, cancel)
		got, err := b.Thaw(ctx, keys, contract.ThawOptions{Ask: true, Days: 30})
		cancel()
		if err == nil {
			for _, g := range got {
				if g.State != contract.Pending {
					t.Errorf("%+v", g)
				}
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	storm.Calm()
	for _, got := range states(t, root, contract.ThawOptions{Ask: true, Days: 30}, keys...) {
		if got.State != contract.Pending {
			t.Errorf("%+v", got)
		}
	}
	cold.Advance(s3test.DeepBulkTime)
	for _, key := range keys {
		if n := cold.Asked(root.o.Bucket, key); n != 1 {
			t.Errorf("%s was asked for %d times", key, n)
		}
		if got := get(t, root, key, 0, 100); string(got) != key {
			t.Errorf("%s holds %q", key, got)
		}
	}
}
