package seal

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// MaxLevel is the highest level of compression.
const MaxLevel = 19

// Options say how streams are sealed.
type Options struct {
	// Compress turns compression on. Level is one of zstd's, 1 to 19, and 0 is its
	// default, 3. There are four kinds of work behind them: 1 and 2, 3 to 5, 6 to 9,
	// 10 and above make the same of a stream each.
	Compress bool
	Level    int
	// Gzip has Compress mean gzip, with a level of 1 to 9, and 4 for 0. It goes with
	// gpg, and without encryption, and what is made is not made again byte for byte.
	Gzip bool
	// Recipients can open what is sealed; none means no encryption. They are all
	// of one cipher.
	Recipients []Recipient
	// Workers is how many processors compress and encrypt; 0 is as many as the
	// program may use, up to 8. What is made does not depend on it.
	Workers int
}

// Form is what these options make of a stream.
func (o Options) Form() Form {
	f := Form{Compressed: o.Compress, Gzip: o.Compress && o.Gzip}
	if len(o.Recipients) > 0 {
		f.Cipher = o.Recipients[0].cipher
	}
	return f
}

// check says what is wrong with the options.
func (o Options) check() error {
	highest := MaxLevel
	if o.Gzip {
		highest = MaxGzipLevel
	}
	if o.Level < 0 || o.Level > highest {
		return fmt.Errorf("level %d of compression is not one of 1 to %d", o.Level, highest)
	}
	if f := o.Form(); f.Gzip && f.Cipher == Age {
		return errors.New("compressing with gzip goes with gpg, and not with age")
	}
	for _, r := range o.Recipients {
		if r.cipher == None {
			return errors.New("a recipient is empty")
		}
		if r.cipher != o.Recipients[0].cipher {
			return errMixed
		}
	}
	return nil
}

// level is the level with the default put in.
func (o Options) level() int {
	if o.Level == 0 {
		return 3
	}
	return o.Level
}

// workers is the number of workers with the default put in.
func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return defaultWorkers()
}

func defaultWorkers() int { return min(runtime.GOMAXPROCS(0), 8) }

// ParseCompress reads how streams are to be compressed: "zstd" or "zstd:LEVEL".
// The level is that of Options, 0 where none is given.
func ParseCompress(text string) (level int, err error) {
	name, number, given := strings.Cut(text, ":")
	if name != "zstd" {
		return 0, fmt.Errorf("compression %q is not known: it is zstd or zstd:LEVEL", text)
	}
	if !given {
		return 0, nil
	}
	level, err = strconv.Atoi(number)
	if err != nil || level < 1 || level > MaxLevel {
		return 0, fmt.Errorf("compression %q: the level is a number from 1 to %d", text, MaxLevel)
	}
	return level, nil
}

// Bound is the longest that a stream of plain bytes can get when it is sealed
// with these options. It is never less than what it really gets.
func Bound(o Options, plain int64) int64 {
	n := plain
	switch f := o.Form(); {
	case f.Gzip:
		n = gzipBound(n)
	case f.Compressed:
		n = compressedBound(n)
	}
	switch o.Form().Cipher {
	case Age:
		n = ageBound(n, o.Recipients)
	case GPG:
		n = gpgBound(n, o.Recipients)
	}
	return n
}
