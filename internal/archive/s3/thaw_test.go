package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buttersink/buttersink/internal/archive"
	contract "github.com/buttersink/buttersink/internal/store"
)

// replied is how a server of one object answers.
type replied struct {
	head    []map[string]string // headers, one after the other, the last for ever
	restore []string            // "202", "409 Code", "lost", the last for ever

	mu      sync.Mutex
	looked  int
	asked   []string // bodies
	unknown bool     // there is no such object
}

func (s *replied) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unknown {
		fail(w, r, "404 NoSuchKey")
		return
	}
	if r.Method == http.MethodHead {
		for name, value := range s.head[min(s.looked, len(s.head)-1)] {
			w.Header().Set(name, value)
		}
		s.looked++
		w.Header().Set("Content-Length", "7")
		w.Header().Set("ETag", `"tag"`)
		return
	}
	if !r.URL.Query().Has("restore") || r.Method != http.MethodPost {
		fail(w, r, "501 NotImplemented")
		return
	}
	body, _ := io.ReadAll(r.Body)
	answer := s.restore[min(len(s.asked), len(s.restore)-1)]
	s.asked = append(s.asked, string(body))
	if answer == "lost" {
		panic(http.ErrAbortHandler)
	}
	fail(w, r, answer)
}

// fail answers with a status and, behind it, a code of S3's.
func fail(w http.ResponseWriter, r *http.Request, answer string) {
	status, code := 0, ""
	_, _ = fmt.Sscan(answer, &status, &code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if code != "" && r.Method != http.MethodHead {
		fmt.Fprintf(w, `<Error><Code>%s</Code><Message>so it is</Message></Error>`, code)
	}
}

var (
	glacier = map[string]string{"X-Amz-Storage-Class": "GLACIER"}
	deep    = map[string]string{"X-Amz-Storage-Class": "DEEP_ARCHIVE"}
	ongoing = map[string]string{"X-Amz-Storage-Class": "GLACIER", "X-Amz-Restore": `ongoing-request="true"`}
	thawnTo = map[string]string{
		"X-Amz-Storage-Class": "GLACIER",
		"X-Amz-Restore":       `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`,
	}
	archived = map[string]string{"X-Amz-Storage-Class": "INTELLIGENT_TIERING", "X-Amz-Archive-Status": "ARCHIVE_ACCESS"}
	deepTier = map[string]string{"X-Amz-Storage-Class": "INTELLIGENT_TIERING", "X-Amz-Archive-Status": "DEEP_ARCHIVE_ACCESS"}
	moving   = map[string]string{
		"X-Amz-Storage-Class": "INTELLIGENT_TIERING", "X-Amz-Archive-Status": "ARCHIVE_ACCESS", "X-Amz-Restore": `ongoing-request="true"`,
	}
)

type heads = []map[string]string

// TestThaw goes through what servers say of objects, and of being asked for them.
func TestThaw(t *testing.T) {
	ask := contract.ThawOptions{Ask: true}
	for name, c := range map[string]struct {
		server *replied
		o      contract.ThawOptions
		want   contract.Thawing
		asked  int
		err    string
	}{
		"usual place":         {server: &replied{head: heads{nil}}, o: ask, want: contract.Thawing{State: contract.Readable}},
		"instant":             {server: &replied{head: heads{{"X-Amz-Storage-Class": "GLACIER_IR"}}}, o: ask, want: contract.Thawing{State: contract.Readable, Class: "GLACIER_IR"}},
		"cold, only looked":   {server: &replied{head: heads{glacier}}, want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}},
		"ongoing":             {server: &replied{head: heads{ongoing}}, o: ask, want: contract.Thawing{State: contract.Pending, Class: "GLACIER"}},
		"there":               {server: &replied{head: heads{thawnTo}}, o: ask, want: contract.Thawing{State: contract.Readable, Class: "GLACIER", Until: time.Date(2012, 12, 21, 0, 0, 0, 0, time.UTC)}},
		"tiering, not cold":   {server: &replied{head: heads{{"X-Amz-Storage-Class": "INTELLIGENT_TIERING"}}}, o: ask, want: contract.Thawing{State: contract.Readable, Class: "INTELLIGENT_TIERING"}},
		"tiering, on its way": {server: &replied{head: heads{moving}}, o: ask, want: contract.Thawing{State: contract.Pending, Class: "INTELLIGENT_TIERING"}},
		"asked for": {
			server: &replied{head: heads{glacier}, restore: []string{"202"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Pending, Class: "GLACIER", Tier: contract.Bulk, Fresh: true},
		},
		"asked for at once": {
			server: &replied{head: heads{archived}, restore: []string{"202"}}, o: contract.ThawOptions{Ask: true, Tier: contract.Expedited}, asked: 1,
			want: contract.Thawing{State: contract.Pending, Class: "INTELLIGENT_TIERING", Tier: contract.Expedited, Fresh: true},
		},
		"asked for by another meanwhile": {
			server: &replied{head: heads{deep}, restore: []string{"409 RestoreAlreadyInProgress"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Pending, Class: "DEEP_ARCHIVE"},
		},
		"thawed by another meanwhile": {
			server: &replied{head: heads{glacier, thawnTo}, restore: []string{"200"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Readable, Class: "GLACIER", Until: time.Date(2012, 12, 21, 0, 0, 0, 0, time.UTC)},
		},
		"moved by another meanwhile": {
			server: &replied{head: heads{archived, {"X-Amz-Storage-Class": "INTELLIGENT_TIERING"}}, restore: []string{"403 ObjectAlreadyInActiveTierError"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Readable, Class: "INTELLIGENT_TIERING"},
		},
		"replaced meanwhile": {
			server: &replied{head: heads{glacier, nil}, restore: []string{"403 InvalidObjectState"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Readable},
		},
		"reply lost": {
			server: &replied{head: heads{glacier}, restore: []string{"lost", "409 RestoreAlreadyInProgress"}}, o: ask, asked: 2,
			want: contract.Thawing{State: contract.Pending, Class: "GLACIER", Tier: contract.Bulk, Fresh: true},
		},
		"contradicts itself": {
			server: &replied{head: heads{glacier}, restore: []string{"403 InvalidObjectState"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}, err: "nothing to thaw",
		},
		"nobody at hand": {
			server: &replied{head: heads{glacier}, restore: []string{"503 GlacierExpeditedRetrievalNotAvailable"}}, o: contract.ThawOptions{Ask: true, Tier: contract.Expedited}, asked: 1,
			want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}, err: "--tier standard",
		},
		"at once out of the deep": {
			server: &replied{head: heads{deep}}, o: contract.ThawOptions{Ask: true, Tier: contract.Expedited},
			want: contract.Thawing{State: contract.Cold, Class: "DEEP_ARCHIVE"}, err: "nothing comes out of DEEP_ARCHIVE within minutes",
		},
		"at once out of the deep tier": {
			server: &replied{head: heads{deepTier}}, o: contract.ThawOptions{Ask: true, Tier: contract.Expedited},
			want: contract.Thawing{State: contract.Cold, Class: "INTELLIGENT_TIERING"}, err: "within minutes",
		},
		"denied": {
			server: &replied{head: heads{glacier}, restore: []string{"403 AccessDenied"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}, err: "does not allow s3:RestoreObject for k",
		},
		"unknown to the server": {
			server: &replied{head: heads{glacier}, restore: []string{"501 NotImplemented"}}, o: ask, asked: 1,
			want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}, err: "cannot be asked for what is in GLACIER",
		},
		"no such object": {server: &replied{unknown: true}, o: ask, want: contract.Thawing{}, err: "no such object"},
		"of no server":   {server: &replied{head: heads{glacier}, restore: []string{"204"}}, o: ask, asked: 1, want: contract.Thawing{State: contract.Cold, Class: "GLACIER"}, err: errNotS3.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.server
			b := replies(t, Options{}, server.serve)
			before := time.Now().Add(-time.Second)
			got, err := b.Thaw(t.Context(), []string{"k"}, c.o)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("the error is %v, want %q", err, c.err)
			}
			if err != nil && errors.Is(err, archive.ErrNoObject) != server.unknown {
				t.Errorf("%v is ErrNoObject: %v", err, !server.unknown)
			}
			if len(got) != 1 {
				t.Fatalf("%d answers", len(got))
			}
			if c.want.Object = "k"; !server.unknown {
				c.want.Bytes = 7
			}
			if diff := cmp.Diff(c.want, got[0], cmpopts.IgnoreFields(contract.Thawing{}, "Asked")); diff != "" {
				t.Error(diff)
			}
			if asked := got[0].Asked; asked.IsZero() == got[0].Fresh || !asked.IsZero() && asked.Before(before) {
				t.Errorf("asked for at %v, and that is fresh: %v", asked, got[0].Fresh)
			}
			if len(server.asked) != c.asked {
				t.Errorf("asked %d times: %q", len(server.asked), server.asked)
			}
		})
	}
}

// TestWhatThawingAsksFor: copies last for days; what goes back to another tier
// stays there, and must not be asked for with days.
func TestWhatThawingAsksFor(t *testing.T) {
	for _, c := range []struct {
		head map[string]string
		o    contract.ThawOptions
		want []string
		not  string
	}{
		{glacier, contract.ThawOptions{}, []string{"<Days>7</Days>", "<Tier>Bulk</Tier>"}, "x"},
		{deep, contract.ThawOptions{Tier: contract.Standard, Days: 30}, []string{"<Days>30</Days>", "<Tier>Standard</Tier>"}, "x"},
		{archived, contract.ThawOptions{Tier: contract.Expedited, Days: 30}, []string{"<Tier>Expedited</Tier>"}, "Days"},
	} {
		server := &replied{head: heads{c.head}, restore: []string{"202"}}
		b := replies(t, Options{}, server.serve)
		c.o.Ask = true
		if _, err := b.Thaw(t.Context(), []string{"k", "k"}, c.o); err != nil {
			t.Fatal(err)
		}
		if len(server.asked) != 1 {
			t.Fatalf("asked %d times", len(server.asked))
		}
		for _, want := range c.want {
			if !strings.Contains(server.asked[0], want) {
				t.Errorf("%s is not in %s", want, server.asked[0])
			}
		}
		if c.not != "x" && strings.Contains(server.asked[0], c.not) {
			t.Errorf("%s is in %s", c.not, server.asked[0])
		}
	}
}

// TestThawOfMany: each has its answer in its place, and what is wrong with some
// keeps nobody from asking for the others.
func TestThawOfMany(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	b := replies(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch {
		case strings.HasPrefix(key, "none"):
			fail(w, r, "404 NoSuchKey")
		case r.Method == http.MethodHead:
			w.Header().Set("X-Amz-Storage-Class", "GLACIER")
			w.Header().Set("Content-Length", "1")
		case strings.HasPrefix(key, "closed"):
			fail(w, r, "403 AccessDenied")
		default:
			mu.Lock()
			defer mu.Unlock()
			asked[key]++
			fail(w, r, "202")
		}
	})
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprint("k", i), fmt.Sprint([]string{"none", "closed", "k"}[i%3], i))
	}
	got, err := b.Thaw(t.Context(), keys, contract.ThawOptions{Ask: true})
	if !errors.Is(err, archive.ErrNoObject) {
		t.Errorf("the error is %v", err)
	}
	if denied, ok := errors.AsType[*archive.DeniedError](err); !ok || denied.Action != "s3:RestoreObject" {
		t.Errorf("the error is %v", err)
	}
	if err != nil && len(err.Error()) > 500 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	for i, key := range keys {
		fresh := strings.HasPrefix(key, "k")
		if got[i].Object != key || got[i].Fresh != fresh || asked[key] > 1 || (asked[key] == 1) != fresh {
			t.Errorf("%s, asked for %d times, is %+v", key, asked[key], got[i])
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Thaw(ctx, keys, contract.ThawOptions{Ask: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got, err := b.Thaw(t.Context(), nil, contract.ThawOptions{Ask: true}); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	for _, o := range []contract.ThawOptions{{Days: -1}, {Tier: "slow"}, {Days: 1 << 40}} {
		if _, err := b.Thaw(t.Context(), keys, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestParseRestore(t *testing.T) {
	until := time.Date(2012, 12, 21, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]thawed{
		"":                       {},
		`ongoing-request="true"`: {ongoing: true},
		`ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`: {done: true, until: until},
		`expiry-date="2012-12-21T01:00:00+01:00",ongoing-request="false"`:      {done: true, until: until},
		`ongoing-request="false"`:                                {done: true},
		`ongoing-request="false", expiry-date="soon"`:            {done: true},
		`ongoing-request="true`:                                  {},
		`ongoing-request=true`:                                   {},
		`expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`:            {},
		`ongoing-request="false", expiry-date="Fri, 21 Dec 2012`: {done: true},
	} {
		if got := parseRestore(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

func FuzzParseRestore(f *testing.F) {
	f.Add(`ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`)
	f.Add(`ongoing-request="true"`)
	f.Add(`=""expiry-date="`)
	f.Fuzz(func(t *testing.T, text string) {
		got := parseRestore(text)
		if got.ongoing && got.done || !got.until.IsZero() && !got.done {
			t.Errorf("%q: %+v", text, got)
		}
	})
}
