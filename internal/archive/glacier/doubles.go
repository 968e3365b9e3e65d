package glacier

import (
	"crypto/rand"
	"time"
)

// double is what may be in the vault a second time, beside the archive that is an
// object: a reply was lost, or a run died before it wrote down what it had stored.
// It is noted before that can happen. An inventory tells which archives they are, and
// they are deleted: they would cost money for ever, and an object of which there is a
// double would come back after it has been deleted.
type double struct {
	Key  string    `json:"key"`
	Size int64     `json:"size"`
	Tree string    `json:"tree"`
	When time.Time `json:"when"`
}

// doublePrefix is what their names in the catalogue begin with, and a random text
// ends.
const doublePrefix = "double/"

// storing is how long a note of a double may be that of a run that is alive.
const storing = time.Hour

// suspect notes that there may come to be a double, and returns the name of the note.
func (b *bucket) suspect(key string, size int64, tree TreeHash) (string, error) {
	name := doublePrefix + rand.Text()
	return name, b.enter(name, double{Key: key, Size: size, Tree: tree.String(), When: b.now().UTC()})
}

// suspicious reports whether an inventory has to tell of doubles.
func (b *bucket) suspicious(c *contents) bool {
	for _, d := range c.doubles {
		if age := b.now().Sub(d.When); age > storing || age < -storing {
			return true
		}
	}
	return false
}

// doubled reports whether an archive is a double.
func (c *contents) doubled(key string, a Stored) bool {
	if have := c.objects[key]; have != nil && have.ID == a.ID {
		return false
	}
	for _, d := range c.doubles {
		if d.Key == key && d.Size == a.Size && d.Tree == a.Tree.String() {
			return true
		}
	}
	return false
}
