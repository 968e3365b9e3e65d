// Package reach is what it takes to reach services of AWS's kind, whichever they
// are: where the endpoint, the region and the credentials come from, connections
// that are cut when nothing moves over them, and a word to people when a server is
// away.
//
// It knows no service's requests, and neither buckets nor vaults.
//
// Nothing secret is in its errors or in the log. A connection takes some hundred
// KiB.
//
//	s := reach.Service{Name: "S3", Variable: "AWS_ENDPOINT_URL_S3", Getenv: os.Getenv, Log: log, ...}
//	cfg, err := s.Config(ctx)
//	creds, err := s.Credentials(ctx)
package reach
