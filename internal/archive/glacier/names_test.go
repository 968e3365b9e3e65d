package glacier

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDescriptions(t *testing.T) {
	for _, c := range []struct {
		key   string
		empty bool
		want  string
	}{
		{"a/b.zst", false, "buttersink 1 a/b.zst"},
		{"two words%", false, "buttersink 1 two%20words%25"},
		{"ü\x00", false, "buttersink 1 %C3%BC%00"},
		{"e", true, "buttersink 1 (empty) e"},
		{"(empty) e", false, "buttersink 1 (empty)%20e"},
	} {
		if got := describe(c.key, c.empty); got != c.want {
			t.Errorf("%q is %q, want %q", c.key, got, c.want)
		}
	}
	for _, text := range []string{
		"", "buttersink 1", "buttersink 1 ", "buttersink 2 a", "buttersink 1 a b", "buttersink 1 %", "buttersink 1 %4", "buttersink 1 %41",
		"buttersink 1 %c3", "buttersink 1 ü", "buttersink 1 (empty) ", "btrsend backup for 2014-01-01 (complete)",
	} {
		if key, _, ok := parseDescription(text); ok {
			t.Errorf("%q is the key %q", text, key)
		}
	}
	if err := checkKey(strings.Repeat("k", maxDescription-len(oursEmpty))); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"", strings.Repeat("k", maxDescription), strings.Repeat("ü", 200)} {
		if checkKey(key) == nil {
			t.Errorf("%.20q is possible", key)
		}
	}
}

func TestDescriptionsOfAnyKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, empty := string(rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "key")), rapid.Bool().Draw(t, "empty")
		text := describe(key, empty)
		gotKey, gotEmpty, ok := parseDescription(text)
		if gotKey != key || gotEmpty != empty || !ok {
			t.Fatalf("%q is read as %q, %v, %v", text, gotKey, gotEmpty, ok)
		}
		if checkKey(key) == nil && CheckDescription(text) != nil {
			t.Fatalf("%q is possible, and %q is not", key, text)
		}
	})
}

// FuzzParseDescription holds that what is read is what would have been written:
// so no two descriptions are one key.
func FuzzParseDescription(f *testing.F) {
	f.Add("buttersink 1 a%20b")
	f.Add("buttersink 1 (empty) a")
	f.Fuzz(func(t *testing.T, text string) {
		if key, empty, ok := parseDescription(text); ok && describe(key, empty) != text {
			t.Errorf("%q is read as %q", text, key)
		}
	})
}

func TestParseKeys(t *testing.T) {
	type keys struct {
		Access, Secret string
		OK             bool
	}
	for text, want := range map[string]keys{
		"AWSAccessKeyId=AKIA\nAWSSecretKey=se/cr=et\n": {"AKIA", "se/cr=et", true},
		"AKIA\nse/cr=et": {"AKIA", "se/cr=et", true},
		"\ufeffAWSAccessKeyId = AKIA\r\nAWSSecretKey = x==\r\n": {"AKIA", "x==", true},
		"# mine\nAKIA\n\nsecret\n":                              {"AKIA", "secret", true},
		"AKIA\n":                                                {},
		"":                                                      {},
		"a\nb\nc\n":                                             {},
	} {
		access, secret, ok := parseKeys(text)
		if !ok {
			access, secret = "", ""
		}
		if d := cmp.Diff(want, keys{access, secret, ok}); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
}
