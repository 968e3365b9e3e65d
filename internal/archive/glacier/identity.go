package glacier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// recognise makes sure that the catalogue is that of the vault that is reached. Keys
// of another account reach another one of the same name; and there may have been one
// of the name before. Who may not look at vaults is believed to have the right one.
func (b *bucket) recognise(ctx context.Context, c *contents) (*contents, error) {
	d, err := b.describe(ctx)
	if errors.Is(err, fs.ErrPermission) {
		b.log.Debug("whether it is the vault of the catalogue is not asked", "because", err)
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	s := c.state
	s.Vault, s.Made = aws.ToString(d.VaultARN), aws.ToString(d.CreationDate)
	switch {
	case c.state.Vault != "" && s.Vault != c.state.Vault:
		return nil, fmt.Errorf("the ledger tells what is in %s, and the keys in use reach %s: use the keys that belong to the former, or name the account of the latter, %s?account=%s",
			c.state.Vault, s.Vault, b.Vault, accountOf(s.Vault))
	case c.state.Made != "" && s.Made != c.state.Made:
		b.log.Warn("the vault has been deleted and made anew since it was used from here last; what was in it is gone", "vault", b.String(), "made", s.Made)
		if err := b.forget(); err != nil {
			return nil, err
		}
		return b.load()
	}
	if heard := moment(d.LastInventoryDate); s.Settled && heard.After(c.changed().Add(doubt)) {
		b.log.Info("the vault has been changed from elsewhere, or with another ledger; its inventory tells how", "vault", b.String())
		s.Settled, s.After = false, heard.Add(-time.Second)
	}
	if s.Known && s != c.state {
		if err := b.enter(stateName, s); err != nil {
			return nil, err
		}
	}
	c.state = s
	return c, nil
}

// changed is up to when the catalogue tells of changes of the vault. A vault takes an
// inventory only after a change, within a day; so one that is much newer says that
// there has been one which the catalogue does not know of.
// docs.aws.amazon.com/amazonglacier/latest/dev/vault-inventory.html
func (c *contents) changed() time.Time {
	last := c.state.Taken
	add := func(t time.Time) {
		if t.After(last) {
			last = t
		}
	}
	for _, e := range c.objects {
		if e.Seen.IsZero() {
			add(e.Created)
		}
	}
	for _, g := range c.gone {
		add(g.When)
	}
	for _, u := range c.closing {
		add(u.Begun)
	}
	for _, d := range c.doubles {
		add(d.When)
	}
	return last
}

// accountOf is the account in the name that a vault has for itself:
// arn:aws:glacier:REGION:ACCOUNT:vaults/NAME.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-get.html
func accountOf(arn string) string {
	const at = 4
	if fields := strings.Split(arn, ":"); len(fields) > at {
		return fields[at]
	}
	return ""
}
