package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/cmd/outrider/status"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, pruneCommand) }

func pruneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete old rows of the outbox that are delivered",
		Long: `Deletes the rows of the outbox tables that are older than --older-than and that the
running relay has delivered: in small batches, or as whole partitions. A row that Kafka
has not acked stays, whatever its age; and so does one that the relay never read, or that
a decision has passed over, until --passed-over says that all from before now may go.
It needs the right to delete from the tables, and to drop partitions their owner.

Deleting never loses an event, for the relay reads the log and not the table; rows are
kept for replay and repair. outbox.retention does the same in the relay, all the time.`,
		Example: `  outrider prune -c outrider.yaml --older-than 7d`,
		Args:    cobra.NoArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	var older age
	cmd.Flags().Var(&older, "older-than", "the `AGE` from which on rows go, by their created_at (or outbox.columns.timestamp), e.g. 7d or 12h")
	passedOver := cmd.Flags().Bool("passed-over", false, "rows from before now that were never read, or passed over by a decision, need not be kept any more, here and by outbox.retention")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	if err := cmd.MarkFlagRequired("older-than"); err != nil {
		panic(err)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := loadSettings(cmd, kafkaBrokers)
		if err != nil {
			return err
		}
		letGo := ""
		if *passedOver {
			letGo = whoami()
		}
		return prune(cmd.Context(), settings, time.Duration(older), letGo, *asJSON, cmd.OutOrStdout())
	}
	return cmd
}

// age is a duration on the command line, written as in the settings.
type age time.Duration

func (a *age) String() string { return time.Duration(*a).String() }
func (a *age) Type() string   { return "age" }

func (a *age) Set(text string) error {
	d, err := config.ParseDuration(text)
	if err != nil {
		return errors.New("not an age such as 7d, 12h or 90m")
	}
	*a = age(d)
	return nil
}

// prune deletes, and tells what went even where something stays.
func prune(ctx context.Context, settings *config.Settings, older time.Duration, letGo string, asJSON bool, out io.Writer) error {
	cfg := relayConfig(settings, sink.Config{}, zerolog.Nop())
	pruned, err := cdc.Prune(ctx, &cfg, older, letGo)
	if err != nil {
		err = &failure{code: exitUndone, err: err}
	}
	var printed error
	if asJSON {
		printed = json.NewEncoder(out).Encode(pruned)
	} else {
		_, printed = fmt.Fprintf(out, "%s deleted, %s dropped\n", status.Count(pruned.Rows, "row"), status.Count(int64(len(pruned.Partitions)), "partition"))
		if k := pruned.Kept; k != nil && printed == nil {
			_, printed = fmt.Fprintf(out, "rows from before %s stay, for they may not be on Kafka (%s); --passed-over lets them go\n", k.At.Format(time.RFC3339), k.Why)
		}
	}
	if err == nil {
		err = printed
	}
	return err
}
