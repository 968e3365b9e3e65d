package endurance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// timesEnv names the environment variable that makes the tests that play at
// random go on so many times longer.
const timesEnv = "BUTTERSINK_ENDURANCE"

// programEnv names the built program to a test that runs itself once more.
const programEnv = "BUTTERSINK_TEST_PROGRAM"

// program is the built program.
var program string

func TestMain(m *testing.M) {
	beTheProgram()
	btrfstest.ServeDisks()
	flip()
	lie()
	if program = os.Getenv(programEnv); program != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "endurance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "buttersink")
	build := exec.Command("go", "build", "-o", program, "../../cmd/buttersink")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "building the program:", err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// times multiplies n by what the environment asks for.
func times(t *testing.T, n int) int {
	t.Helper()
	text := os.Getenv(timesEnv)
	if text == "" {
		return n
	}
	factor, err := strconv.Atoi(text)
	if err != nil || factor < 1 {
		t.Fatalf("%s=%q is not a number", timesEnv, text)
	}
	return n * factor
}
