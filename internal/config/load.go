package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Load reads a configuration. It fails with *Error where something is wrong with
// what it says, and otherwise where it cannot be read. Where only the machine is not
// as it should be for some of it, the File has Troubles.
func Load(path string, c Checks) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the configuration: %w", err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("reading the configuration: %s is longer than %d bytes", path, maxFile)
	}
	d := newDocument(path, data)
	d.safe(info)
	return decode(d, c)
}

// decoder makes a File of a document, and notes everything that is wrong on the
// way.
type decoder struct {
	*document
	checks  Checks
	file    *File
	stores  map[string]*Store // with those that have problems of their own
	broken  map[string]bool   // which these are
	notices map[string]bool
	brought map[string]brought // by place, and what tells the snapshots there apart
	// troubles are in the order in which they were found.
	troubles []noted
}

// decode reads a document.
func decode(d *document, c Checks) (*File, error) {
	r := &decoder{
		document: d, checks: c, file: &File{Path: d.path},
		stores: map[string]*Store{}, broken: map[string]bool{}, notices: map[string]bool{},
		brought: map[string]brought{},
	}
	if root := d.parse(); root != nil {
		r.root(root)
	}
	if len(d.found) > 0 {
		for _, n := range r.troubles {
			d.found = append(d.found, n.located)
		}
		return nil, d.err()
	}
	r.tell()
	return r.file, nil
}

func (r *decoder) root(root *table) {
	var stores, notices, jobs, metrics *value
	keep := func(to **value) func(*value) { return func(v *value) { *to = v } }
	known := []field{{"stores", keep(&stores)}, {"jobs", keep(&jobs)}, {"notify", keep(&notices)}, {"metrics", keep(&metrics)}}
	r.fields(root, "a configuration", known, func(key string) string {
		if e := root.index[key]; e.value.form == aTable && e.value.table.index["sources"] != nil && nameForm.MatchString(key) {
			return fmt.Sprintf("If that is a job, write [jobs.%s].", key)
		}
		return belongs(key)
	})
	// Jobs name stores and notices, wherever these are in the file.
	r.named(stores, "stores", "a store", r.store)
	r.named(notices, "notify", "a notice", r.notice)
	r.named(jobs, "jobs", "a job", r.job)
	if metrics != nil && r.is(metrics, aTable, "[metrics]") {
		r.fields(metrics.table, "[metrics]", []field{{"textfile", r.textfile}}, nil)
	}
}

// nameForm is what names of stores, jobs and notices may be: they become parts of
// the names of files and units.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// named reads a table of tables, each of which has a name.
func (r *decoder) named(v *value, key, what string, read func(e *entry)) {
	if v == nil || !r.is(v, aTable, "["+key+".NAME]") {
		return
	}
	for i, e := range v.table.entries {
		if i == most {
			r.wrong(e.at, fmt.Sprintf("there are more than %d of these", most), "Write another configuration for the rest, and name it with -c.")
			return
		}
		switch {
		case !nameForm.MatchString(e.key):
			r.wrong(e.at, fmt.Sprintf("%q cannot be the name of %s", e.key, what), "It takes letters, digits, and behind the first also _, . and -, 64 of them at most.")
			fallthrough
		default:
			if r.is(e.value, aTable, "["+key+"."+e.key+"]") {
				read(e)
			}
		}
	}
}

// textfile reads where metrics go.
func (r *decoder) textfile(v *value) {
	var name string
	r.text(&name, "/var/lib/prometheus/node-exporter/buttersink.prom")(v)
	switch {
	case name == "":
	case !filepath.IsAbs(name):
		r.wrong(v.span, fmt.Sprintf("%q is no full path", name), "Write where it is, beginning with a slash.")
	case !strings.HasSuffix(name, ".prom"):
		r.wrong(v.span, "the node exporter reads only files that end in .prom", fmt.Sprintf("Write %q.", name+".prom"))
	default:
		r.file.Textfile = name
	}
}

// store reads one.
func (r *decoder) store(e *entry) {
	s := Store{Name: e.key, At: r.position(e.at.start)}
	var own []placed
	before, troubles := len(r.found), len(r.troubles)
	r.fields(e.table, "a store", append([]field{{"url", r.text(&s.URL, "ssh://host/srv/backup/")}}, r.settings(&own, false)...), func(key string) string {
		if key == "path" || key == "keep" {
			return fmt.Sprintf("%q is about one job's destination: write it in [[jobs.NAME.destinations]].", key)
		}
		return belongs(key)
	})
	url := e.table.index["url"]
	switch {
	case url == nil:
		r.lacks(e.at, fmt.Sprintf("the store %q has no url", e.key), `Write url = "ssh://host/srv/backup/", say.`)
	case s.URL != "" && r.url("", s.URL, url.span):
		own = r.checked(s.URL, own)
		if len(r.found) == before {
			r.together(url.span, s.URL, bare(own), own)
		}
	default:
		own = r.checked("", own)
	}
	s.Settings, s.Troubles = bare(own), r.since(troubles)
	r.broken[s.Name] = len(r.found) > before
	r.file.Stores = append(r.file.Stores, s)
	r.stores[s.Name] = &s
}

// braces is what may have been meant to stand for something.
var braces = regexp.MustCompile(`\{[A-Za-z_-]*\}`)

// placeholders notes what is between braces and stands for nothing.
func (r *decoder) placeholders(text string, at span, known ...string) bool {
	for _, found := range braces.FindAllString(text, -1) {
		if !slices.Contains(known, found) {
			fix := "It stands for nothing here; leave it out."
			if len(known) > 0 {
				fix = "Here, only " + listed(known) + " stands for something."
			}
			r.wrong(at, found+" is not known", fix)
			return false
		}
	}
	return true
}

// elsewhere says how a place is written that rsync's form names.
func elsewhere(host, dir string) string {
	return fmt.Sprintf("If it is on another machine, write %q.", cover("ssh://"+host+"/"+strings.TrimLeft(dir, "/")))
}

// sample is a URL with a name in it that a source could have.
func sample(url string) string { return strings.ReplaceAll(url, "{source}", "source") }

// url notes what is wrong with the URL of a store, or of a destination of a kind of
// job.
func (r *decoder) url(kind Kind, url string, at span) bool {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || strings.ContainsAny(scheme, ":/") {
		scheme, rest = "", url
	}
	if scheme != "shell" && !r.placeholders(url, at, "{source}") {
		return false
	}
	switch scheme {
	case "", "dir", "file", "btrfs":
		if strings.HasPrefix(rest, "/") {
			break
		}
		fix := "Write where it is, beginning with a slash: the program may be started anywhere."
		if host, dir, ok := strings.Cut(rest, ":"); ok && scheme == "" {
			fix = elsewhere(host, dir)
		}
		r.wrong(at, fmt.Sprintf("%q is no full path", cover(rest)), fix)
		return false
	}
	if r.checks.URL != nil {
		if err := r.checks.URL(kind, sample(url)); err != nil {
			err = errors.New(strings.ReplaceAll(err.Error(), sample(url), url))
			r.taken(at, err, `Write url = "ssh://host/srv/backup/", say.`)
			return false
		}
	}
	return true
}

// notice reads one.
func (r *decoder) notice(e *entry) {
	n := Notice{Name: e.key, At: r.position(e.at.start), Timeout: usualNoticeTimeout}
	r.notices[n.Name] = true
	troubles := len(r.troubles)
	if ping := e.table.index["ping"]; ping != nil {
		r.secret = append(r.secret, r.behindHost(ping.span))
	}
	r.fields(e.table, "a notice", []field{
		{"ping", r.text(&n.Ping, "https://hc-ping.com/KEY/{job}")},
		{"mail", r.texts(&n.Mail, "root", r.address)},
		{"sendmail", r.program("sendmail", &n.Sendmail)},
		{"command", r.program("command", &n.Command)},
		{"on", r.texts(&n.On, "failure", r.event)},
		{"timeout", r.lasting(&n.Timeout, time.Second)},
	}, nil)
	t := e.table
	if ping := t.index["ping"]; ping != nil {
		r.ping(n.Ping, ping.span)
	}
	var ways []*entry
	for _, key := range []string{"ping", "mail", "command"} {
		if way := t.index[key]; way != nil {
			ways = append(ways, way)
		}
	}
	switch {
	case len(ways) == 0:
		r.lacks(e.at, fmt.Sprintf("the notice %q tells nobody", e.key), `Write ping = "https://...", mail = ["root"] or command = ["/usr/local/bin/program"].`)
		return
	case len(ways) > 1:
		r.wrong(ways[1].at, fmt.Sprintf("%q is beside %q, and a notice is one of them", ways[1].key, ways[0].key), "Make another notice for it: [notify.NAME].")
		return
	}
	if sendmail := t.index["sendmail"]; sendmail != nil && ways[0].key != "mail" {
		r.wrong(sendmail.at, `"sendmail" is only for mail`, "Leave it out.")
	}
	switch ways[0].key {
	case "ping":
		n.defaults("start", "success", "failure")
	case "mail":
		if len(ways[0].list) == 0 && ways[0].form == aList {
			r.wrong(ways[0].span, "there is no address in it", `Write mail = ["root"], say.`)
		}
		n.defaults("failure")
		if t.index["sendmail"] == nil {
			r.sendmail(&n, ways[0].at)
		}
	case "command":
		n.defaults("success", "failure")
	}
	n.Troubles = r.since(troubles)
	r.file.Notices = append(r.file.Notices, n)
}

// defaults has a notice tell of some events, unless the file says of which.
func (n *Notice) defaults(events ...string) {
	if n.On == nil {
		n.On = events
	}
}

// sendmail sets the usual program, which has to be there.
func (r *decoder) sendmail(n *Notice, at span) {
	n.Sendmail = []string{"/usr/sbin/sendmail", "-i", "-t"}
	if r.checks.Program == nil {
		return
	}
	if err := r.checks.Program(n.Sendmail); err != nil {
		message, _, _ := strings.Cut(err.Error(), ": ")
		r.trouble(Trouble{Key: "sendmail", Program: n.Sendmail[0]}, at, "mail is given to the program sendmail, and "+message, `Install one (Debian's packages postfix, msmtp-mta, ...), or name it: sendmail = ["/path", "-i", "-t"].`)
	}
}

// behindHost is the part of a URL behind the host, or all of what is none.
func (r *decoder) behindHost(at span) span {
	text := string(r.data[at.start:at.end])
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return span{at.start + 1, at.end - 1}
	}
	host, _, _ := strings.Cut(rest, "/")
	return span{min(at.start+len(scheme)+len("://")+len(host)+len("/"), at.end-1), at.end - 1}
}

// ping notes what is wrong with a URL to be fetched, and never shows it: who knows
// it can claim that all is well.
func (r *decoder) ping(url string, at span) {
	if url == "" {
		return
	}
	rest, ok := strings.CutPrefix(url, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(url, "http://")
	}
	host, _, _ := strings.Cut(rest, "/")
	switch {
	case !ok || host == "" || strings.ContainsAny(url, " \t\"<>\\^`"):
		r.wrong(at, "this is no URL of a page", `Write "https://host/path".`)
	case strings.ContainsAny(url, "#"):
		r.wrong(at, "there is a # in the URL, and what is behind it is never asked for", "Leave it out.")
	default:
		r.placeholders(url, at, "{job}")
	}
}

// address reports whether mail can go to one, which may be the name of a user.
func (r *decoder) address(v *value) bool {
	if strings.HasPrefix(v.text, "-") || strings.ContainsAny(v.text, " \t\r,;:<>()[]\\\"") {
		r.wrong(v.span, fmt.Sprintf("%q is no address", v.text), `Write "root" or "name@host", one address each.`)
		return false
	}
	return true
}

// events are what can be told.
var events = []string{"start", "success", "failure"}

func (r *decoder) event(v *value) bool {
	if !slices.Contains(events, v.text) {
		r.wrong(v.span, fmt.Sprintf("%q is nothing that is told", v.text), meant(v.text, events))
		return false
	}
	return true
}
