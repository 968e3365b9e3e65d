package runner

import (
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/config"
)

func TestLookGone(t *testing.T) {
	plain := config.Job{
		Name: "j", Kind: config.Backup, Snapshot: true, Sources: []string{"/srv/*"}, Every: 24 * time.Hour,
		Destinations: []config.Destination{{Name: "nas/{source}"}},
	}
	with := func(change func(*config.Job)) config.Job {
		j := plain
		change(&j)
		return j
	}
	const both, one = "/srv/a>nas/srv-a done, /srv/b>nas/srv-b done", "/srv/b>nas/srv-b done"
	for name, c := range map[string]struct {
		job     config.Job
		history string
		want    string // of /srv/a
	}{
		"there":                {plain, "-1h done: " + both, "fine /srv/a>nas/srv-a"},
		"since today":          {plain, "-25h done: " + both + "\n-1h done: " + one, "fine gone /srv/a>nas/srv-a"},
		"for two days":         {plain, "-49h done: " + both + "\n-1h done: " + one, "LATE gone /srv/a>nas/srv-a"},
		"for a month":          {plain, "-740h done: " + both + "\n-1h done: " + one, "LATE gone /srv/a>nas/srv-a"},
		"for longer":           {plain, "-760h done: " + both + "\n-1h done: " + one, ""},
		"nothing says how old": {with(func(j *config.Job) { j.Every = 0 }), "-49h done: " + both + "\n-25h done: " + one + "\n-1h done: " + one, "fine gone /srv/a>nas/srv-a"},
		"excluded":             {with(func(j *config.Job) { j.Exclude = []string{"/srv/a"} }), "-49h done: " + both + "\n-1h done: " + one, ""},
		"named once":           {plain, "-49h done: /srv/a>nas/srv-a done, /srv/.cache>nas/srv-.cache done, " + one + "\n-1h done: " + one, "LATE gone /srv/a>nas/srv-a"},
		"it never succeeded":   {plain, "-49h failed: /srv/a>nas/srv-a failed, " + one + "\n-1h done: " + one, ""},
		"nor was it last":      {plain, "-73h done: " + both + "\n-49h failed: /srv/a>nas/srv-a failed, " + one + "\n-1h done: " + one, "LATE gone /srv/a>nas/srv-a"},
		"of another pattern":   {with(func(j *config.Job) { j.Sources = []string{"/srv/b*"} }), "-49h done: " + both + "\n-1h done: " + one, ""},
		"nested":               {with(func(j *config.Job) { j.Sources, j.Nested = []string{"/srv"}, true }), "-25h done: /srv>nas/srv done, " + both + "\n-1h done: /srv>nas/srv done, " + one, "fine gone /srv/a>nas/srv-a"},
		"nested no more":       {with(func(j *config.Job) { j.Sources = []string{"/srv"} }), "-25h done: /srv>nas/srv done, " + both + "\n-1h done: /srv>nas/srv done", ""},
		"a cut run":            {plain, "-25h done: " + both + "\n-1h interrupted: " + one, "fine! /srv/a>nas/srv-a"},
		"another destination":  {with(func(j *config.Job) { j.Destinations = []config.Destination{{Name: "usb/{source}"}} }), "-25h done: " + both + "\n-1h done: " + one, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := history(t, "j", c.history)
			s, err := Look(&config.File{Jobs: []config.Job{c.job}}, l, noon, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, p := range s.Jobs[0].Places {
				if p.Source != "/srv/a" && p.Source != "/srv/.cache" || p.Destination == "" {
					continue
				}
				got += map[bool]string{true: "LATE", false: "fine"}[p.Late] + map[bool]string{true: "!"}[p.Failed]
				if p.Gone {
					got += " gone"
					if !strings.Contains(p.Why, "it has gone: no run has found it for ") {
						t.Errorf("it says %q", p.Why)
					}
				}
				got += " " + p.Source + ">" + p.Destination
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
