package place

import (
	"maps"
	"net/url"
	"strings"
)

// At is the place where an endpoint stands for S3, unless its URL says which: buckets
// of one name, at two of them, are two places.
func (p Place) At(endpoint string) Place {
	if p.Scheme != "s3" || endpoint == "" || p.Options["endpoint"] != "" {
		return p
	}
	options := maps.Clone(p.Options)
	if options == nil {
		options = map[string]string{}
	}
	options["endpoint"] = endpoint
	p.Options = options
	return p
}

// ID is what a destination is called in the notes beside the snapshots: two places
// are one if it is the same. Those of directories, machines and commands are
// btrfs-backup's, and all of them name the destination again when they are typed.
func (p Place) ID() string {
	switch p.Scheme {
	case "ssh", "ssh+btrfs": // by which program over there is no part of the place
		m := p.Machine
		m.Host = strings.ToLower(m.Host)
		return "ssh://" + m.String() + p.Dir
	case "shell":
		return "shell://" + p.Command
	case "dir":
		return "dir://" + p.Dir
	case "s3":
		id := "s3://" + p.Bucket + "/" + p.Dir
		if endpoint := p.Options["endpoint"]; endpoint != "" {
			id += "?endpoint=" + url.QueryEscape(endpoint)
		}
		return id
	case "glacier":
		return "glacier://" + p.Bucket + "/" + p.Dir + p.Query
	}
	return p.Dir
}
