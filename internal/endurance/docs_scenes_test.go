package endurance

// A docScene is what a page needs and how it is meant, as far as the page does not
// say so in a way that the test understands. A line that is not named here is run as
// it stands, and has to end with 0.
type docScene struct {
	before   func(*world) // furnish if there is none
	chapters map[string]chapter
}

// A chapter is what is below one heading.
type chapter struct {
	before func(*world)
	steps  []step // in the order of the page
}

// A step is a command line, or what is no command line and begins with that line.
type step struct {
	line   string
	before func(*world)
	as     string // whose command line it is, root's if nobody is named
	in     string // a command whose output it reads
	run    string // what is run in its place, or where a file goes
	code   int    // how it ends
	says   string // what it prints, among other things
	after  func(*world)
	excuse string // why it is not run
	block  string // what the passage is that begins with it, which is no command line
}

// otherwise is what pages name and the world calls by other names.
var otherwise = []struct{ there, here string }{}

// notOurs are lines within sentences that only look like command lines.
var notOurs = []string{}

// scenes are by page, and chapters by heading.
var scenes = map[string]docScene{}
