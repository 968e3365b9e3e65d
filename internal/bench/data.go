package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// A maker fills directories with files. What it makes depends on its seed and
// on the calls alone.
type maker struct {
	rng    *rand.Rand
	bytes  *rand.ChaCha8 // what rng takes its numbers from
	words  [512][]byte
	buffer []byte
	// allText has content return text only.
	allText bool
}

func newMaker(seed uint64) *maker {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	m := &maker{bytes: rand.NewChaCha8(key), buffer: make([]byte, 1<<20)}
	m.rng = rand.New(m.bytes)
	for i := range m.words {
		m.words[i] = fmt.Appendf(nil, "%x ", m.rng.Uint64()>>(8+m.rng.IntN(40)))
	}
	return m
}

// random returns n bytes that nothing compresses, n up to 1 MiB.
func (m *maker) random(n int) []byte {
	_, _ = m.bytes.Read(m.buffer[:n])
	return m.buffer[:n]
}

// text returns n bytes that compress to about a third.
func (m *maker) text(n int) []byte {
	out := m.buffer[:0]
	for len(out) < n {
		out = append(out, m.words[m.rng.IntN(len(m.words))]...)
		if cap(out)-len(out) < 32 {
			break
		}
	}
	return out[:n]
}

// content returns one or the other, half of it each.
func (m *maker) content(n int) []byte {
	if m.allText || m.rng.IntN(2) == 0 {
		return m.text(n)
	}
	return m.random(n)
}

// A tree is a directory that a maker has filled, and goes on changing.
type tree struct {
	*maker
	dir   string
	files []file
	next  int // number for the name of what is new
}

type file struct {
	name string // relative to the directory
	size int
}

// small adds files of less than a size, a hundred to a directory. Skewed, a
// quarter of that is the mean, else half.
func (t *tree) small(count, below int, skewed bool) error {
	for i := range count {
		dir := fmt.Sprintf("d%04d", t.next/100)
		if i == 0 || t.next%100 == 0 {
			if err := os.MkdirAll(filepath.Join(t.dir, dir), 0o755); err != nil {
				return err
			}
		}
		size := t.rng.Float64()
		if skewed {
			size *= size * size
		}
		f := file{name: fmt.Sprintf("%s/f%d", dir, t.next), size: int(size * float64(below))}
		t.next++
		if err := os.WriteFile(filepath.Join(t.dir, f.name), t.content(f.size), 0o644); err != nil {
			return err
		}
		t.files = append(t.files, f)
	}
	return nil
}

// large adds a file of so many MiB. One in eight is a hole if it has holes.
func (t *tree) large(name string, mib int, holes bool) error {
	f, err := os.Create(filepath.Join(t.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	for at := range mib {
		if holes && at%8 == 3 {
			continue
		}
		if _, err := f.WriteAt(t.content(1<<20), int64(at)<<20); err != nil {
			return err
		}
	}
	return f.Close()
}

// both adds small files, and large ones of so many MiB.
func (t *tree) both(count, mib int, large ...string) error {
	if err := t.small(count, 32<<10, false); err != nil {
		return err
	}
	for _, name := range large {
		if err := t.large(name, mib, name == "b"); err != nil {
			return err
		}
	}
	return nil
}

// change does to the tree what a day does, in a measure: files are edited,
// appended to, cut, deleted, renamed, made and reflinked; and so much of the
// large ones. The measure of 100 makes an increment of about 50 MB of a tree of
// 20,000 small files with two large ones.
func (t *tree) change(measure int, large ...string) error {
	for _, kind := range []struct {
		times int
		do    func(*file) error
	}{
		{2 * measure, t.edit},
		{measure, t.grow},
		{measure / 2, t.cut},
		{measure, t.rename},
		{measure / 5, t.clone},
		{measure, t.remove},
	} {
		for range kind.times {
			f := &t.files[t.rng.IntN(len(t.files))]
			if f.name == "" {
				continue // it was removed
			}
			if err := kind.do(f); err != nil {
				return err
			}
		}
	}
	if err := t.small(3*measure, 32<<10, false); err != nil {
		return err
	}
	for _, name := range large {
		if err := t.editLarge(name, measure); err != nil {
			return err
		}
	}
	t.next++
	return t.large(fmt.Sprintf("new%d", t.next), max(1, measure*24/100), false)
}

func (t *tree) path(f *file) string { return filepath.Join(t.dir, f.name) }

func (t *tree) edit(f *file) error {
	at := t.rng.IntN(f.size + 1)
	return t.writeAt(f.name, t.content(min(4<<10, f.size-at)), int64(at))
}

func (t *tree) grow(f *file) error {
	add := t.rng.IntN(8 << 10)
	if err := t.writeAt(f.name, t.content(add), int64(f.size)); err != nil {
		return err
	}
	f.size += add
	return nil
}

func (t *tree) cut(f *file) error {
	f.size = t.rng.IntN(f.size + 1)
	return os.Truncate(t.path(f), int64(f.size))
}

func (t *tree) rename(f *file) error {
	was := t.path(f)
	t.next++
	f.name = fmt.Sprintf("%s/r%d", filepath.Dir(t.files[t.rng.IntN(len(t.files))].name), t.next)
	if filepath.Dir(f.name) == "." {
		f.name = filepath.Base(f.name)
	}
	return os.Rename(was, t.path(f))
}

func (t *tree) clone(f *file) error {
	t.next++
	twin := file{name: fmt.Sprintf("%s/c%d", filepath.Dir(f.name), t.next), size: f.size}
	if err := reflink(t.path(f), t.path(&twin)); err != nil {
		return err
	}
	t.files = append(t.files, twin)
	return nil
}

func (t *tree) remove(f *file) error {
	defer func() { f.name = "" }()
	return os.Remove(t.path(f))
}

// editLarge overwrites pieces of a large file, punches a hole, and appends.
func (t *tree) editLarge(name string, measure int) error {
	info, err := os.Stat(filepath.Join(t.dir, name))
	if err != nil {
		return err
	}
	size := info.Size()
	for range max(1, measure/3) {
		if err := t.writeAt(name, t.content(64<<10), t.rng.Int64N(size)&^4095); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(t.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const keepSize, punchHole = 1, 2 // fallocate(2)
	if err := syscall.Fallocate(int(f.Fd()), keepSize|punchHole, t.rng.Int64N(size)&^4095, 256<<10); err != nil {
		return fmt.Errorf("punching a hole into %s: %w", name, err)
	}
	for range max(1, measure*4/100) {
		if _, err := f.WriteAt(t.content(1<<20), size); err != nil {
			return err
		}
		size += 1 << 20
	}
	return f.Close()
}

func (t *tree) writeAt(name string, data []byte, at int64) error {
	f, err := os.OpenFile(filepath.Join(t.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, at)
	return errors.Join(err, f.Close())
}

// reflink makes a file that shares all its data with another (FICLONE,
// ioctl_ficlone(2)).
func reflink(from, to string) error {
	const ficlone = 0x40049409
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dst.Fd(), ficlone, src.Fd()); errno != 0 {
		return fmt.Errorf("making a reflink of %s: %w", from, errno)
	}
	return dst.Close()
}
