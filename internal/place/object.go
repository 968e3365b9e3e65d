package place

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// queryForm says what the query of a URL may have.
type queryForm struct {
	of      string // "an S3 URL"
	options []string
}

var s3Query = queryForm{"an S3 URL", []string{"endpoint", "kms-key", "path-style", "region", "sse", "storage-class"}}

var glacierQuery = queryForm{"a Glacier URL", []string{"account", "database", "endpoint", "layout", "region"}}

// BtrsendLayout is the value of the option layout for what btrsend has left.
const BtrsendLayout = "btrsend"

// queryOf says what the query of the URLs of a scheme may have.
func queryOf(scheme string) (form queryForm, ok bool) {
	switch scheme {
	case "s3":
		return s3Query, true
	case "glacier":
		return glacierQuery, true
	}
	return queryForm{}, false
}

// SplitQuery cuts the options off what a URL of a scheme has behind "://", or off
// the whole URL; query has its question mark. Where the scheme has no options, all
// of it is path. An error says which option is none.
func SplitQuery(scheme, text string) (before, query string, err error) {
	form, ok := queryOf(scheme)
	if !ok {
		return text, "", nil
	}
	before, query, _, err = splitQuery(text, form)
	return before, query, err
}

// splitQuery cuts the options off a URL, and reads them. A question mark belongs to the path
// unless every piece behind the last one has the form KEY=VALUE.
func splitQuery(arg string, form queryForm) (before, query string, options map[string]string, err error) {
	i := strings.LastIndexByte(arg, '?')
	if i < 0 {
		return arg, "", nil, nil
	}
	pieces := strings.Split(arg[i+1:], "&")
	for _, piece := range pieces {
		if key, _, ok := strings.Cut(piece, "="); !ok || key == "" || strings.ContainsRune(key, '/') {
			return arg, "", nil, nil
		}
	}
	options = map[string]string{}
	for _, piece := range pieces {
		key, value, _ := strings.Cut(piece, "=")
		_, twice := options[key]
		switch {
		case !slices.Contains(form.options, key):
			return "", "", nil, fmt.Errorf("%s has no option %q: want %s", form.of, key, strings.Join(form.options, ", "))
		case twice:
			return "", "", nil, fmt.Errorf("the option %q is there twice", key)
		}
		if value, err = url.PathUnescape(value); err != nil {
			return "", "", nil, fmt.Errorf("the value of the option %q is not escaped as in a URL", key)
		}
		options[key] = value
	}
	return arg[:i], arg[i:], options, nil
}

// parseS3 reads what stands behind s3:// in an argument.
func parseS3(arg, text string, destination bool) (Place, error) {
	p := Place{Arg: arg, Scheme: "s3"}
	var err error
	if text, p.Query, p.Options, err = splitQuery(text, s3Query); err != nil {
		return Place{}, err
	}
	bucket, key, _ := strings.Cut(text, "/")
	p.Bucket = bucket
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	switch {
	case bucket == "":
		return Place{}, fmt.Errorf("%q names no bucket: want s3://BUCKET/PREFIX/", Redact(arg))
	case strings.ContainsAny(bucket, ":@"):
		// Not shown, not even with stars: any of it may be the secret.
		return Place{}, errors.New("credentials do not belong into an S3 URL: want s3://BUCKET/PREFIX/, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile in the environment")
	case strings.ContainsFunc(bucket, odd):
		return Place{}, fmt.Errorf("%q: a bucket has letters, digits, '.', '-' and '_' in its name: want s3://BUCKET/PREFIX/", Redact(arg))
	}
	return p.below(key, "a bucket", destination)
}

// parseGlacier reads what stands behind glacier:// in an argument.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-put.html has the rule for
// names of vaults.
func parseGlacier(arg, text string, destination bool) (Place, error) {
	p := Place{Arg: arg, Scheme: "glacier"}
	var err error
	if text, p.Query, p.Options, err = splitQuery(text, glacierQuery); err != nil {
		return Place{}, err
	}
	vault, key, _ := strings.Cut(text, "/")
	p.Bucket = vault
	switch {
	case vault == "":
		return Place{}, fmt.Errorf("%q names no vault: want glacier://VAULT/PREFIX/", Redact(arg))
	case strings.ContainsAny(vault, ":@"):
		// Not shown, not even with stars: any of it may be the secret.
		return Place{}, errors.New("credentials do not belong into a Glacier URL: want glacier://VAULT/PREFIX/, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile in the environment, or ~/.aws-keys")
	}
	if err := CheckVault(vault); err != nil {
		return Place{}, fmt.Errorf("%q: %w", Redact(arg), err)
	}
	if p, err = p.below(key, "a vault", destination); err != nil {
		return Place{}, err
	}
	layout, given := p.Options["layout"]
	database, listed := p.Options["database"]
	switch {
	case given && layout != BtrsendLayout:
		return Place{}, fmt.Errorf("%q: the layout %q is not known: want %s, or no such option for ours", Redact(arg), layout, BtrsendLayout)
	case listed && database == "":
		return Place{}, fmt.Errorf("%q: want the path of btrsend's database in the option database", Redact(arg))
	case p.OfBtrsend() && p.Dir != "":
		return Place{}, fmt.Errorf("%q: btrsend has no prefixes: want glacier://%s/ or glacier://%s/DATE, with the options", Redact(arg), vault, vault)
	}
	return p, nil
}

// CheckVault says why there can be no vault of a name; nil if there can.
func CheckVault(name string) error {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, odd) {
		return errors.New("a vault has letters, digits, '.', '-' and '_' in its name, 255 of them at most")
	}
	return nil
}
