// Package systemd has the units by which systemd runs jobs, writes what the timer
// of a job takes beside them, and tells the service manager how a run gets on.
//
// It knows unit files, their drop-ins, and the programs systemctl and
// systemd-analyze, which do what is not about files. It refuses to know what a
// job is, beyond its name, and it starts and stops no run.
//
// # Invariants
//
//   - Only files with the mark of this package are replaced or removed; what
//     people have written there stays, and wins as systemd has it.
//   - What is to be done is known, as a [Plan], before anything is. A plan whose
//     carrying out fails is undone.
//   - A calendar that systemd does not take, or that never comes, is written
//     nowhere.
//   - Without a service manager, and when it does not listen, a [Notifier] does
//     nothing, and nobody waits for it.
//
// Memory is that of the few small files.
//
//	m := systemd.Manager{}
//	plan, err := m.Install(ctx, systemd.Timer{Job: "home", Calendar: []string{"02:30"}}, true)
//	err = m.Do(ctx, plan)
package systemd

import "embed"

// The units of a job, as templates: %i is its name. The comments in them say what
// they are for, and why they do not have more restrictions.
//
//go:embed units
var units embed.FS

// Names of the templates.
const (
	ServiceTemplate = "buttersink@.service"
	TimerTemplate   = "buttersink@.timer"
)

// Template returns the text of a template.
func Template(name string) (string, error) {
	text, err := units.ReadFile("units/" + name)
	return string(text), err
}

// TimerUnit and ServiceUnit are the names of the units of a job.
func TimerUnit(job string) string   { return "buttersink@" + job + ".timer" }
func ServiceUnit(job string) string { return "buttersink@" + job + ".service" }
