package schedule

// Calendar says when backups are made that build on each other in chains, as
// btrsend does it.
type Calendar struct {
	// Days are the days of the month on which a backup is made.
	Days []int
	// Length is how many backups a chain may have, the complete one included.
	Length int
	// Lifetime is for how many days after its last backup a chain is kept.
	Lifetime int
}

// Btrsend is the calendar of btrsend.
func Btrsend() Calendar { return Calendar{Days: []int{1, 7, 14, 21}, Length: 12, Lifetime: 90} }

// Date is a day of the calendar. The zero Date is none.
type Date struct {
	Year  int
	Month int
	Day   int
}

// Backup is a backup that exists.
type Backup struct {
	Date Date
	// Parent is the date of what it builds on; zero for a complete one.
	Parent Date
}

// Decision is what is to be done on a day.
type Decision struct {
	// Delete are backups that are to go, the oldest first.
	Delete []Backup
	// Create is set if a backup is to be made, on top of Parent, or complete if
	// that is zero.
	Create bool
	Parent Date
	// Reason says why, for people.
	Reason string
}
