package endurance

import (
	"fmt"
	"io"
	"os"
	"strconv"
)

// flipEnv makes the test binary a filter that turns over one bit of what goes
// through it, at this offset.
const flipEnv = "BUTTERSINK_ENDURANCE_FLIP"

// flip is the filter, if this process is one.
func flip() {
	text := os.Getenv(flipEnv)
	if text == "" {
		return
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		err = flipAt(os.Stdin, os.Stdout, at)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func flipAt(r io.Reader, w io.Writer, at int64) error {
	block := make([]byte, 32<<10)
	for {
		n, err := r.Read(block)
		if 0 <= at && at < int64(n) {
			block[at] ^= 1 << (at % 8)
		}
		at -= int64(n)
		if _, werr := w.Write(block[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
