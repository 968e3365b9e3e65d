package s3

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// firstRegion is asked where nobody says in which region a bucket is. It knows
// of all others.
const firstRegion = "us-east-1"

// hint is the end of an error about credentials that are not there.
const hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, use a profile of ~/.aws (AWS_PROFILE), " +
	"or put aws_access_key_id and aws_secret_access_key under [Credentials] into ~/.boto"

// connect finds credentials, region and endpoint, and makes the client.
func (b *Bucket) connect(ctx context.Context) error {
	service := reach.Service{
		Name: "S3", Variable: "AWS_ENDPOINT_URL_S3", Region: b.o.Region, Getenv: b.o.Getenv, Log: b.log, Hint: hint,
		File: func() (aws.Credentials, bool, error) { return botoCredentials(botoFiles(b.o.Getenv)) },
	}
	cfg, err := service.Config(ctx)
	if err != nil {
		return err
	}
	if b.transport.TLSClientConfig == nil {
		b.transport.TLSClientConfig = reach.Trusted(cfg.HTTPClient)
	}
	if b.creds, err = service.Credentials(ctx); err != nil {
		return err
	}
	b.region = cmp.Or(b.o.Region, cfg.Region)
	if b.guessed = b.region == ""; b.guessed {
		b.region = firstRegion
	}

	b.retries = newRetries(service.Attempts(cfg, attempts), longest)
	endpoint, err := service.Endpoint(b.o.Endpoint)
	if err != nil {
		return err
	}
	b.client = sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.Credentials = b.creds
		o.HTTPClient = reach.NewClient(b.transport, b.o.StallAfter, works)
		// Every body has a checksum that is given with it; where the SDK makes its
		// own it uses a framing that not all servers know.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		o.Logger = reach.Quiet{Logger: b.log}
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	if profile := b.client.Options().BaseEndpoint; profile != nil {
		if b.endpoint, err = reach.ParseEndpoint("S3", *profile); err != nil {
			return err
		}
	}
	b.path.Store(b.o.PathStyle || pathStyle(b.endpoint, b.o.Bucket))
	// A digest of a part in the signature of the request costs as much processor
	// time as all the rest, on both sides. TLS makes it needless. On this machine,
	// where nobody is on the way, it is made until the server has shown that it
	// compares checksums; elsewhere without TLS nothing else keeps people from
	// changing parts.
	b.proven.Store(!strings.HasPrefix(b.endpoint, "http://"))
	b.near = near(b.endpoint)
	return nil
}

// works reports whether the server puts an object together or copies one, and may
// be silent for as long as that takes.
func works(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") || r.Header.Get("X-Amz-Copy-Source") != ""
}
