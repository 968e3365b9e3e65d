// Package pipe is a store that hands each stream to a command of the user's, on
// its standard input.
package pipe
