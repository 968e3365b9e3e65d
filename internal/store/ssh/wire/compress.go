package wire

// press compresses what is sent.
type press struct{}

func newPress() *press { return &press{} }
