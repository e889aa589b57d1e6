package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/cmd/outrider/status"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, statusCommand) }

// statusOptions are the flags of status.
type statusOptions struct {
	url                    string
	offline, watch, asJSON bool
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a relay is doing",
		Long: `Shows one relay's state and the reason for it, how far it is behind, and what to do.
It asks the relay's endpoint (http.listen, or --url), or with --offline the database
alone: checkpoint, slot, and the verdict that stands or that a start would come to.`,
		Example: `  outrider status -c outrider.yaml
  outrider status --url http://relay-0:9187 --watch
  outrider status --name orders --postgres postgres://relay@localhost/shop --offline --json`,
		Args: cobra.NoArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	var o statusOptions
	cmd.Flags().StringVar(&o.url, "url", "", "the relay's endpoint, as `http://host:port`; with it no other setting is needed")
	cmd.Flags().BoolVar(&o.offline, "offline", false, "ask the database, not the relay")
	cmd.Flags().BoolVar(&o.watch, "watch", false, "show it again each second, until Ctrl-C")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the document that /status serves")
	cmd.MarkFlagsMutuallyExclusive("url", "offline")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask, err := o.source(cmd)
		if err != nil {
			return err
		}
		return o.show(cmd.Context(), ask, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// source is whom to ask. An endpoint that is named needs no settings; those that can be read say its token.
func (o *statusOptions) source(cmd *cobra.Command) (func(context.Context) (*cdc.Status, error), error) {
	spare := []string{kafkaBrokers}
	if !o.offline {
		spare = append(spare, postgresURL)
	}
	settings, err := loadSettings(cmd, spare...)
	if err != nil {
		if o.url == "" {
			return nil, err
		}
		settings = &config.Settings{}
	}
	endpoint, token := o.url, settings.HTTP.Token()
	switch {
	case o.offline:
		cfg := relayConfig(settings, sink.Config{}, zerolog.Nop())
		return func(ctx context.Context) (*cdc.Status, error) {
			st, err := cdc.Offline(ctx, &cfg)
			if err != nil {
				return nil, &failure{code: exitPostgres, err: err}
			}
			return &st, nil
		}, nil
	case endpoint == "":
		if endpoint, err = status.Endpoint(settings.HTTP.Listen); err != nil {
			return nil, &failure{code: exitSettings, err: err}
		}
	}
	return func(ctx context.Context) (*cdc.Status, error) {
		st, err := status.Fetch(ctx, endpoint, settings.Name, token)
		if err != nil {
			return nil, &failure{code: exitUndone, err: err}
		}
		return st, nil
	}, nil
}

// refreshInterval is the time between two looks with --watch.
const refreshInterval = time.Second

// clearScreen is what a terminal understands as: from the top, on an empty screen.
const clearScreen = "\x1b[H\x1b[2J"

// show prints once, or again and again: then a relay that cannot be asked just now is no end. It is told on log where a program
// reads out.
func (o *statusOptions) show(ctx context.Context, ask func(context.Context) (*cdc.Status, error), out, log io.Writer) error {
	if !o.asJSON {
		log = out
	}
	for {
		st, err := ask(ctx)
		if err != nil && !o.watch {
			return err
		}
		if o.watch && !o.asJSON && isatty.IsTerminal(os.Stdout.Fd()) {
			_, _ = io.WriteString(out, clearScreen) // what follows says whether out can be written
		}
		switch {
		case err != nil:
			_, err = fmt.Fprintf(log, "cannot be shown: %v\n", err)
		case o.asJSON:
			encoder := json.NewEncoder(out)
			if !o.watch { // else a line a look, for a pipe
				encoder.SetIndent("", "  ")
			}
			err = encoder.Encode(st)
		default:
			err = status.Print(out, st)
		}
		if err != nil || !o.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(refreshInterval):
		}
	}
}
