package glaciertest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ofInventory fills in the retrieval of the inventory: of the newest there is when
// it is asked for. Where there is none yet, the job is refused.
func (s *Server) ofInventory(v *vault, j *job, format string, f *filter) error {
	if format == "" {
		format = "JSON"
	}
	if format != "JSON" && format != "CSV" {
		return invalid("Invalid format: %s", format)
	}
	taken, all, ok := v.inventory(j.Asked)
	if !ok {
		return notFound("There is no inventory of the vault yet: %s", arn(v.Name))
	}
	slices.SortFunc(all, func(a, b *archive) int { return strings.Compare(a.ID, b.ID) })
	if f != nil {
		var err error
		if all, j.Next, err = f.apply(all); err != nil {
			return err
		}
	}
	j.Format, j.Filter, j.Due = format, f, j.Asked.Add(InventoryTime)
	var err error
	j.Output, err = list(v, taken, all, format)
	return err
}

// apply leaves what a filter asks for, and says where the rest begins.
func (f *filter) apply(all []*archive) (some []*archive, next string, err error) {
	start, end := time.Time{}, time.Time{}
	for _, d := range []struct {
		text *string
		at   *time.Time
	}{{f.StartDate, &start}, {f.EndDate, &end}} {
		if d.text == nil {
			continue
		}
		if *d.at, err = time.Parse(time.RFC3339, *d.text); err != nil {
			return nil, "", invalid("Invalid date: %s", *d.text)
		}
	}
	most := len(all)
	if f.Limit != nil {
		if most, err = strconv.Atoi(*f.Limit); err != nil || most < 1 {
			return nil, "", invalid("Invalid limit: %s", *f.Limit)
		}
	}
	for _, a := range all {
		if f.Marker != nil && a.ID < *f.Marker || a.Created.Before(start) || !end.IsZero() && !a.Created.Before(end) {
			continue
		}
		if len(some) == most {
			return some, a.ID, nil
		}
		some = append(some, a)
	}
	return some, "", nil
}

// list writes an inventory.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-job-output-get.html
func list(v *vault, taken time.Time, all []*archive, format string) ([]byte, error) {
	if format == "CSV" {
		var b strings.Builder
		b.WriteString("ArchiveId,ArchiveDescription,CreationDate,Size,SHA256TreeHash\n")
		for _, a := range all {
			// Quotes are escaped with a backslash, and backslashes are not.
			fmt.Fprintf(&b, "%s,\"%s\",%s,%d,%s\n", a.ID, strings.ReplaceAll(a.Description, `"`, `\"`), a.Created.Format(timeFormat), a.Size, a.Tree)
		}
		return []byte(b.String()), nil
	}
	type archiveJSON struct {
		ArchiveID          string `json:"ArchiveId"`
		ArchiveDescription string
		CreationDate       string
		Size               int64
		SHA256TreeHash     string
	}
	out := struct {
		VaultARN      string
		InventoryDate string
		ArchiveList   []archiveJSON
	}{VaultARN: arn(v.Name), InventoryDate: taken.Format("2006-01-02T15:04:05Z"), ArchiveList: []archiveJSON{}}
	for _, a := range all {
		out.ArchiveList = append(out.ArchiveList, archiveJSON{
			ArchiveID: a.ID, ArchiveDescription: a.Description, CreationDate: a.Created.Format(timeFormat),
			Size: a.Size, SHA256TreeHash: a.Tree,
		})
	}
	return json.Marshal(out)
}
