package config

import _ "embed"

//go:embed example.toml
var example string

// Example is a configuration to begin with, which explains itself. What is
// commented out in it may be used as it stands, once the files that it names are
// there.
func Example() string { return example }
