package archive

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// directory is a bucket that could be an empty mount point.
type directory struct{ *memoryBucket }

func (directory) String() string { return "dir:///mnt/usb" }

func TestMarker(t *testing.T) {
	bucket := directory{newMemoryBucket()}
	s := open(t, bucket, "p")
	bucket.put("p/A/"+uuidA+"_None", 1)
	mustList(t, s)
	a := snapshot.Snapshot{ID: parsed(t, uuidA), Path: "A"}
	changes := map[string]func() error{
		"writable": func() error { return s.writable(t.Context()) },
		"Remove":   func() error { return s.Remove(t.Context(), a) },
		"Sweep":    func() error { return s.Sweep(t.Context(), []snapshot.Snapshot{a}, nil) },
		"KeepSizes": func() error {
			return s.KeepSizes(t.Context(), "A", map[snapshot.Edge]int64{{To: a.ID, From: snapshot.ID{1}}: 1})
		},
		"Untrash": func() error { return s.Untrash(t.Context(), store.Trashed{Handle: "trash/p/A/" + uuidA + "_None"}) },
		"Discard": func() error { return s.Discard(t.Context(), store.Trashed{Handle: "trash/p/A/" + uuidA + "_None"}) },
	}
	for name, change := range changes {
		if err := change(); err == nil || !strings.Contains(err.Error(), "init") {
			t.Errorf("%s in a directory without marker: %v", name, err)
		}
	}
	if err := s.Init(t.Context(), InitOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]*Store{"the same": s, "another": open(t, bucket, "p")} {
		if err := again.writable(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := errors.AsType[*store.ExistsError](again.Init(t.Context(), InitOptions{})); !ok {
			t.Errorf("%s: made a second time", name)
		}
	}
	if err := open(t, bucket, "q").writable(t.Context()); err == nil {
		t.Error("another prefix has no marker")
	}
	var m map[string]any
	if err := json.Unmarshal(bucket.objects["p/"+markerName].data, &m); err != nil || m["version"] != 1.0 || m["require_encryption"] != false {
		t.Errorf("%v, %v", m, err)
	}
	first := m["id"]

	// From now on it asks for encryption, and that is not taken back.
	if err := s.Init(t.Context(), InitOptions{RequireEncryption: true}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bucket.objects["p/"+markerName].data, &m); err != nil || m["id"] != first || m["require_encryption"] != true {
		t.Errorf("%v, %v", m, err)
	}
	for _, o := range []InitOptions{{}, {RequireEncryption: true}} {
		if _, ok := errors.AsType[*store.ExistsError](s.Init(t.Context(), o)); !ok {
			t.Errorf("%+v: made a third time", o)
		}
	}
	for name, again := range map[string]*Store{"the same": s, "another": open(t, bucket, "p")} {
		if err := again.writable(t.Context()); err == nil {
			t.Errorf("%s: a plain stream may be stored", name)
		}
	}
}

// TestWritable: in S3 an archive needs no marker, but what one says counts.
func TestWritable(t *testing.T) {
	recipients, err := seal.ParseRecipients([]string{"age:age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"})
	if err != nil {
		t.Fatal(err)
	}
	denied := &DeniedError{Bucket: "mem://bucket", Action: "s3:GetObject", Err: errors.New("403")}
	for _, tt := range []struct {
		name, marker   string
		o              Options
		err            error
		plain, encrypt bool
	}{
		{name: "no marker", plain: true, encrypt: true},
		{name: "no marker, but the option", o: Options{RequireEncryption: true}, encrypt: true},
		{name: "free", marker: `{"version":1,"created":"2026-11-21T15:04:05Z"}`, plain: true, encrypt: true},
		{name: "required", marker: `{"version":1,"require_encryption":true,"more":[]}`, encrypt: true},
		{name: "newer", marker: `{"version":2}`},
		{name: "none", marker: `{"version":0}`},
		{name: "nonsense", marker: `hello`},
		{name: "long", marker: `{"version":1}` + strings.Repeat(" ", maxMarker)},
		{name: "hidden", err: denied, encrypt: true},
		{name: "broken", err: errors.New("no route to host")},
	} {
		for _, encrypted := range []bool{false, true} {
			bucket := newMemoryBucket()
			if tt.marker != "" {
				bucket.put(markerName, 1)
				bucket.objects[markerName] = memoryObject{data: []byte(tt.marker)}
			}
			if tt.err != nil {
				bucket.hook = func(op, _ string) error { return tt.err }
			}
			want := tt.plain
			if encrypted {
				tt.o.Seal.Recipients, want = recipients, tt.encrypt
			}
			s, err := Open(t.Context(), bucket, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.writable(t.Context()); (err == nil) != want {
					t.Errorf("%s, encrypted %v: %v", tt.name, encrypted, err)
				}
			}
			if n := bucket.calls["Get"]; want && n != 1 {
				t.Errorf("%s: asked %d times", tt.name, n)
			}
		}
	}
}

// TestHiddenMarker: who may not read the marker may still remove, since that needs
// nothing that it says.
func TestHiddenMarker(t *testing.T) {
	bucket := newMemoryBucket()
	bucket.put("A/"+uuidA+"_None", 1)
	bucket.hook = func(op, _ string) error {
		if op == "Get" {
			return &DeniedError{Bucket: "mem://bucket", Action: "s3:GetObject", Err: errors.New("403")}
		}
		return nil
	}
	s := open(t, bucket, "")
	if err := s.Remove(t.Context(), at(t, mustList(t, s), "A")); err != nil {
		t.Error(err)
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"` + uuidA + `","created":"2026-11-21T15:04:05Z","require_encryption":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := parseMarker(text); err == nil && m.Version != markerVersion {
			t.Errorf("%q is taken: %+v", text, m)
		}
	})
}

func TestEnded(t *testing.T) {
	s := open(t, newMemoryBucket(), "p")
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	for name, call := range map[string]func() error{
		"Open":          func() error { _, err := Open(ctx, newMemoryBucket(), Options{}); return err },
		"List":          func() error { _, err := s.List(ctx); return err },
		"Inspect":       func() error { _, err := s.Inspect(ctx, "A"); return err },
		"Remove":        func() error { return s.Remove(ctx, snapshot.Snapshot{Path: "A"}) },
		"Sweep":         func() error { return s.Sweep(ctx, nil, nil) },
		"RemovePartial": func() error { return s.RemovePartial(ctx, snapshot.Partial{Path: "A", Ours: true}) },
		"Trashed":       func() error { _, err := s.Trashed(ctx); return err },
		"KnownSizes":    func() error { _, err := s.KnownSizes(ctx); return err },
		"KeepSizes":     func() error { return s.KeepSizes(ctx, "A", nil) },
		"Init":          func() error { return s.Init(ctx, InitOptions{}) },
	} {
		if err := call(); !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
