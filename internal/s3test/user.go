package s3test

import (
	"crypto/rand"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// statement is one rule of a bucket's policy.
// docs.aws.amazon.com/AmazonS3/latest/userguide/access-policy-language-overview.html
type statement struct {
	Effect    string              `json:"Effect"`
	Principal map[string][]string `json:"Principal"`
	Action    []string            `json:"Action"`
	Resource  []string            `json:"Resource"`
}

// ofBuckets are the actions that are about a bucket and not about objects in it.
var ofBuckets = []string{
	"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:GetBucketLocation",
	"s3:GetBucketVersioning", "s3:GetBucketPolicy", "s3:DeleteBucket",
}

// Everything is what a program may ever want to do in a bucket.
var Everything = []string{
	"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
	"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
}

// Except returns Everything without some actions.
func Except(actions ...string) []string {
	return slices.DeleteFunc(slices.Clone(Everything), func(a string) bool { return slices.Contains(actions, a) })
}

// User makes a user who may do exactly these things in a bucket, and nothing
// elsewhere.
func (s *Server) User(t testing.TB, bucket string, actions ...string) (access, secret string) {
	t.Helper()
	access, secret = "user"+random(), rand.Text()
	program, err := serverProgram("versitygw")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := soon()
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "admin", "--access", s.Access, "--secret", s.Secret, "--endpoint-url", s.Endpoint,
		"create-user", "--access", access, "--secret", secret, "--role", "user")
	cmd.Env = []string{"HOME=/nonexistent"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("making a user: %v: %s", err, out)
	}
	if len(actions) == 0 {
		return access, secret
	}

	// An action has to fit its resource, so there are two rules.
	var about, within []string
	for _, a := range actions {
		if slices.Contains(ofBuckets, a) {
			about = append(about, a)
		} else {
			within = append(within, a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rule := range []statement{
		{Action: about, Resource: []string{"arn:aws:s3:::" + bucket}},
		{Action: within, Resource: []string{"arn:aws:s3:::" + bucket + "/*"}},
	} {
		if len(rule.Action) == 0 {
			continue
		}
		rule.Effect, rule.Principal = "Allow", map[string][]string{"AWS": {access}}
		s.policies[bucket] = append(s.policies[bucket], rule)
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": s.policies[bucket]})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(string(policy))})
	if err != nil {
		t.Fatalf("allowing %s: %v", strings.Join(actions, ", "), err)
	}
	return access, secret
}
