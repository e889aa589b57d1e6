package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, resolveCommand) }

func resolveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve",
		Short: "See and decide what a relay is blocked on",
		Long: `Shows the verdict that blocks a relay, and what may be decided about it. With one of
the flags below it writes that decision into the relay's row in outrider.checkpoint,
bound to this verdict, with your name and the time. The blocked relay takes it
within seconds, once, and goes on.`,
		Example: `  outrider resolve -c outrider.yaml
  outrider resolve -c outrider.yaml --accept-loss
  outrider resolve -c outrider.yaml --skip 1:0/1A2B3C8:0`,
		Args: cobra.NoArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	flags := cmd.Flags()
	asJSON := flags.Bool("json", false, "print the verdict, and the decision about it, as JSON")
	flags.Bool("accept-loss", false, "go on behind what can no longer be relayed, or was lost")
	flags.Bool("accept-repeats", false, "publish again what may have been published already")
	flags.Bool("accept-new-cluster", false, "go on with another database or Kafka cluster")
	flags.String("restart-at", "", "go on at `LSN`, not below the slot")
	flags.String("skip", "", "leave out the event at `POSITION`, as timeline:LSN:ordinal")
	flags.String("dead-letter", "", "send the event at `POSITION` to outbox.dead_letter.topic")
	cmd.MarkFlagsMutuallyExclusive("accept-loss", "accept-repeats", "accept-new-cluster", "restart-at", "skip", "dead-letter")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := loadSettings(cmd, kafkaBrokers)
		if err != nil {
			return err
		}
		decision, err := decisionOf(cmd.Flags())
		if err != nil {
			return err
		}
		show := showVerdict
		if *asJSON {
			show = encodeVerdict
		}
		return resolve(cmd.Context(), settings, decision, show, cmd.OutOrStdout())
	}
	return cmd
}

// decisionOf reads the flags; nil when none is given.
func decisionOf(flags *pflag.FlagSet) (*checkpoint.Decision, error) {
	for _, action := range []checkpoint.Action{checkpoint.AcceptLoss, checkpoint.AcceptRepeats, checkpoint.AcceptNewCluster} {
		if yes, err := flags.GetBool(string(action)); err != nil || yes {
			return &checkpoint.Decision{Action: action}, err
		}
	}
	if at, err := flags.GetString("restart-at"); err != nil || at != "" {
		if _, err := pglogrepl.ParseLSN(at); err != nil {
			return nil, fmt.Errorf("--restart-at %s: %w", at, err)
		}
		return &checkpoint.Decision{Action: checkpoint.RestartAt, LSN: at}, err
	}
	for _, action := range []checkpoint.Action{checkpoint.SkipEvent, checkpoint.DeadLetterEvent} {
		if at, err := flags.GetString(string(action)); err != nil || at != "" {
			if _, err := decoder.ParsePosition(at); err != nil {
				return nil, fmt.Errorf("--%s %s: %w", action, at, err)
			}
			return &checkpoint.Decision{Action: action, Position: at}, err
		}
	}
	return nil, nil
}

// resolve shows the verdict, or writes a decision about it.
func resolve(ctx context.Context, settings *config.Settings, decision *checkpoint.Decision, show shower, out io.Writer) error {
	cfg := relayConfig(settings, sink.Config{}, zerolog.Nop())
	conn, err := cdc.Connect(ctx, &cfg.Postgres)
	if err != nil {
		return &failure{code: exitPostgres, err: err}
	}
	defer func() { _ = conn.Close(ctx) }()
	row, known, err := checkpoint.Read(ctx, conn, settings.Name)
	switch {
	case err != nil:
		return &failure{code: exitPostgres, err: err}
	case !known:
		return &failure{code: exitPostgres, err: fmt.Errorf("there is no relay %s in this database: outrider.checkpoint has no row of that name", settings.Name)}
	}
	verdict, taken, err := row.Pending()
	if err != nil {
		return &failure{code: exitPostgres, err: err}
	}
	if decision == nil {
		return show(out, settings.Name, verdict, taken)
	}
	if err := decide(ctx, conn, settings.Name, verdict, decision); err != nil {
		return err
	}
	return show(out, settings.Name, verdict, decision)
}

// shower shows how it stands with a relay: its verdict, or nil, and the decision that it has not taken yet, or nil.
type shower func(io.Writer, string, *checkpoint.Verdict, *checkpoint.Decision) error

func encodeVerdict(out io.Writer, name string, v *checkpoint.Verdict, d *checkpoint.Decision) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Name     string               `json:"name"`
		Verdict  *checkpoint.Verdict  `json:"verdict"`
		Decision *checkpoint.Decision `json:"decision"`
	}{name, v, d})
}

func showVerdict(out io.Writer, name string, v *checkpoint.Verdict, d *checkpoint.Decision) error {
	if v == nil {
		_, err := fmt.Fprintf(out, "relay %s is not blocked\n", name)
		return err
	}
	options := make([]string, len(v.Options))
	for i, o := range v.Options {
		options[i] = "--" + string(o)
	}
	_, err := fmt.Fprintf(out, "relay    %s\nblocked  %s, since %s (instance %s)\nreason   %s\nto do    %s\noptions  %s\n",
		name, v.Case, v.At.Format(time.RFC3339), v.Instance, v.Reason, v.Advice, strings.Join(options, ", "))
	if err == nil && d != nil {
		what := strings.TrimSpace(string(d.Action) + " " + d.LSN + d.Position) // no action has both
		_, err = fmt.Fprintf(out, "decided  %s, by %s at %s; it stands here until the relay has stored what lies behind it\n", what, d.By, d.At.Format(time.RFC3339))
	}
	return err
}

// decide binds the decision to the verdict and writes it.
func decide(ctx context.Context, conn *pgx.Conn, name string, v *checkpoint.Verdict, d *checkpoint.Decision) error {
	if v == nil {
		return &failure{code: exitSettings, err: fmt.Errorf("relay %s is not blocked: there is nothing to decide", name)}
	}
	if !slices.Contains(v.Options, d.Action) {
		return &failure{code: exitSettings, err: fmt.Errorf("--%s does not answer the verdict %q of relay %s, which offers %v", d.Action, v.Case, name, v.Options)}
	}
	d.Verdict, d.By, d.At = v.ID, whoami(), time.Now().UTC()
	if err := checkpoint.Decide(ctx, conn, name, *d); err != nil {
		if errors.Is(err, checkpoint.ErrNoVerdict) {
			err = fmt.Errorf("%w: the relay was judged anew meanwhile; look again", err)
		}
		return &failure{code: exitPostgres, err: err}
	}
	return nil
}

// whoami names the person at the keyboard as well as the system knows.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
