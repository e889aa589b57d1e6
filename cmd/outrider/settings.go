package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

// settingFlag is a setting that is wanted often enough on the command line.
type settingFlag struct{ name, path, usage string }

// commonFlags are those of every command.
var commonFlags = []settingFlag{
	{"log-level", "log.level", "`LEVEL` of the log on stderr: debug, info, warn or error (default info)"},
	{"log-format", "log.format", "`FORMAT` of the log: console or json (default console on a terminal, json otherwise)"},
}

// relayFlags are those of commands that know a relay.
var relayFlags = []settingFlag{
	{"name", "name", "`NAME` of the relay: a-z, 0-9 and _; unique on its Kafka cluster"},
	{"postgres", "postgres.url", "`URL` or DSN of the database to follow; a password in it shows in ps: see postgres.password_file"},
	{"publication", "postgres.publication", "`PUBLICATION` to stream (default outrider)"},
	{"slot", "postgres.slot", "replication `SLOT` (default outrider_NAME)"},
	{"table", "outbox.tables", "outbox `TABLES`, as schema.table,... (default public.outbox)"},
	{"kafka", "kafka.brokers", "`BROKERS` to start from, as host:port,..."},
	{"delivery", "kafka.delivery", "`PROMISE` to keep: exactly-once or at-least-once (default exactly-once)"},
	{"listen", "http.listen", "`ADDRESS` of the admin endpoint (default 127.0.0.1:9187)"},
}

const configFlag = "config"

// Settings that some commands can do without.
const (
	kafkaBrokers = "kafka.brokers"
	postgresURL  = "postgres.url"
)

func addCommonFlags(root *cobra.Command) {
	root.PersistentFlags().StringP(configFlag, "c", "", "settings `FILE` (default "+config.DefaultFile+" if it exists)")
	addFlags(root.PersistentFlags(), commonFlags)
}

// withoutSettings leaves -c out of the help of a command that reads no settings.
func withoutSettings(cmd *cobra.Command) *cobra.Command {
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
		cmd.Parent().HelpFunc()(cmd, args)
	})
	return cmd
}

func addFlags(to *pflag.FlagSet, flags []settingFlag) {
	for _, f := range flags {
		to.String(f.name, "", f.usage)
	}
}

// loadSettings gathers the settings of a command that has the common flags and perhaps those of a relay. Required ones that it
// can do without are named in spare.
func loadSettings(cmd *cobra.Command, spare ...string) (*config.Settings, error) {
	file, err := cmd.Flags().GetString(configFlag)
	if err != nil {
		return nil, err
	}
	sources := config.Sources{File: file, Environ: os.Environ(), Spare: spare}
	for _, f := range append(commonFlags, relayFlags...) {
		if given := cmd.Flags().Lookup(f.name); given != nil && given.Changed {
			sources.Flags = append(sources.Flags, config.Flag{Name: f.name, Path: f.path, Value: given.Value.String()})
		}
	}
	return sources.Load()
}
