// Package endurance has the tests of the whole program against what real
// machines do to it: kills, power cuts, full and failing disks, sleep, damaged
// streams, busy file systems, and every kind of btrfs that people have; with
// archives, of what networks, S3 servers and other machines do; and, with other
// machines behind ssh, of who dies there, lies, is restricted, or cannot be reached.
//
// It knows the program only from outside: its command line, its exit codes, its
// --json records, and what it leaves on file systems that are really there.
// (Damaged streams are an exception, for no command takes one in, and so are the
// five years of btrsend, which would take too long.) What is judged is always the
// same: whatever looks like a snapshot is whole, a run that says it is done is
// done, nothing unfinished stays behind, the message names the cause, and the next
// run completes the rest.
//
// It holds no code but tests. They build the program once and need root, loop
// devices and FUSE (see btrfstest.Require), those of archives in S3 the servers
// that `make servers` builds (see s3test.Require), those of other machines sshd
// (see sshtest.Require), and one of these a network namespace; one takes control
// groups. TestDocs, which runs the command lines of README.md and
// docs and compares what they print with what is shown there, has namespaces of all
// kinds and layers over /etc, /usr and /var (overlay). TestPackage makes a small
// Debian from a mirror (debootstrap) the first time, and keeps it in the user's cache
// directory. Those that play at random go on longer with BUTTERSINK_ENDURANCE=10,
// which is ten times:
//
//	BUTTERSINK_ENDURANCE=10 go test -timeout 3h ./internal/endurance
package endurance
