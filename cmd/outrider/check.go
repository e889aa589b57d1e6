package main

import (
	"context"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cmd/outrider/check"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/cmd/outrider/status"
)

func init() { commands = append(commands, checkCommand) }

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what would keep a relay from working",
		Long: `Looks at Postgres and at Kafka as a start would, and at what harms only later: server
settings, role, publication, slot, checkpoint, the outbox tables' columns and some of
their rows, brokers, rights, topics; and what the relay says that runs on this machine.
It changes nothing, and disturbs no relay.

Each finding is a line: ok, warn or fail, what it is, why it matters, and the command
that repairs it. Exits with 0, or with 10 where Postgres fails, 11 where Kafka does.`,
		Example: `  outrider check -c outrider.yaml
  outrider check --name orders --postgres postgres://relay@localhost/shop --kafka localhost:9092 --json`,
		Args: cobra.NoArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := loadSettings(cmd)
		if err != nil {
			return err
		}
		return checkAll(cmd.Context(), settings, cmd.OutOrStdout(), *asJSON)
	}
	return cmd
}

// checkAll prints the report. Its error counts what fails.
func checkAll(ctx context.Context, settings *config.Settings, out io.Writer, asJSON bool) error {
	cfg, err := sinkConfig(settings, nil, zerolog.Nop())
	if err != nil {
		return &failure{code: exitSettings, err: err}
	}
	report := check.Run(ctx, relayConfig(settings, cfg, zerolog.Nop()), cfg, settings.Kafka.SASL.Username)
	// Nobody need answer where the relay's endpoint would be on this machine.
	if at, err := status.Endpoint(settings.HTTP.Listen); err == nil {
		if st, err := status.Fetch(ctx, at, settings.Name, settings.HTTP.Token()); err == nil {
			report.Running(at, st)
		}
	}
	if err := report.Print(out, asJSON); err != nil {
		return err
	}
	const fail = "fail"
	postgres, kafka := report.Count(check.Postgres, fail), report.Count(check.Kafka, fail)
	switch err := fmt.Errorf("fails: %d about Postgres, %d about Kafka; each says above what is wrong and how it is repaired", postgres, kafka); {
	case postgres > 0:
		return &failure{code: exitPostgres, err: err}
	case kafka > 0:
		return &failure{code: exitKafka, err: err}
	}
	return nil
}
