// Package endurance has the tests of the whole program against what real
// machines do to it: kills, power cuts, full and failing disks, and every kind of
// btrfs that people have.
package endurance
