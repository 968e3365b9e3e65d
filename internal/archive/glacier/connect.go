package glacier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"
	"github.com/aws/smithy-go/logging"
)

// firstRegion is asked where nobody says in which region a vault is: it is where
// the oldest are.
const firstRegion = "us-east-1"

// hint is the end of an error about credentials that are not there.
const hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, use a profile of ~/.aws (AWS_PROFILE), " +
	"or put the access key and the secret on two lines into ~/.aws-keys"

// connect finds credentials, region and endpoint, and makes the client.
func (v *Vault) connect(ctx context.Context) error {
	cfg, err := loadConfig(ctx, v.o, v.log, false)
	if err != nil {
		return fmt.Errorf("reading the settings for Glacier: %w", err)
	}
	if v.transport.TLSClientConfig == nil {
		v.transport.TLSClientConfig = trusted(cfg.HTTPClient)
	}
	v.creds = aws.NewCredentialsCache(&chain{o: v.o, log: v.log})
	if _, err := v.creds.Retrieve(ctx); err != nil {
		if ours, ok := errors.AsType[*credentialsError](err); ok {
			return ours
		}
		return err
	}
	v.region = firstOf(v.o.Region, cfg.Region, firstRegion)

	get := v.o.Getenv
	v.attempts, v.longest = attempts, longest
	if n, err := strconv.Atoi(get("AWS_MAX_ATTEMPTS")); err == nil && n > 0 {
		v.attempts = n
	} else if cfg.RetryMaxAttempts > 0 {
		v.attempts = cfg.RetryMaxAttempts
	}
	v.retries = newRetries(v.attempts, v.longest)
	endpoint := v.o.Endpoint
	if endpoint == "" && !strings.EqualFold(get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), "true") {
		endpoint = firstOf(get("AWS_ENDPOINT_URL_GLACIER"), get("AWS_ENDPOINT_URL"))
	}
	if endpoint != "" {
		if endpoint, err = parseEndpoint(endpoint); err != nil {
			return err
		}
	}
	v.client = sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.Credentials = v.creds
		o.Region = v.region
		o.HTTPClient = newClient(v.transport, v.o.StallAfter)
		o.Logger = quiet{v.log}
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	if profile := v.client.Options().BaseEndpoint; profile != nil {
		if v.endpoint, err = parseEndpoint(*profile); err != nil {
			return err
		}
	}
	return nil
}

// loadConfig reads the environment and the profile as every program of AWS's
// does. What Getenv says counts; with metadata set, the machine's own service for
// credentials is asked too.
func loadConfig(ctx context.Context, o Options, log *slog.Logger, metadata bool) (aws.Config, error) {
	get := o.Getenv
	load := []func(*config.LoadOptions) error{config.WithLogger(quiet{log})}
	if file := firstOf(get("AWS_CONFIG_FILE"), inHome(get, ".aws", "config")); file != "" {
		load = append(load, config.WithSharedConfigFiles([]string{file}))
	}
	if file := firstOf(get("AWS_SHARED_CREDENTIALS_FILE"), inHome(get, ".aws", "credentials")); file != "" {
		load = append(load, config.WithSharedCredentialsFiles([]string{file}))
	}
	if access, secret := get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"); access != "" && secret != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(access, secret, get("AWS_SESSION_TOKEN"))))
	} else if profile := firstOf(get("AWS_PROFILE"), get("AWS_DEFAULT_PROFILE")); profile != "" {
		load = append(load, config.WithSharedConfigProfile(profile))
	}
	if region := firstOf(o.Region, get("AWS_REGION"), get("AWS_DEFAULT_REGION")); region != "" {
		load = append(load, config.WithRegion(region))
	}
	if !metadata || strings.EqualFold(get("AWS_EC2_METADATA_DISABLED"), "true") {
		load = append(load, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	return config.LoadDefaultConfig(ctx, load...)
}

// chain gives credentials: of the environment, a profile, the machine, and at
// last of a file with two lines. It looks everything up again every time, so
// that it finds those that have been renewed.
type chain struct {
	o   Options
	log *slog.Logger
}

// credentialsError says that there are no credentials.
type credentialsError struct{ error }

func (e *credentialsError) Unwrap() error { return e.error }

// quiet makes what the SDK has to say a detail of the log.
type quiet struct{ *slog.Logger }

// Logf implements logging.Logger.
func (q quiet) Logf(_ logging.Classification, format string, v ...any) {
	q.Debug("the SDK says: " + fmt.Sprintf(format, v...))
}

// Retrieve implements aws.CredentialsProvider.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	var why error
	for _, metadata := range []bool{false, true} {
		cfg, err := loadConfig(ctx, c.o, c.log, metadata)
		if err == nil {
			var found aws.Credentials
			if found, err = c.ask(ctx, cfg, metadata); err == nil {
				return found, nil
			}
		}
		if ctx.Err() != nil {
			return aws.Credentials{}, ctx.Err()
		}
		// The last that a chain asks is the service of the machine: that it is not
		// there is what everybody has, and no reason worth reading.
		if why == nil && !strings.Contains(err.Error(), "IMDS") {
			why = err
		}
	}
	found, ok, err := keyFile(c.o.KeyFile)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	if !ok {
		if why != nil {
			return aws.Credentials{}, &credentialsError{fmt.Errorf("no credentials for Glacier (%w): %s", why, hint)}
		}
		return aws.Credentials{}, &credentialsError{errors.New("no credentials for Glacier: " + hint)}
	}
	if why != nil {
		c.log.Warn("the usual credentials for Glacier cannot be had; those of a file are used", "file", found.Source, "because", why)
	}
	return found, nil
}

// ask asks a configuration for credentials. Where there is no service of the
// machine for them, what lies at its address may swallow requests: that is not
// waited for long.
func (c *chain) ask(ctx context.Context, cfg aws.Config, metadata bool) (aws.Credentials, error) {
	if metadata {
		const enough = 5 * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, enough)
		defer cancel()
	}
	return cfg.Credentials.Retrieve(ctx)
}

// newTransport makes connections that are kept, over HTTP/1.1: parts that are
// sent side by side do better over several connections than over one.
func newTransport(o Options) (*http.Transport, error) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	const idle = 64
	dialer := &net.Dialer{
		Timeout: min(o.StallAfter, 30*time.Second),
		Control: func(_, _ string, c syscall.RawConn) error { return c.Control(boundUnsent) },
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return o.Limit.Conn(conn), nil
		},
		Protocols:             &protocols,
		TLSHandshakeTimeout:   o.StallAfter,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          idle,
		MaxIdleConnsPerHost:   idle,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true,
		WriteBufferSize:       128 << 10,
		ReadBufferSize:        128 << 10,
	}
	if file := o.Getenv("AWS_CA_BUNDLE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates of AWS_CA_BUNDLE: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s (AWS_CA_BUNDLE) has no certificates", file)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// trusted is whom the profile says to trust (ca_bundle); nil for those whom the
// machine trusts.
func trusted(client aws.HTTPClient) *tls.Config {
	own, ok := client.(*awshttp.BuildableClient)
	if !ok {
		return nil
	}
	c := own.GetTransport().TLSClientConfig
	if c == nil || c.RootCAs == nil {
		return nil
	}
	return &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}
}

// boundUnsent keeps the kernel from taking much more than it can send, so that
// what it takes says how fast the connection is. Errors leave it as it was.
// linux/include/uapi/linux/tcp.h, TCP_NOTSENT_LOWAT
func boundUnsent(fd uintptr) {
	const notsentLowat, bytes = 25, 512 << 10
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notsentLowat, bytes)
}

// inHome is a file in the user's home directory, or "" if there is none.
func inHome(get func(string) string, name ...string) string {
	home := get("HOME")
	if home == "" {
		return ""
	}
	return filepath.Join(append([]string{home}, name...)...)
}

// firstOf is the first of some texts that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
