package s3

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/reach"
	"github.com/buttersink/buttersink/internal/store"
)

// hot is how long, in bytes, an upload has to be at least to be put into another
// class than the usual one. The infrequent classes bill every object as if it had
// this length, and cold ones add 40 KiB to each and a price for asking for it.
// docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html
const hot = 128 << 10

// class is what matters of a storage class.
type class struct {
	name  types.StorageClass
	cold  bool // it has to be thawed before it can be read
	fixed bool // it cannot be copied, or deleting it early is paid for
}

// classes are those that a bucket of AWS takes. INTELLIGENT_TIERING can be deleted
// at any time, but what has gone to one of its archive tiers cannot be copied, and a
// listing does not tell; every copy would begin anew in its dearest tier besides.
// docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html
// docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html
var classes = []class{
	{name: types.StorageClassStandard},
	{name: types.StorageClassStandardIa, fixed: true},
	{name: types.StorageClassOnezoneIa, fixed: true},
	{name: types.StorageClassIntelligentTiering, fixed: true},
	{name: types.StorageClassGlacierIr, fixed: true},
	{name: types.StorageClassGlacier, cold: true, fixed: true},
	{name: types.StorageClassDeepArchive, cold: true, fixed: true},
	{name: types.StorageClassReducedRedundancy},
}

// classOf finds a class by its name; one that is not known is like the usual one.
func classOf(name string) class {
	i := slices.IndexFunc(classes, func(c class) bool { return string(c.name) == name })
	if i < 0 {
		return class{name: types.StorageClass(name)}
	}
	return classes[i]
}

// usual is the name of a class as an archive.Object has it.
func usual(name string) string {
	if name == string(types.StorageClassStandard) {
		return ""
	}
	return name
}

// checkClass says why nothing can be stored in a class. Other providers have some of
// their own.
func checkClass(name, endpoint string) error {
	var known []string
	for _, c := range classes {
		known = append(known, string(c.name))
	}
	if name == "" || slices.Contains(known, name) {
		return nil
	}
	list := strings.Join(known, ", ")
	if meant := strings.ToUpper(strings.ReplaceAll(name, "-", "_")); slices.Contains(known, meant) {
		return fmt.Errorf("storage class %q is not known: %s is meant, perhaps", name, meant)
	}
	if reach.IsAWS(endpoint) {
		return fmt.Errorf("storage class %q is not known: there are %s", name, list)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("storage class %q cannot be one; usual ones are %s", name, list)
	}
	return nil
}

// classFor is the class for an upload: nothing is gained where it is known to be
// small.
func (b *Bucket) classFor(o archive.UploadOptions) types.StorageClass {
	if o.Size > 0 && o.Size < hot {
		return ""
	}
	return types.StorageClass(b.o.Class)
}

// Tariff says whose prices hold. The region is empty where nobody has said which it
// is, and the bucket has not been asked.
func (b *Bucket) Tariff() *store.Tariff {
	t := &store.Tariff{
		Provider: providerAWS, Service: "s3", Class: usual(b.o.Class), Small: hot,
	}
	if !reach.IsAWS(b.endpoint) {
		t.Provider = reach.Host(b.endpoint)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.region != "" && (!b.guessed || b.met.Load()) {
		t.Region = b.region
	}
	return t
}

const providerAWS = "aws"
