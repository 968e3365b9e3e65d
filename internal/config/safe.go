package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// safe notes it where others could change the configuration, which names programs
// that are run.
func (d *document) safe(info os.FileInfo) {
	if !info.Mode().IsRegular() { // <(a command), say
		return
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		d.wrong(nowhere, fmt.Sprintf("others than its owner can write to it (mode %04o), and it names programs that are run", mode), "Look through it, and then: chmod go-w "+d.path)
	}
	if owner, foreign := foreignTo(info); foreign {
		d.wrong(nowhere, fmt.Sprintf("it belongs to the user %d, neither to root nor to who runs this", owner), "Look through it, and then: chown root "+d.path)
	}
	if os.Geteuid() == 0 { // others run nothing that is not theirs
		d.guarded()
	}
}

// mostLinks is how many symbolic links a path may lead over, as in the kernel
// (path_resolution(7)).
const mostLinks = 40

// moveIt is what to do about a directory or link that others can change: it may be
// somebody's home, or one that many share, and is theirs for a reason.
const moveIt = "Look through it, and keep it in a directory of root's, such as /etc/buttersink."

// guarded notes the first directory or symbolic link on the way to the configuration by
// which others could put another one in its place.
func (d *document) guarded() {
	full, err := filepath.Abs(d.path)
	if err != nil {
		return // it has just been opened
	}
	at, todo := "/", append([]string{""}, elements(full)...)
	for links := 0; len(todo) > 0 && links <= mostLinks; {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return
		}
		link := info.Mode()&fs.ModeSymlink != 0
		if !link && !info.IsDir() {
			return
		}
		if owner, foreign := foreignTo(info); foreign {
			d.wrong(nowhere, fmt.Sprintf("%s belongs to the user %d, who could put another configuration in its place, and that names programs that root runs", next, owner),
				moveIt)
			return
		}
		if link {
			target, err := os.Readlink(next)
			if err != nil {
				return
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			links, todo = links+1, append(elements(target), todo...)
			continue
		}
		// In a directory with the sticky bit nobody moves what belongs to others.
		if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0 {
			d.wrong(nowhere, fmt.Sprintf("others than its owner can write to %s (mode %04o), and could put another configuration in its place, which names programs that root runs", next, mode.Perm()),
				moveIt)
			return
		}
		at = next
	}
}

// elements are the names that a path is made of.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// foreignTo reports whether something belongs neither to root nor to the user of this
// process, and to whom.
func foreignTo(info os.FileInfo) (owner uint32, foreign bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 || int(s.Uid) == os.Geteuid() {
		return 0, false
	}
	return s.Uid, true
}
