// Package glacier keeps archives in vaults of the original Glacier API.
package glacier

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/store"
)

// Options say which vault is meant and how it is reached.
type Options struct {
	// Vault is its name; Account whose it is, empty for the owner of the keys.
	Vault, Account string
	// Region is where it is; empty for that of the environment or the profile, and
	// if there is none, us-east-1.
	Region string
	// Endpoint is the address of the server; empty for that of the environment
	// (AWS_ENDPOINT_URL_GLACIER, AWS_ENDPOINT_URL), and if there is none, AWS.
	Endpoint string
	// KeyFile is a file with two lines, the access key and the secret, as ~/.aws-keys
	// is; it counts where there are no other credentials. It may be missing.
	KeyFile string
	// StallAfter is how long nothing may move over a connection before it is cut;
	// 0 is a minute.
	StallAfter time.Duration
	Limit      *pace.Limiter
	Getenv     func(string) string
	Log        *slog.Logger
	Now        func() time.Time
}

// TreeHash is the SHA-256 tree hash of something.
type TreeHash [32]byte

// Stored is an archive of a vault: what the API calls so.
type Stored struct {
	ID, Description string
	Size            int64
	Tree            TreeHash
	Created         time.Time
}

// Unfinished is a multipart upload that was begun and is not complete.
type Unfinished struct {
	ID, Description string
	PartSize        int64
	Begun           time.Time
}

// Inventory is what a vault held at a time.
type Inventory struct {
	Taken    time.Time
	Archives []Stored
}

// Job is a request to the vault that takes hours.
type Job struct {
	ID          string
	Tier        store.Tier
	Asked, Done time.Time // Done is zero as long as it is not
}

// Vault is a vault. Its methods may be called from several goroutines.
type Vault struct{ client *sdk.Client }

var errStub = errors.New("not there yet")

// Open makes a vault ready. It finds credentials, and asks the vault nothing.
func Open(ctx context.Context, o Options) (*Vault, error) { return nil, errStub }

// String names the vault for people: "glacier://vault".
func (v *Vault) String() string { return "" }

// Location is the same text for two vaults exactly when they are one.
func (v *Vault) Location() string { return "" }

// Tariff says whose prices hold.
func (v *Vault) Tariff() *store.Tariff { return nil }

// Make makes the vault, and tells whether it was not there.
func (v *Vault) Make(ctx context.Context) (made bool, err error) { return false, errStub }

// Put stores a small archive by one request.
func (v *Vault) Put(ctx context.Context, description string, data []byte) (Stored, error) {
	return Stored{}, errStub
}

// Delete removes an archive; that there is none is no error.
func (v *Vault) Delete(ctx context.Context, id string) error { return errStub }

// Begin starts a multipart upload.
func (v *Vault) Begin(ctx context.Context, description string, partSize int64) (*Upload, error) {
	return nil, errStub
}

// Uploads gives the uploads that were begun and are not complete.
func (v *Vault) Uploads(ctx context.Context) iter.Seq2[Unfinished, error] { return nil }

// Continue takes up an unfinished upload again.
func (v *Vault) Continue(u Unfinished) *Upload { return nil }

// Upload is a multipart upload.
type Upload struct{}

// Unfinished names the upload.
func (u *Upload) Unfinished() Unfinished { return Unfinished{} }

// Put stores the part that begins at an offset, a multiple of the length of
// parts.
func (u *Upload) Put(ctx context.Context, offset int64, body archive.Body) (TreeHash, error) {
	return TreeHash{}, errStub
}

// Complete makes the archive out of parts, whose tree hashes are given in order.
func (u *Upload) Complete(ctx context.Context, size int64, parts []TreeHash) (Stored, error) {
	return Stored{}, errStub
}

// Abort drops the upload; that it is gone is no error.
func (u *Upload) Abort(ctx context.Context) error { return errStub }

// Retrievals tells which of some archives have been asked for, by ID, and asks for
// the others if ask is set. The newest job counts; one whose output has expired
// does not.
func (v *Vault) Retrievals(ctx context.Context, ids []string, tier store.Tier, ask bool) (map[string]Job, error) {
	return nil, errStub
}

// Get gives length bytes of an archive from an offset on. It fails with
// *archive.ColdError where there is no retrieval whose output is there.
func (v *Vault) Get(ctx context.Context, id string, offset, length int64) (io.ReadCloser, error) {
	return nil, errStub
}

// Inventory returns the newest inventory that can be read, and asks for one if ask
// is set and none has been asked for. *store.PendingError says that it is not there
// yet.
func (v *Vault) Inventory(ctx context.Context, tier store.Tier, ask bool) (*Inventory, error) {
	return nil, errStub
}

// Close gives back connections.
func (v *Vault) Close() error { return nil }
