// Package sshtest runs a real sshd on the loopback interface for tests: with keys,
// users, sudoers and forced commands of its own, and networks that fail.
package sshtest
