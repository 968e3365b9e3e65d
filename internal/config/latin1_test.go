package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestNotUTF8: a file in an older encoding is told so, not that its text lacks quotes.
func TestNotUTF8(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.toml")
	if err := os.WriteFile(name, []byte("[notify.x]\nmail = [\"m\xfcller\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(name, Checks{})
	wrong, ok := errors.AsType[*Error](err)
	if !ok || len(wrong.Problems) != 1 {
		t.Fatalf("%v", err)
	}
	p := wrong.Problems[0]
	if want := "Have the editor save the file as UTF-8."; p.Fix != want || p.At != (Position{Line: 2, Column: 11}) {
		t.Errorf("at %v, and the fix is %q", p.At, p.Fix)
	}
}
