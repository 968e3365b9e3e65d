// Package bare is the store of snapshots in a btrfs directory of another machine
// on which nothing but btrfs-progs and a POSIX shell is installed.
package bare
