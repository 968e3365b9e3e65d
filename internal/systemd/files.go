package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// wants is where links to what starts at boot among timers are.
const wants = own + "/timers.target.wants"

// want plans that a file has a text, or is not there if that is empty. Files of
// others stay.
func (t *tree) want(p *Plan, path, text string) error {
	masked, err := t.masked(path)
	switch {
	case err != nil:
		return fmt.Errorf("reading a unit: %w", err)
	case masked && strings.HasSuffix(path, dropIn) && text != "":
		return fmt.Errorf("%s is masked: remove it first", t.below(path))
	case masked:
		return nil
	}
	was, err := t.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if text == "" {
			return nil
		}
	case err != nil:
		return fmt.Errorf("reading a unit: %w", err)
	case !strings.HasPrefix(was, mark):
		if strings.HasSuffix(path, dropIn) && text != "" {
			return fmt.Errorf("%s was not written by this program: move what is in it to another name, such as 60-own.conf", t.below(path))
		}
		return nil
	case was == text:
		return nil
	}
	p.Files = append(p.Files, File{Path: path, Text: text})
	return nil
}

// packaged returns where a package has brought a template; "" if none has.
func (t *tree) packaged(name string) string {
	for _, dir := range packaged {
		if path := filepath.Join(dir, name); t.isFile(path) {
			return path
		}
	}
	return ""
}

// enable plans what systemctl does where the system runs: its --root writes into
// this machine's files if a link of the image is a full path. The timer links to a
// template.
func (t *tree) enable(p *Plan, job, template string) error {
	unit := TimerUnit(job)
	for _, names := range [][]string{{unit, TimerTemplate}, {ServiceUnit(job), ServiceTemplate}} {
		if err := t.unmasked(names...); err != nil {
			return err
		}
	}
	path := filepath.Join(wants, unit)
	was, err := t.link(path)
	if err != nil {
		return fmt.Errorf("looking at what is enabled: %w", err)
	}
	ours := []string{"", filepath.Join(own, TimerTemplate)}
	for _, dir := range packaged {
		ours = append(ours, filepath.Join(dir, TimerTemplate))
	}
	if was != template && slices.Contains(ours, was) {
		p.Files = append(p.Files, File{Path: path, Link: template})
	}
	return nil
}

// unmasked fails if what holds of units, of which the first one that is there does, is
// that there is none.
func (t *tree) unmasked(names ...string) error {
	for _, name := range names {
		file := filepath.Join(own, name)
		if masked, err := t.masked(file); err != nil {
			return fmt.Errorf("looking at what is masked: %w", err)
		} else if masked {
			return fmt.Errorf("%s is masked: remove %s first", name, t.below(file))
		}
		if t.isFile(file) { // which comes before a template
			break
		}
	}
	return nil
}

// disable plans that a timer does not start at boot.
func (t *tree) disable(p *Plan, job string) error {
	path := filepath.Join(wants, TimerUnit(job))
	was, err := t.link(path)
	if err != nil {
		return fmt.Errorf("looking at what is enabled: %w", err)
	}
	if was != "" {
		p.Files = append(p.Files, File{Path: path})
	}
	return nil
}

// file returns a file as it is: without a text and a link if it is not there.
func (t *tree) file(path string) (File, error) {
	target, err := t.link(path)
	if err != nil || target != "" {
		return File{Path: path, Link: target}, err
	}
	text, err := t.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return File{Path: path, Text: text}, err
}
