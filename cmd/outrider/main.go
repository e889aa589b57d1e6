// Command outrider relays a Postgres outbox to Kafka.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// commands makes the subcommands. Each file of one adds its own, and main need not know.
var commands []func() *cobra.Command

func main() {
	code, text := outcome(rootCommand().Execute())
	if text != "" {
		fmt.Fprintln(os.Stderr, text)
	}
	os.Exit(code)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "outrider",
		Short: "Relay a Postgres outbox to Kafka",
		Long: `Outrider reads the rows that an application commits to an outbox table from the
write-ahead log, through a logical replication slot, and puts them on Kafka: in
commit order per key, none lost.

In the order in which they are needed: init makes what is missing, check finds what is
wrong, run relays, status shows, resolve decides what only a person can, prune deletes
old rows. "outrider completion bash" (zsh, fish, powershell) prints completion for a shell.

Settings come from flags, then OUTRIDER_... variables, then the file, then
defaults. A name, a database and a broker are enough:

  outrider run --name orders --postgres postgres://relay@localhost/shop --kafka localhost:9092`,
		SilenceErrors: true, // main has the last word
		SilenceUsage:  true,
	}
	addCommonFlags(root)
	for _, command := range commands {
		root.AddCommand(command())
	}
	return root
}
