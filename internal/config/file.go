package config

import (
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
)

// File is a configuration: named stores, jobs, and who is told how they went.
type File struct {
	// Path is where it was read.
	Path string
	// Stores, Jobs and Notices are in the order of the file.
	Stores  []Store
	Jobs    []Job
	Notices []Notice
	// Textfile is where metrics are written for Prometheus' node exporter after each
	// run; empty for nowhere.
	Textfile string
	// Troubles are all that there are, in the order of their positions.
	Troubles []*Trouble
}

// Position is where something stands in a file; both count from 1, and the column
// counts characters.
type Position struct{ Line, Column int }

// Setting is how a store is to be used: a flag of "buttersink backup", without its
// dashes, and its values. Flags that are given or not have the value "true" or
// "false".
type Setting struct {
	Key    string
	Values []string
	At     Position
}

// Store is a place with a name.
type Store struct {
	Name string
	// URL is how it would be typed.
	URL      string
	Settings []Setting
	At       Position
	// Troubles are about keys of its Settings.
	Troubles []*Trouble
}

// Kind is how a job goes about it.
type Kind string

const (
	// Backup makes snapshots, brings them to destinations and prunes by rules.
	Backup Kind = "backup"
	// Calendar makes dated snapshots and keeps chains of them in an archive, as
	// btrsend does.
	Calendar Kind = "calendar"
)

// Job is something to do again and again.
type Job struct {
	Name string
	At   Position
	Kind Kind
	// Sources are subvolumes, as paths or ssh:// URLs, or patterns of paths with *, ?
	// and []. With Nested, subvolumes below them are meant too, but for what Exclude
	// has patterns of.
	Sources []string
	Nested  bool
	Exclude []string
	// Snapshots is the directory of the snapshots, relative to the source or
	// absolute, in which "{source}" stands for SourceName.
	Snapshots string
	// Prefix begins the names of snapshots, and Format is how the time is written
	// behind it.
	Prefix string
	Format schedule.Layout
	// UTC has times told in UTC.
	UTC bool
	// Snapshot is false where others make the snapshots.
	Snapshot bool
	// OnlyIfChanged makes no snapshot of what has not changed since the last one.
	OnlyIfChanged bool
	// Keep are the rules for the source.
	Keep schedule.Rules
	// Every is how often the job is to run, and MaxAge how old its last success may
	// be before "status" complains; 0 is not said.
	Every, MaxAge time.Duration
	// StaleAfter is how long a destination that is not there keeps what it needs; 0
	// is the usual.
	StaleAfter   time.Duration
	Destinations []Destination
	// Before is run before the snapshots are made, AfterSnapshot as soon as they are,
	// After at the end, OnFailure at the end if anything has failed: programs with
	// their arguments. HookTimeout is how long each may take.
	Before, AfterSnapshot, After, OnFailure [][]string
	HookTimeout                             time.Duration
	// Notify are names of Notices.
	Notify []string
	// Settings are about the source: ssh-*, kernel-send, decompress and the like.
	Settings []Setting
	// Troubles are about its programs. Destinations and notices have their own.
	Troubles []*Trouble

	// Of a Calendar: the days of the month, how many backups a chain has, for how many
	// days it is kept after its last one, and for how long snapshots are kept here.
	Days            []int
	Chain, Lifetime int
	SnapshotsMaxAge time.Duration
}

// Destination is where a job brings its snapshots.
type Destination struct {
	At Position
	// Name is how people know it: that of the store, with the path in it.
	Name string
	// URL is how it would be typed, with "{source}" for SourceName.
	URL string
	// Place is the same text for destinations that are one place, with "{source}" as
	// in the URL. Passwords may be in it.
	Place string
	// Keep are its rules.
	Keep schedule.Rules
	// Settings are those of the store, and what is written here in their place.
	Settings []Setting
	// Troubles are about keys of its Settings, those of its store among them.
	Troubles []*Trouble
}

// Notice is a way to tell somebody how a job went. One of Ping, Mail and Command is
// set.
type Notice struct {
	Name string
	At   Position
	// On has "start", "success" and "failure", as far as they are told.
	On []string
	// Ping is a URL, in which "{job}" stands for the name of the job. It may be
	// secret.
	Ping string
	// Mail are addresses, given to Sendmail, a program with its arguments.
	Mail     []string
	Sendmail []string
	// Command is a program with its arguments.
	Command []string
	Timeout time.Duration
	// Troubles are about its program.
	Troubles []*Trouble
}

// What holds unless the file says something else.
const (
	usualSnapshots     = "snapshot"
	usualHookTimeout   = 5 * time.Minute
	usualNoticeTimeout = 30 * time.Second
	usualSnapshotsAge  = 60 * 24 * time.Hour // btrsnap's
)

// Checks are what others know about values. What is nil finds nothing wrong. What
// an error says behind ": want " is told as what is to be done.
type Checks struct {
	// URL says what is wrong with the URL of a store, or, if there is a kind, of a
	// destination of such a job.
	URL func(kind Kind, url string) error
	// Source says what is wrong with one that is no pattern.
	Source func(source string) error
	// Setting says what is wrong with the value of one, for a store of the given URL;
	// for a source where that is empty. With *StateError, the value could be right.
	Setting func(url, key string, values []string) error
	// Settings says what is wrong with all settings of a store together, and the key
	// that is to blame, if one is.
	Settings func(url string, all []Setting) (key string, err error)
	// Same is the same text for two URLs if they name the same place, reached by the
	// settings of each.
	Same func(url string, all []Setting) string
	// Program says what is wrong with a program, given with its arguments. That is
	// always about the machine.
	Program func(argv []string) error
}
