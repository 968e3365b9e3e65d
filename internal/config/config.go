// Package config reads what users have written down for the program to do:
// argument files (@FILE). (Work in progress.)
package config

// Arguments replaces every argument that begins with "@" by those in the file
// that it names.
func Arguments(args []string) ([]string, error) { return args, nil }
