package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/buttersink/buttersink/internal/ledger"
)

// stateDir is where the ledger is: $BUTTERSINK_STATE, else what systemd gives a
// unit, else /var/lib/buttersink for root, else the user's state directory; ""
// if there is none of these.
func (env *Env) stateDir() string {
	if dir := env.Getenv("BUTTERSINK_STATE"); dir != "" {
		return dir
	}
	// A unit may have several, with colons between them.
	if dir, _, _ := strings.Cut(env.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/buttersink"
	}
	if dir := env.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "buttersink")
	}
	if home := env.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "buttersink")
	}
	return ""
}

// notesFor opens the ledger for a run that writes nothing, if the place needs what
// is in it: nil if there is none yet.
func (env *Env) notesFor(p site) *ledger.Ledger {
	dir := env.stateDir()
	if p.Scheme != "shell" || dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerFile)); err != nil {
		return nil
	}
	return env.openLedger()
}

// ledgerFile is the ledger's name in its directory.
const ledgerFile = "ledger.db"

// openLedger opens the ledger. The ledger is a cache and a notebook: where it
// cannot be had, the run goes on without and says so.
func (env *Env) openLedger() *ledger.Ledger {
	dir := env.stateDir()
	if dir == "" {
		env.Log.Debug("Going on without a ledger: there is no directory for it")
		return nil
	}
	l, err := ledger.Open(filepath.Join(dir, ledgerFile))
	if err != nil {
		env.Log.Warn("Going on without the ledger: sizes are measured again", "error", err)
		return nil
	}
	env.closers = append(env.closers, l)
	return l
}
