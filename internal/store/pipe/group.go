package pipe

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
)

// alive reports whether anything in a process group still runs. What is dead and
// was not buried by its parent, as happens in containers, does not.
func alive(group int) bool {
	if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		return false
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err != nil {
			continue // it is gone
		}
		if state, in := membership(text); in == group && state != 'Z' && state != 'X' {
			return true
		}
	}
	return false
}

// membership reads the state and the process group from /proc/PID/stat (proc(5)):
// "PID (NAME) STATE PPID PGRP ...", where the name may have anything in it.
func membership(stat []byte) (state byte, group int) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 3 {
		return 0, 0
	}
	group, _ = strconv.Atoi(string(fields[2]))
	return fields[0][0], group
}
