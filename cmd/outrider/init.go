package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, initCommand) }

// initOptions are the flags of init.
type initOptions struct {
	flavor, role                string
	binary, monthly             bool
	topics                      []string
	printSQL, drop, yes, asJSON bool
}

// configuredTopics stands for a bare --topics. No topic can be called that.
const configuredTopics = "*"

func initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make what a relay needs in Postgres, and its topics",
		Long: `Makes what is missing: schema outrider with the checkpoint tables, the outbox table,
the rights of the relay's role, publication and slot. What is there stays as it is, so it
may be run again. Run it as the tables' owner, with a role that may replicate; the relay
itself needs no more than what --role is granted.

A slot holds back WAL from now on: start the relay soon, or drop it with --drop.`,
		Example: `  outrider init --name orders --postgres postgres://owner@localhost/shop --role relay
  outrider init --name orders --flavor debezium --table public.outbox --print-sql
  outrider init -c outrider.yaml --topics=outbox.event.order,outbox.event.customer
  outrider init -c outrider.yaml --drop --yes`,
		Args: cobra.ArbitraryArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	var o initOptions
	f := cmd.Flags()
	f.StringVar(&o.flavor, "flavor", string(migrations.Outrider), "the outbox table's `LAYOUT`: outrider, tutorial, debezium or quarkus")
	f.BoolVar(&o.binary, "binary", false, "payload as bytea rather than jsonb (flavor outrider)")
	f.BoolVar(&o.monthly, "monthly", false, "a partition a month, so that old rows leave by dropping one (flavor outrider)")
	f.StringVar(&o.role, "role", "", "grant what a relay needs to `ROLE`, which exists")
	f.StringSliceVar(&o.topics, "topics", nil, "make these `TOPICS`, as a,b,... on Kafka too (kafka.topics says how); without any: those that the settings name")
	f.Lookup("topics").NoOptDefVal = configuredTopics
	f.BoolVar(&o.printSQL, "print-sql", false, "print the SQL, and connect to nothing")
	f.BoolVar(&o.drop, "drop", false, "remove what init made, and name what it made with other settings; refused while the relay is active")
	f.BoolVar(&o.yes, "yes", false, "with --drop: yes, with all rows in the outbox")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && !slices.Equal(o.topics, []string{configuredTopics}) {
			return fmt.Errorf("unknown argument %q", args[0])
		}
		for _, arg := range args { // --topics a,b
			o.topics = append(o.topics, strings.Split(arg, ",")...)
		}
		return o.run(cmd)
	}
	return cmd
}

func (o *initOptions) run(cmd *cobra.Command) error {
	var spare []string
	if o.topics == nil {
		spare = append(spare, kafkaBrokers)
	}
	if o.printSQL {
		spare = []string{kafkaBrokers, postgresURL}
	}
	settings, err := loadSettings(cmd, spare...)
	if err != nil {
		return err
	}
	setup := o.setup(settings)
	cfg := relayConfig(settings, sink.Config{}, zerolog.Nop())
	out := cmd.OutOrStdout()
	switch {
	case o.printSQL:
		return o.print(setup, &cfg, out)
	case o.drop && !o.yes:
		return &failure{code: exitSettings, err: errors.New("--drop removes slot, checkpoint, and what else init made, the rows of the outbox included: say --yes; --print-sql shows what it would be")}
	case o.drop:
		objects, err := setup.Drop(cmd.Context(), &cfg)
		return o.report(out, objects, "", err)
	}
	objects, err := setup.Make(cmd.Context(), &cfg)
	if err == nil && o.topics != nil {
		var topics []cdc.Object
		topics, err = o.makeTopics(cmd.Context(), settings)
		objects = append(objects, topics...)
	}
	return o.report(out, objects, o.next(settings), err)
}

// setup is what is to be there. Quarkus' table has a name of its own unless the settings name another one.
func (o *initOptions) setup(settings *config.Settings) *cdc.Setup {
	s := &cdc.Setup{Role: o.role, Tell: func(waitsFor string) {
		fmt.Fprintln(os.Stderr, "the new slot waits for", waitsFor)
	}}
	tables := &settings.Outbox.Tables
	if o.flavor == string(migrations.Quarkus) && slices.Equal(*tables, []string{"public.outbox"}) {
		*tables = []string{"public.outboxevent"}
	}
	for _, table := range *tables {
		s.Outboxes = append(s.Outboxes, migrations.Outbox{Flavor: migrations.Flavor(o.flavor), Table: table, Binary: o.binary, Monthly: o.monthly})
	}
	return s
}

func (o *initOptions) print(setup *cdc.Setup, cfg *cdc.Config, out io.Writer) error {
	render := setup.SQL
	if o.drop {
		render = setup.DropSQL
	}
	sql, err := render(cfg)
	if err != nil {
		return &failure{code: exitSettings, err: err}
	}
	_, err = io.WriteString(out, sql)
	return err
}

// makeTopics makes those of --topics.
func (o *initOptions) makeTopics(ctx context.Context, settings *config.Settings) ([]cdc.Object, error) {
	cfg, err := sinkConfig(settings, nil, zerolog.Nop())
	if err != nil {
		return nil, &failure{code: exitSettings, err: err}
	}
	var names []string
	for _, name := range o.topics {
		if name != configuredTopics {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		if names = sink.NamedTopics(&cfg); len(names) == 0 {
			return nil, &failure{code: exitSettings, err: errors.New("--topics: the settings name none (outbox.allowed_topics can): name them, as --topics=outbox.event.order")}
		}
	}
	made, err := sink.CreateTopics(ctx, cfg, names)
	if err != nil {
		err = &failure{code: exitKafka, err: err}
	}
	objects := make([]cdc.Object, 0, len(names))
	for _, name := range names {
		switch {
		case slices.Contains(made, name):
			objects = append(objects, cdc.Object{Name: "topic " + name, State: "made"})
		case err == nil:
			objects = append(objects, cdc.Object{Name: "topic " + name, State: "there"})
		}
	}
	return objects, err
}

// next is what to type when all is made.
func (o *initOptions) next(settings *config.Settings) string {
	text := "next: outrider check, then outrider run, with these settings"
	if o.role != "" {
		text += " and role " + o.role + " in postgres.url"
	}
	if o.flavor == string(migrations.Quarkus) {
		text += " (outbox.tables: [" + strings.Join(settings.Outbox.Tables, ", ") + "])"
	}
	return text
}

// report prints what was done, also where the rest could not be.
func (o *initOptions) report(out io.Writer, objects []cdc.Object, next string, err error) error {
	var f *failure
	switch {
	case err == nil, errors.As(err, &f):
	case errors.Is(err, cdc.ErrActive):
		err = &failure{code: exitUndone, err: err}
	default:
		err = &failure{code: exitPostgres, err: err}
	}
	if o.asJSON {
		if printed := json.NewEncoder(out).Encode(objects); err == nil {
			err = printed
		}
		return err
	}
	var text strings.Builder
	for _, object := range objects {
		fmt.Fprintf(&text, "%-8s %s\n", object.State, object.Name)
	}
	if err == nil && next != "" {
		fmt.Fprintln(&text, next)
	}
	if _, printed := io.WriteString(out, text.String()); err == nil {
		err = printed
	}
	return err
}
