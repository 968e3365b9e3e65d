package glacier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/glacier/types"

	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/store"
)

// Inventory is what a vault held at a time.
type Inventory struct {
	Taken time.Time
	// Asked is when it was asked for, by the vault's clock.
	Asked    time.Time
	Archives []Stored
}

// asOf is up to when it tells what is in the vault at least. A vault in which nothing
// changes takes no inventories: if the newest was old when it was asked for, nothing
// had been stored or deleted since, but for the last days.
// docs.aws.amazon.com/amazonglacier/latest/dev/vault-inventory.html
func (i *Inventory) asOf() time.Time {
	if asked := i.Asked.Add(-doubt); asked.After(i.Taken) {
		return asked
	}
	return i.Taken
}

// inventoryAfter is how long it takes as a rule until an inventory can be read,
// and inventoryEvery how often a vault takes one.
// docs.aws.amazon.com/amazonglacier/latest/dev/vault-inventory.html
const (
	inventoryAfter = 5 * time.Hour
	inventoryEvery = 24 * time.Hour
)

// Inventory returns the newest inventory that can be read, and asks for one if ask
// is set and none has been asked for. *store.PendingError says that it is not there
// yet, and store.ErrCold that it would have to be asked for. An inventory comes as
// soon as it does: the tier has no effect on it.
func (v *Vault) Inventory(ctx context.Context, _ store.Tier, ask bool) (*Inventory, error) {
	jobs, err := v.inventories(ctx)
	if err != nil {
		return nil, err
	}
	for range 2 { // its output may go while it is looked at
		j, ok, err := v.current(ctx, jobs)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if j.Done.IsZero() {
			return nil, v.pending(j)
		}
		inventory, err := v.readInventory(ctx, j)
		if !errors.Is(err, errNoJob) {
			return inventory, err
		}
		v.markGone(j.ID)
	}
	if !ask {
		return nil, fmt.Errorf("the inventory of %s has to be asked for first: %w", v, store.ErrCold)
	}
	r := &request{doing: "asking for the inventory of", action: "glacier:InitiateJob", missing: errNoArchive}
	wanted := &types.JobParameters{Type: aws.String("inventory-retrieval"), Format: aws.String("JSON"), Description: aws.String("buttersink")}
	j, err := v.initiate(ctx, r, wanted, func() (Job, bool, error) {
		jobs, err := v.inventories(ctx)
		if err != nil {
			return Job{}, false, err
		}
		return v.current(ctx, jobs)
	})
	if errors.Is(err, errNoArchive) || errors.Is(err, errNoVault) {
		// There may be a vault, and no inventory of it so far.
		d, e := v.describe(ctx)
		if e != nil {
			return nil, e
		}
		if aws.ToString(d.LastInventoryDate) == "" {
			return nil, &noInventoryError{v.String(), &store.PendingError{
				What: fmt.Sprintf("the first inventory of %s", v), Due: v.now().Add(inventoryEvery).UTC(),
			}}
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, v.pending(j)
}

// noInventoryError says that a vault has never taken an inventory. An empty one never
// does.
type noInventoryError struct {
	vault   string
	pending *store.PendingError
}

func (e *noInventoryError) Unwrap() error { return e.pending }

func (e *noInventoryError) Error() string {
	return fmt.Sprintf("%s has no inventory so far: it takes the first one within a day of something being stored in it, so try again by %s; "+
		"if nothing was ever stored in it, buttersink init %s/ begins an archive there at once",
		e.vault, e.pending.Due.Format("2006-01-02 15:04 MST"), e.vault)
}

// pending says that an inventory is not there yet.
func (v *Vault) pending(j Job) error {
	e := &store.PendingError{What: fmt.Sprintf("the inventory of %s", v), Asked: j.Asked}
	if !j.Asked.IsZero() {
		e.Due = j.Asked.Add(inventoryAfter)
	}
	return e
}

// inventories gives the jobs for whole inventories, the one that counts first.
func (v *Vault) inventories(ctx context.Context) ([]Job, error) {
	list, err := v.listJobs(ctx)
	if err != nil {
		return nil, err
	}
	var jobs []Job
	for _, d := range list {
		if d.Action != types.ActionCodeInventoryRetrieval || d.StatusCode == types.StatusCodeFailed {
			continue
		}
		if p := d.InventoryRetrievalParameters; p != nil &&
			(p.StartDate != nil || p.EndDate != nil || p.Marker != nil || p.Limit != nil || aws.ToString(p.Format) == "CSV") {
			continue // somebody else's
		}
		jobs = sooner(jobs, jobOf(d))
	}
	return jobs, nil
}

// readInventory reads the output of a job. A connection that breaks in the middle
// has it read again.
func (v *Vault) readInventory(ctx context.Context, j Job) (*Inventory, error) {
	const times = 4
	for attempt := 1; ; attempt++ {
		out, err := v.output(ctx, j.ID, nil)
		if err != nil {
			return nil, err
		}
		inventory, err := ParseInventory(out.Body)
		out.Body.Close()
		if err == nil {
			inventory.Asked = j.Asked
			return inventory, nil
		}
		broken := passing(err) || reach.IsNetwork(err)
		err = fmt.Errorf("reading the inventory of %s: %w", v, err)
		if ctx.Err() != nil || !broken {
			return nil, err
		}
		if attempt == times {
			return nil, store.MarkTemporary(err)
		}
		v.log.Debug("reading the inventory again", "because", err)
	}
}

// ParseInventory reads an inventory in JSON. It holds one archive's text at a time,
// beside what it returns.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-job-output-get.html
func ParseInventory(r io.Reader) (*Inventory, error) {
	d := json.NewDecoder(r)
	if err := delim(d, '{'); err != nil {
		return nil, err
	}
	var (
		found  Inventory
		listed bool
	)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, cut(err)
		}
		switch name {
		case "InventoryDate":
			var text string
			if err := d.Decode(&text); err != nil {
				return nil, cut(err)
			}
			if found.Taken = moment(&text); found.Taken.IsZero() {
				return nil, fmt.Errorf("the inventory is of %.40q, which is no time", text)
			}
		case "ArchiveList":
			if listed {
				return nil, errors.New("the inventory has two lists of archives")
			}
			listed = true
			if found.Archives, err = parseArchives(d); err != nil {
				return nil, err
			}
		default:
			var other json.RawMessage
			if err := d.Decode(&other); err != nil {
				return nil, cut(err)
			}
		}
	}
	if err := delim(d, '}'); err != nil {
		return nil, err
	}
	if !listed || found.Taken.IsZero() {
		return nil, errors.New("this is no inventory: there is no date in it, or no list of archives")
	}
	return &found, nil
}

func parseArchives(d *json.Decoder) ([]Stored, error) {
	if err := delim(d, '['); err != nil {
		return nil, err
	}
	var all []Stored
	for d.More() {
		var a struct {
			ArchiveId, ArchiveDescription, CreationDate, SHA256TreeHash string
			Size                                                        int64
		}
		if err := d.Decode(&a); err != nil {
			return nil, cut(err)
		}
		s := Stored{ID: a.ArchiveId, Description: a.ArchiveDescription, Size: a.Size, Created: moment(&a.CreationDate)}
		var err error
		if s.Tree, err = ParseTreeHash(a.SHA256TreeHash); err != nil {
			return nil, fmt.Errorf("archive %.200q of the inventory: %w", a.ArchiveId, err)
		}
		if s.ID == "" || s.Size < 0 || s.Created.IsZero() {
			return nil, fmt.Errorf("archive %.200q of the inventory has no ID, or a length or a time that cannot be", a.ArchiveId)
		}
		all = append(all, s)
	}
	return all, delim(d, ']')
}

// delim reads a bracket.
func delim(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return cut(err)
	}
	if got != want {
		return fmt.Errorf("this is no inventory: %.40v where %v should be", got, want)
	}
	return nil
}

// cut makes an end that comes too soon an error.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
