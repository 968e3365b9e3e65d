// Package wire carries many calls over one stream of bytes in each direction:
// the frames of docs/protocol.md, with flow control for each call, heartbeats, and
// compression where it pays.
//
// It knows neither stores nor ssh: what a call asks for and answers are messages
// that it hands through.
package wire
