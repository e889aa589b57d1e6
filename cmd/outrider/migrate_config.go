package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cmd/outrider/migrate"
)

func init() { commands = append(commands, migrateConfigCommand) }

func migrateConfigCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "migrate-config FILE",
		Short: "Translate a Debezium connector into settings",
		Long: `Translates a Debezium connector for PostgreSQL with the outbox event router into
settings on stdout: the JSON that is sent to Kafka Connect, or the
application.properties of Debezium Server. "-" reads from stdin.

What was not carried over is told on stderr. The exit code is 2 when anything of
it changes what is delivered. Passwords are never copied.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("migrate-config reads one FILE, or - for stdin")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := readInput(cmd.InOrStdin(), args[0])
			if err != nil {
				return &failure{code: exitSettings, err: err}
			}
			return migrateConfig(file, args[0], o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "`NAME` of the relay (default made from the connector's)")
	cmd.Flags().StringSliceVar(&o.Brokers, "kafka", nil, "`BROKERS` to start from, as host:port,...")
	return withoutSettings(cmd)
}

func readInput(stdin io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// migrateConfig prints the settings, and what a person has to know about them.
func migrateConfig(file []byte, name string, o migrate.Options, out, log io.Writer) error {
	result, err := migrate.Translate(file, o)
	if err != nil {
		return &failure{code: exitSettings, err: fmt.Errorf("%s: %w", name, err)}
	}
	if _, err := out.Write(result.YAML); err != nil {
		return err
	}
	var text strings.Builder
	section := func(title string, notes []migrate.Note) {
		if len(notes) > 0 {
			fmt.Fprintln(&text, title)
		}
		for _, n := range notes {
			fmt.Fprintf(&text, "  %s: %s\n", n.Option, n.Text)
		}
	}
	section("Not carried over, and changes what is delivered:", result.Lost)
	section("To know:", result.Notes)
	if len(result.Needless) > 0 {
		fmt.Fprintf(&text, "No counterpart, and none needed: %s\n", strings.Join(result.Needless, ", "))
	}
	if _, err := io.WriteString(log, text.String()); err != nil {
		return err
	}
	if n := len(result.Lost); n > 0 {
		return &failure{code: exitSettings, err: fmt.Errorf("not carried over, though it changes what is delivered: %d of the options, named above; settle each before the relay takes over", n)}
	}
	return nil
}
