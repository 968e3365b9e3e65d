// Package awake keeps the machine from going to sleep while something is being
// sent.
package awake
