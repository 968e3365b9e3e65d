// Package systemd knows units, and tells the service manager how a run gets on.
package systemd

import "github.com/coreos/go-systemd/v22/daemon"

// Notify tells the service manager something, if there is one: "STATUS=...".
func Notify(state string) {
	daemon.SdNotify(false, state)
}
