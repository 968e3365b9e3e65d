// Package compose makes the full send stream of a read-only subvolume in user
// space, from its metadata tree and its data.
package compose
