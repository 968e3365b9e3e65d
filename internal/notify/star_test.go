package notify

import "testing"

// TestStar: a secret that another one begins with leaves no rest of that to be seen,
// in whatever order they come.
func TestStar(t *testing.T) {
	const text = "https://hc/abcdefgh-home and abcdefgh, as it is"
	for _, secrets := range [][]string{{"abcdefgh", "https://hc/abcdefgh-home", ""}, {"https://hc/abcdefgh-home", "abcdefgh"}} {
		if got, want := Star(text, secrets), "*** and ***, as it is"; got != want {
			t.Errorf("%q: %q, want %q", secrets, got, want)
		}
	}
}
