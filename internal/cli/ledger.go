package cli

import (
	"os"
	"path/filepath"

	"github.com/buttersink/buttersink/internal/ledger"
)

// stateDir is where the ledger is: $BUTTERSINK_STATE, else what systemd gives a
// unit, else /var/lib/buttersink for root, else the user's state directory.
func (env *Env) stateDir() string {
	for _, name := range []string{"BUTTERSINK_STATE", "STATE_DIRECTORY"} {
		if dir := env.Getenv(name); dir != "" {
			return dir
		}
	}
	if os.Geteuid() == 0 {
		return "/var/lib/buttersink"
	}
	if dir := env.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "buttersink")
	}
	return filepath.Join(env.Getenv("HOME"), ".local", "state", "buttersink")
}

// openLedger opens the ledger. The ledger is a cache and a notebook: where it
// cannot be had, the run goes on without and says so.
func (env *Env) openLedger() *ledger.Ledger {
	path := filepath.Join(env.stateDir(), "ledger.db")
	l, err := ledger.Open(path)
	if err != nil {
		env.Log.Warn("Going on without the ledger: sizes are measured again", "error", err)
		return nil
	}
	env.closers = append(env.closers, l)
	return l
}
