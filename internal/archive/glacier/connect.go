package glacier

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// firstRegion is asked where nobody says in which region a vault is: it is where
// the oldest are.
const firstRegion = "us-east-1"

// hint is the end of an error about credentials that are not there.
const hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, use a profile of ~/.aws (AWS_PROFILE), " +
	"or put the access key and the secret on two lines into ~/.aws-keys"

// connect finds credentials, region and endpoint, and makes the client.
func (v *Vault) connect(ctx context.Context) error {
	service := reach.Service{
		Name: "Glacier", Variable: "AWS_ENDPOINT_URL_GLACIER", Region: v.o.Region, Getenv: v.o.Getenv, Log: v.log, Hint: hint,
		File: func() (aws.Credentials, bool, error) { return keyFile(v.o.KeyFile) },
	}
	cfg, err := service.Config(ctx)
	if err != nil {
		return err
	}
	if v.transport.TLSClientConfig == nil {
		v.transport.TLSClientConfig = reach.Trusted(cfg.HTTPClient)
	}
	if v.creds, err = service.Credentials(ctx); err != nil {
		return err
	}
	v.region = cmp.Or(v.o.Region, cfg.Region, firstRegion)
	v.attempts, v.longest = service.Attempts(cfg, attempts), longest
	v.retries = newRetries(v.attempts, v.longest)
	endpoint, err := service.Endpoint(v.o.Endpoint)
	if err != nil {
		return err
	}
	v.client = sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.Credentials = v.creds
		o.Region = v.region
		o.HTTPClient = reach.NewClient(v.transport, v.o.StallAfter, works)
		o.Logger = reach.Quiet{Logger: v.log}
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	if profile := v.client.Options().BaseEndpoint; profile != nil {
		if v.endpoint, err = reach.ParseEndpoint("Glacier", *profile); err != nil {
			return err
		}
	}
	return nil
}

// works reports whether the server puts an archive together, and may be silent for
// as long as that takes.
func works(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/multipart-uploads/")
}
