package glacier

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/store"
)

// errNoVault says that there is no such vault.
var errNoVault = errors.New("there is no such vault")

// errNoEnd is about a listing that would never end.
var errNoEnd = errors.New("the server says that the list goes on, but not where")

// errNotGlacier is about a reply that says that all is well, and nothing of what
// such a reply has to say: a proxy's, or that of a web page.
var errNotGlacier = errors.New("the reply is not that of a Glacier server; look at the endpoint")

// whole is err, or errNotGlacier where a reply without an error does not say what
// it has to.
func whole(err error, has bool) error {
	if err == nil && !has {
		return errNotGlacier
	}
	return err
}

// answer is what a server says of a request that it does not carry out.
type answer struct {
	status  int
	code    string // "ResourceNotFoundException"
	message string
	id      string // its own name for the request, for those who keep it
}

// answerOf finds the server's answer in an error of the SDK; ok is false if
// there was none.
func answerOf(err error) (a answer, ok bool) {
	resp, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok {
		return a, false
	}
	api, hasCode := errors.AsType[smithy.APIError](err)
	a.status = resp.HTTPStatusCode()
	if !hasCode && a.status < 300 {
		return a, false // it was not understood to its end
	}
	if aws, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		a.id = aws.ServiceRequestID()
	}
	if hasCode {
		a.code, a.message = api.ErrorCode(), api.ErrorMessage()
	}
	return a, true
}

// Error makes an answer the cause of an error.
func (a answer) Error() string {
	text := a.code
	if a.message != "" && a.message != a.code {
		text += ": " + strings.TrimSuffix(a.message, ".")
	}
	if text == "" {
		text = fmt.Sprintf("HTTP status %d", a.status)
	}
	if a.id != "" {
		text += " (request " + a.id + ")"
	}
	return text
}

// unknownUser reports whether the server does not take the credentials, which
// others, or the same renewed, may put right.
func (a answer) unknownUser() bool {
	switch a.code {
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException":
		return true
	}
	return false
}

// wrap says what was being done when an error came.
func (r *request) wrap(v *Vault, err error) error {
	if r.what == "" {
		return fmt.Errorf("%s %s: %w", r.doing, v, err)
	}
	return fmt.Errorf("%s %s in %s: %w", r.doing, r.what, v, err)
}

// explain makes of an error of the SDK one that says what to do, without anything
// secret.
func (v *Vault) explain(r *request, err error) error {
	a, answered := answerOf(err)
	if !answered {
		return r.wrap(v, v.unanswered(err))
	}
	switch {
	case a.code == "ResourceNotFoundException" && r.missing != nil && !strings.Contains(strings.ToLower(a.message), "vault not found"):
		return r.wrap(v, fmt.Errorf("%w: %w", r.missing, a))
	case a.code == "ResourceNotFoundException":
		return r.wrap(v, fmt.Errorf("%w: %w; make it first (buttersink init %s), or look at its name and the region, which is %s", errNoVault, a, v, v.region))
	case a.code == "InsufficientCapacityException":
		return r.wrap(v, fmt.Errorf("%w: there is no room for expedited retrievals now; try again later, or take the tier standard", a))
	case a.code == "PolicyEnforcedException":
		return r.wrap(v, fmt.Errorf("%w: the account's data retrieval policy does not allow it now; try again later with fewer at a time, or raise the policy's limit", a))
	case a.code == "LimitExceededException":
		return r.wrap(v, fmt.Errorf("%w: a limit of the account has been reached; delete vaults that nobody needs, or have AWS raise it", a))
	case a.code == "ExpiredTokenException":
		return r.wrap(v, fmt.Errorf("%w: the credentials have expired, and there are no newer ones; renew them and start again", a))
	case a.unknownUser():
		return r.wrap(v, fmt.Errorf("%w: %s does not know the access key, or the secret is not the right one", a, v.server()))
	case passing(err):
		return store.MarkTemporary(r.wrap(v, a))
	case a.status == 403 || a.status == 401:
		return &archive.DeniedError{Bucket: v.String(), Action: reach.Denied(a.message, r.action), Key: r.what, Err: a}
	}
	return r.wrap(v, a)
}

// answerIn finds the server's answer in an error of do.
func answerIn(err error) (answer, bool) { return errors.AsType[answer](err) }

// unanswered explains an error that is not the server's.
func (v *Vault) unanswered(err error) error { return reach.Unanswered(err, v.server(), passing(err)) }

// refused reports whether nobody has been reached, so that nothing can have been
// done.
func refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, syscall.ECONNREFUSED) || ok && op.Op == "dial"
}

// server names the server for people.
func (v *Vault) server() string { return reach.Server(v.endpoint) }
