// Package glacier keeps archives in vaults of the original Glacier API of 2012
// (docs.aws.amazon.com/amazonglacier/latest/dev). [Vault] is a vault as it is:
// archives with descriptions, uploads in parts, jobs that take hours. [NewBucket]
// makes it a bucket of an archive in our layout.
//
// It knows the requests of the API, where credentials come from, which errors go
// away by themselves, how to find out what has happened when a reply was lost, and
// how far to believe an inventory. It refuses to know what is in archives, and
// what the descriptions of others mean.
//
// Invariants. Every byte that is stored goes with its SHA-256 tree hash, which the
// vault compares, and what comes back is compared with the hash that the vault
// sends along, wherever it sends one. What costs money is not asked for twice: when
// the reply to a request for a retrieval is lost, the vault's jobs are looked at
// before it is made again. Other requests are made again for as long as their errors
// may be temporary, some ten times over two minutes or so; what still fails is marked
// (store.MarkTemporary). No transfer has a limit of time, but a connection over which
// nothing has moved for Options.StallAfter is cut. Nothing secret is in errors or
// logs.
//
// Memory: bodies are sent from where they lie, and given on as they come; beside
// them there are some hundred KiB per connection. Lists of jobs and inventories are
// in memory, some hundred bytes an archive; a bucket that is listed has the contents
// of its small objects in memory besides.
//
//	vault, err := glacier.Open(ctx, glacier.Options{Vault: "Backup", Log: log})
package glacier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"

	"github.com/buttersink/buttersink/internal/archive/reach"
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
	// Limit is what all connections stay below together; nil is no limit.
	Limit *pace.Limiter
	// Getenv looks up an environment variable; nil is os.Getenv.
	Getenv func(string) string
	// Log gets warnings and details; nil is silence.
	Log *slog.Logger
	// Now is the time; nil is time.Now.
	Now func() time.Time
}

// Limits of vaults.
// docs.aws.amazon.com/amazonglacier/latest/dev/uploading-archive-mpu.html
// docs.aws.amazon.com/amazonglacier/latest/dev/api-archive-post.html
const (
	minPart   = 1 << 20
	maxPart   = 4 << 30
	maxParts  = 10_000
	maxObject = maxPart * maxParts
	// maxDescription is how many characters a description has at most, all of them
	// printable ASCII.
	maxDescription = 1024
	// small is a limit of ours for what is sent by one request out of memory; the
	// vault takes 4 GiB.
	small = 16 << 20
)

const defaultStall = time.Minute

// Vault is a vault. Its methods may be called from several goroutines.
type Vault struct {
	o         Options
	log       *slog.Logger
	now       func() time.Time
	client    *sdk.Client
	creds     *aws.CredentialsCache
	endpoint  string // empty for AWS
	region    string
	transport *http.Transport
	retries   *retry.Standard
	attempts  int
	longest   time.Duration
	outage    reach.Outage

	mu   sync.Mutex
	jobs map[string]Job  // by archive: those whose output may be there
	gone map[string]bool // jobs whose output has turned out to be gone
	made bool            // the vault was not there before Make
	bare bool            // it was there, and had no inventory so far
}

// Open makes a vault ready. It finds credentials, and asks the vault nothing.
func Open(ctx context.Context, o Options) (*Vault, error) {
	if err := checkName(o.Vault); err != nil {
		return nil, err
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.StallAfter == 0 {
		o.StallAfter = defaultStall
	}
	o.StallAfter = max(o.StallAfter, reach.TurnAfter(o.Limit))
	v := &Vault{o: o, log: o.Log, now: o.Now, jobs: map[string]Job{}, gone: map[string]bool{}}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.now == nil {
		v.now = time.Now
	}
	var err error
	if v.transport, err = reach.NewTransport(o.Getenv, o.Limit, o.StallAfter); err != nil {
		return nil, err
	}
	if err := v.connect(ctx); err != nil {
		v.transport.CloseIdleConnections()
		return nil, err
	}
	return v, nil
}

// checkName says why there can be no vault with a name.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-vault-put.html
func checkName(name string) error {
	if name == "" {
		return errors.New("the name of the vault is missing: glacier://VAULT")
	}
	const longest = 255
	if len(name) > longest {
		return fmt.Errorf("the vault's name has %d characters; there may be %d", len(name), longest)
	}
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-', r == '.':
		default:
			return fmt.Errorf("the vault's name %q has %q in it: letters, digits and _ - . are what there can be", name, r)
		}
	}
	return nil
}

// String names the vault for people: "glacier://vault".
func (v *Vault) String() string { return "glacier://" + v.o.Vault }

// Location is the same text for two vaults exactly when they are one, as long as
// both are reached with keys of the same account or are given the account.
func (v *Vault) Location() string {
	account := v.o.Account
	if account == "" {
		account = "-"
	}
	return "glacier:" + reach.Place(v.endpoint) + "/" + v.region + "/" + account + "/" + v.o.Vault
}

// Tariff says whose prices hold.
func (v *Vault) Tariff() *store.Tariff {
	return &store.Tariff{Provider: reach.Provider(v.endpoint), Service: "glacier", Class: Class, Region: v.region}
}

// Make makes the vault, and tells whether it was not there.
func (v *Vault) Make(ctx context.Context) (made bool, err error) {
	switch d, err := v.describe(ctx); {
	case err == nil:
		v.mu.Lock()
		defer v.mu.Unlock()
		v.bare = aws.ToString(d.LastInventoryDate) == ""
		return false, nil
	case !errors.Is(err, errNoVault):
		return false, err
	}
	// Making one that somebody else has made meanwhile is no error.
	r := &request{doing: "making", action: "glacier:CreateVault"}
	err = v.do(ctx, r, func(o option) error {
		_, err := v.client.CreateVault(ctx, &sdk.CreateVaultInput{AccountId: v.account(), VaultName: &v.o.Vault}, o)
		return err
	})
	if err != nil {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.made = true
	return true, nil
}

// describe asks for what there is to know of the vault. It fails with errNoVault.
func (v *Vault) describe(ctx context.Context) (*sdk.DescribeVaultOutput, error) {
	r := &request{doing: "looking at", action: "glacier:DescribeVault", missing: errNoVault}
	var out *sdk.DescribeVaultOutput
	err := v.do(ctx, r, func(o option) (err error) {
		out, err = v.client.DescribeVault(ctx, &sdk.DescribeVaultInput{AccountId: v.account(), VaultName: &v.o.Vault}, o)
		return whole(err, err == nil && out.VaultName != nil)
	})
	return out, err
}

// account is whose vault it is, as requests have it.
func (v *Vault) account() *string {
	if v.o.Account == "" {
		return nil // the SDK makes it the owner of the keys
	}
	return &v.o.Account
}

// Close gives back connections.
func (v *Vault) Close() error {
	v.transport.CloseIdleConnections()
	return nil
}
