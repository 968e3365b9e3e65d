package cli

import (
	"fmt"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// warnOpened says that streams which are encrypted where they are would be stored
// as they are opened on their way.
func (o *syncOptions) warnOpened(env *Env, src, dst *opened, p *job.Outlook) {
	if len(o.encrypt) > 0 || !dst.Archive() || !src.Archive() || len(p.Steps) == 0 {
		return
	}
	sealed := src.OfBtrsend()
	if from, ok := src.Store.(*archive.Store); ok {
		carried := map[snapshot.Edge]bool{}
		for _, s := range p.Steps {
			carried[s.Edge] = true
		}
		for k := range from.Kept() {
			sealed = sealed || k.Form.Cipher != seal.None && carried[k.Edge]
		}
	}
	if sealed {
		env.Log.Warn(fmt.Sprintf("What is encrypted in %s is opened on its way, and stored in %s without encryption: --encrypt encrypts it anew", src.Store, dst.Store))
	}
}
