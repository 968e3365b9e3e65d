package glacier

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/glacier"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// How often a request is made before its error is given on, where neither the
// environment nor the profile says so (AWS_MAX_ATTEMPTS), and how long it rests at
// most between two.
const (
	attempts = 10
	longest  = 20 * time.Second
)

// request is something that is asked of the vault.
type request struct {
	doing  string // for people: "storing part 3 of"
	what   string // an archive, an upload or a job; may be empty
	action string // what has to be allowed for it, "glacier:UploadArchive"
	// missing is what it means that the server does not know what is asked about;
	// nil is that there is no vault.
	missing error
	// once has it not made again where an attempt has ended without an answer, so
	// that what was asked for may have been done.
	once bool

	// unsure is set when that has happened.
	unsure bool
}

// option changes one call of the SDK.
type option = func(*sdk.Options)

// do asks something of the vault. What the SDK does not put right by asking again,
// which is credentials that have expired, it puts right here, once.
func (v *Vault) do(ctx context.Context, r *request, ask func(option) error) error {
	renewed := false
	for {
		err := ask(func(o *sdk.Options) { o.Retryer = &retryer{Standard: v.retries, request: r, vault: v} })
		if err == nil {
			v.outage.Over(v.log, v.server())
			return nil
		}
		if ctx.Err() != nil {
			return r.wrap(v, ctx.Err())
		}
		a, answered := answerOf(err)
		if answered && !passing(err) {
			v.outage.Over(v.log, v.server())
		}
		if !answered || !a.unknownUser() || renewed {
			return v.explain(r, err)
		}
		renewed = true
		v.log.Debug("looking for credentials again", "because", a.code)
		v.creds.Invalidate()
	}
}

// newRetries says what is asked again, how often, and after how long.
func newRetries(attempts int, longest time.Duration) *retry.Standard {
	return reach.NewRetries(attempts, longest, func(err error) aws.Ternary {
		switch {
		case settled(err):
			return aws.FalseTernary
		case passing(err):
			return aws.TrueTernary
		}
		return aws.UnknownTernary
	})
}

// retryer watches over the attempts of one request.
type retryer struct {
	*retry.Standard
	request *request
	vault   *Vault
}

// IsErrorRetryable is asked once about every attempt that has failed.
func (r *retryer) IsErrorRetryable(err error) bool {
	// There have been credentials, so what they come from may have them again.
	_, missing := errors.AsType[*reach.CredentialsError](err)
	if a, answered := answerOf(err); !missing && !refused(err) && (!answered || !a.throttled() && a.status >= 500 && a.status != 501 || a.status < 300) {
		r.request.unsure = true
	}
	if r.request.once && r.request.unsure {
		return false
	}
	again := missing || !reach.Misdirected(err) && r.Standard.IsErrorRetryable(err)
	if again {
		r.vault.log.Debug("asking Glacier again", "action", r.request.action, "because", err)
		r.vault.outage.Failed(r.vault.log, time.Now(), func() error { return r.vault.explain(r.request, err) })
	}
	return again
}

// settled reports whether an error that looks as if it went away does not do so
// within minutes.
// docs.aws.amazon.com/amazonglacier/latest/dev/api-error-responses.html
func settled(err error) bool {
	a, answered := answerOf(err)
	if !answered {
		return false
	}
	switch a.code {
	case "InsufficientCapacityException", "PolicyEnforcedException":
		return true
	}
	return a.status == 501
}

// passing reports whether an error is about a connection, or an answer that the
// server gives when it has too much to do.
func passing(err error) bool {
	if reach.Broken(err) {
		return true
	}
	a, answered := answerOf(err)
	if !answered || settled(err) {
		return false
	}
	switch a.code {
	case "ServiceUnavailableException", "RequestTimeoutException", "InternalFailure":
		return true
	}
	return a.throttled() || a.status == 408 || a.status >= 500
}

// throttled reports whether a request was not carried out since there are too
// many.
func (a answer) throttled() bool {
	switch a.code {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException":
		return true
	}
	return a.status == 429
}
