package glaciertest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timeFormat is how the API writes times.
const timeFormat = "2006-01-02T15:04:05.000Z"

// overhead is what an archive counts besides its bytes: 8 KiB of names and 32 KiB
// of index (docs.aws.amazon.com/amazonglacier/latest/dev/working-with-archives.html).
const overhead = 40 << 10

// vaultJSON is a vault as it is described.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-get.html
type vaultJSON struct {
	CreationDate      string
	LastInventoryDate *string
	NumberOfArchives  *int64
	SizeInBytes       *int64
	VaultARN          string
	VaultName         string
}

func arn(vault string) string {
	return "arn:aws:glacier:" + Region + ":" + Account + ":vaults/" + vault
}

// checkName says why there can be no vault of a name.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-put.html
func checkName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	if len(name) < 1 || len(name) > 255 || strings.Trim(name, allowed) != "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) {
		return invalid("Invalid vault name: %s", name)
	}
	return nil
}

// known returns the vault a call names.
func (s *Server) known(c *call) (*vault, error) {
	if v := s.state.vaults[c.vault]; v != nil {
		return v, nil
	}
	return nil, notFound("Vault not found for ARN: %s", arn(c.vault))
}

func location(parts ...string) map[string]string {
	return map[string]string{"Location": "/" + Account + "/vaults/" + strings.Join(parts, "/")}
}

func (s *Server) createVault(c *call) (*answer, error) {
	if c.body.size > 0 {
		return nil, invalid("The request body must be empty.")
	}
	if _, err := s.state.create(c.vault); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusCreated, header: location(c.vault)}, nil
}

func (s *Server) describeVault(c *call) (*answer, error) {
	v, err := s.known(c)
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, json: s.describe(v)}, nil
}

func (s *Server) describe(v *vault) vaultJSON {
	d := vaultJSON{CreationDate: v.Created.Format(timeFormat), VaultARN: arn(v.Name), VaultName: v.Name}
	if taken, all, ok := v.inventory(s.state.now()); ok {
		text, n, size := taken.Format(timeFormat), int64(len(all)), int64(0)
		for _, a := range all {
			size += a.Size + overhead
		}
		d.LastInventoryDate, d.NumberOfArchives, d.SizeInBytes = &text, &n, &size
	}
	return d
}

// deleteVault follows docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-delete.html:
// what counts is the last inventory, and what was written since.
func (s *Server) deleteVault(c *call) (*answer, error) {
	v := s.state.vaults[c.vault]
	if v == nil {
		return &answer{status: http.StatusNoContent}, nil
	}
	taken, all, _ := v.inventory(s.state.now())
	for _, a := range v.archives {
		if len(all) > 0 || a.Created.After(taken) {
			return nil, invalid("Vault not empty or recently written to: %s", arn(v.Name))
		}
	}
	if err := s.state.drop(v); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Server) listVaults(c *call) (*answer, error) {
	q := c.URL.Query()
	const most = 10
	limit, err := limit(q, most, most)
	if err != nil {
		return nil, err
	}
	names := s.state.names()
	if marker := q.Get("marker"); marker != "" {
		after, ok := strings.CutPrefix(marker, arn(""))
		if !ok {
			return nil, invalid("Invalid marker: %s", marker)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n <= after })
	}
	reply := struct {
		Marker    *string
		VaultList []vaultJSON
	}{VaultList: []vaultJSON{}}
	for i, n := range names {
		if i == limit {
			marker := arn(names[i-1])
			reply.Marker = &marker
			break
		}
		reply.VaultList = append(reply.VaultList, s.describe(s.state.vaults[n]))
	}
	return &answer{status: http.StatusOK, json: reply}, nil
}

// limit reads how many things a page may have: usually so many, and at most so
// many.
func limit(q url.Values, usual, most int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid("The limit is not between 1 and %d: %s", most, text)
	}
	return n, nil
}

// page returns those of some sorted things that begin at a marker, at most so many,
// and the marker of the rest.
func page[T any](all []T, marker string, limit int, key func(T) string) (some []T, next *string, err error) {
	from := 0
	if marker != "" {
		from = slices.IndexFunc(all, func(one T) bool { return key(one) == marker })
		if from < 0 {
			return nil, nil, invalid("Invalid marker: %s", marker)
		}
	}
	some = all[from:]
	if len(some) > limit {
		rest := key(some[limit])
		some, next = some[:limit], &rest
	}
	return some, next, nil
}

// orNull is nil for an empty text.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// timeOrNull is nil for no time.
func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return orNull(t.Format(timeFormat))
}
