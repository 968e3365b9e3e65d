package reach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"
)

// Service is a service of AWS's, or of somebody who speaks as it does, and where
// its settings are.
type Service struct {
	// Name is what people call it: "S3".
	Name string
	// Variable of the environment names its endpoint, before AWS_ENDPOINT_URL.
	Variable string
	// Region is what counts before the environment and the profile; it may be empty.
	Region string
	// File gives the credentials of a file of old, which count where there are none
	// in the usual places; ok is false if there is none. Hint is the end of an error
	// about credentials that are not there.
	File func() (found aws.Credentials, ok bool, err error)
	Hint string
	// Getenv looks up an environment variable.
	Getenv func(string) string
	// Log gets warnings and details.
	Log *slog.Logger
}

// Config reads the environment and the profile as every program of AWS's does,
// but for credentials. What Getenv says counts.
func (s Service) Config(ctx context.Context) (aws.Config, error) {
	cfg, err := s.load(ctx, false)
	if err != nil {
		return aws.Config{}, fmt.Errorf("reading the settings for %s: %w", s.Name, err)
	}
	return cfg, nil
}

// Attempts is how often the environment or the profile has a request made.
func (s Service) Attempts(cfg aws.Config, usual int) int {
	if n, err := strconv.Atoi(s.Getenv("AWS_MAX_ATTEMPTS")); err == nil && n > 0 {
		return n
	}
	if cfg.RetryMaxAttempts > 0 {
		return cfg.RetryMaxAttempts
	}
	return usual
}

// Credentials finds the credentials, and gives them from then on: of the
// environment, a profile, the machine, and at last of Service.File. Whenever they
// are invalidated it looks everything up again, so that it finds those that have
// been renewed. It fails with *CredentialsError if there are none.
func (s Service) Credentials(ctx context.Context) (*aws.CredentialsCache, error) {
	cache := aws.NewCredentialsCache(&chain{s})
	if _, err := cache.Retrieve(ctx); err != nil {
		if ours, ok := errors.AsType[*CredentialsError](err); ok {
			return nil, ours
		}
		return nil, err
	}
	return cache, nil
}

// load is Config; with metadata set, the machine's own service for credentials is
// asked too.
func (s Service) load(ctx context.Context, metadata bool) (aws.Config, error) {
	get := s.Getenv
	load := []func(*config.LoadOptions) error{config.WithLogger(Quiet{s.Log})}
	if file := firstOf(get("AWS_CONFIG_FILE"), InHome(get, ".aws", "config")); file != "" {
		load = append(load, config.WithSharedConfigFiles([]string{file}))
	}
	if file := firstOf(get("AWS_SHARED_CREDENTIALS_FILE"), InHome(get, ".aws", "credentials")); file != "" {
		load = append(load, config.WithSharedCredentialsFiles([]string{file}))
	}
	if access, secret := get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"); access != "" && secret != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(access, secret, get("AWS_SESSION_TOKEN"))))
	} else if profile := firstOf(get("AWS_PROFILE"), get("AWS_DEFAULT_PROFILE")); profile != "" {
		load = append(load, config.WithSharedConfigProfile(profile))
	}
	if region := firstOf(s.Region, get("AWS_REGION"), get("AWS_DEFAULT_REGION")); region != "" {
		load = append(load, config.WithRegion(region))
	}
	if !metadata || strings.EqualFold(get("AWS_EC2_METADATA_DISABLED"), "true") {
		load = append(load, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	return config.LoadDefaultConfig(ctx, load...)
}

// chain gives credentials.
type chain struct{ Service }

// CredentialsError says that there are no credentials.
type CredentialsError struct{ error }

func (e *CredentialsError) Unwrap() error { return e.error }

// Quiet makes what the SDK has to say a detail of the log.
type Quiet struct{ *slog.Logger }

// Logf implements logging.Logger.
func (q Quiet) Logf(_ logging.Classification, format string, v ...any) {
	q.Debug("the SDK says: " + fmt.Sprintf(format, v...))
}

// Retrieve implements aws.CredentialsProvider.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	var why error
	for _, metadata := range []bool{false, true} {
		cfg, err := c.load(ctx, metadata)
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
	found, ok, err := c.File()
	if err != nil {
		return aws.Credentials{}, &CredentialsError{err}
	}
	if !ok {
		if why != nil {
			return aws.Credentials{}, &CredentialsError{fmt.Errorf("no credentials for %s (%w): %s", c.Name, why, c.Hint)}
		}
		return aws.Credentials{}, &CredentialsError{fmt.Errorf("no credentials for %s: %s", c.Name, c.Hint)}
	}
	if why != nil {
		c.Log.Warn("the usual credentials for "+c.Name+" cannot be had; those of a file are used", "file", found.Source, "because", why)
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

// InHome is a file in the user's home directory, or "" if there is none.
func InHome(get func(string) string, name ...string) string {
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
