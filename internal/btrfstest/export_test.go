package btrfstest

// EverythingATreeDoes returns the names of all kinds of entries and mutations.
func EverythingATreeDoes() []string {
	var names []string
	for _, k := range allKinds {
		names = append(names, k.name)
	}
	for _, m := range allMutations {
		names = append(names, m.name)
	}
	return names
}
