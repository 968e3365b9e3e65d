package bare

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(quiet{slog.NewTextHandler(&out, nil)}).With("a", 1).WithGroup("g")
	log.Info("far: At subvol day1_7d7e9e0f.part")
	log.Info("far: At snapshot day2_00000000.part")
	if out.Len() > 0 {
		t.Errorf("it says %s", &out)
	}
	log.Info("far: ERROR: At subvol x: no space left on device")
	if !strings.Contains(out.String(), "no space left") {
		t.Errorf("it says %q", &out)
	}
}
