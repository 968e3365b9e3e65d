package endurance

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/cli"
)

// clockEnv makes the test's own program the whole product, with a clock that is
// ahead of the system's by so much: the days of a month pass while the test runs.
const clockEnv = "BUTTERSINK_ENDURANCE_CLOCK"

// beTheProgram is the product with a clock of its own, if that is wanted.
func beTheProgram() {
	ahead := os.Getenv(clockEnv)
	if ahead == "" {
		return
	}
	d, err := time.ParseDuration(ahead)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	env := cli.System()
	env.Now = func() time.Time { return time.Now().Add(d) }
	os.Exit(cli.Main(os.Args[1:], env))
}

// runAt runs the product at a time of its own clock.
func runAt(t *testing.T, at time.Time, state string, env []string, args ...string) *run {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startAs(t, self, state, append([]string{clockEnv + "=" + time.Until(at).String()}, env...), args...)
}
