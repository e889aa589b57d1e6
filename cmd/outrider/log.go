package main

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

// logTime is UTC with milliseconds, so that logs of several machines sort and compare.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// newLogger logs through pipe, which leads to stderr. It must be called before the pipe runs.
func newLogger(set config.Log, pipe *logPipe) zerolog.Logger {
	zerolog.TimeFieldFormat = logTime
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	terminal := isatty.IsTerminal(os.Stderr.Fd())
	to := func(out io.Writer) zerolog.Logger {
		if set.Format == "console" || set.Format == "auto" && terminal {
			out = zerolog.ConsoleWriter{Out: out, TimeFormat: logTime, TimeLocation: time.UTC, NoColor: !terminal}
		}
		return zerolog.New(out).With().Timestamp().Logger()
	}
	pipe.lost = func(lines int64) {
		log := to(pipe.out)
		log.Warn().Int64("lines", lines).Msg("lines of this log were dropped: nobody read it")
	}
	level, err := zerolog.ParseLevel(set.Level)
	if err != nil {
		level = zerolog.InfoLevel // config has checked it
	}
	return to(pipe).Level(level)
}
