package replay

import (
	"os"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestMain(m *testing.M) {
	btrfstest.ServeDisks()
	os.Exit(m.Run())
}
