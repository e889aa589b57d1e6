package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/cmd/outrider/status"
)

// Exit codes.
const (
	exitClean    = 0
	exitUndone   = 1  // what was asked for could not be done
	exitSettings = 2  // settings or command line
	exitPostgres = 10 // what was found in Postgres before anything was relayed
	exitKafka    = 11 // what was found in Kafka likewise
	exitDiverged = 20 // gap or divergence
	exitPoison   = 21 // poison row with policy stop
	exitLost     = 22 // Kafka lost or replaced data
	exitDrain    = 31 // stopped before everything in flight was delivered
	exitBug      = 70 // a broken invariant
)

// failure is an error of a command that knows its exit code.
type failure struct {
	code   int
	err    error
	logged bool // the last line about it is in the log
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// outcome gives the exit code that err means, and what is still to be said about it.
func outcome(err error) (code int, text string) {
	var f *failure
	var problems config.Problems
	switch {
	case err == nil:
		return exitClean, ""
	case errors.As(err, &f) && f.logged:
		return f.code, ""
	case errors.As(err, &f):
		return f.code, fmt.Sprintf("outrider: %v", err)
	case errors.As(err, &problems):
		return exitSettings, fmt.Sprintf("%s\noutrider: %s in the settings; nothing was started. Correct them and start again", problems, status.Count(int64(len(problems)), "problem"))
	}
	// cobra's suggestions have lines of their own.
	return exitSettings, fmt.Sprintf("outrider: %s; outrider --help shows what there is", strings.Join(strings.Fields(err.Error()), " "))
}

// verdict gives the exit code that the end of a relay means, and the line that says what happened and what to do.
func verdict(err error) (code int, line string) {
	code, text := meaning(err)
	// Errors of several hosts or findings have several lines, and only the last line on stderr is sure to be read.
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return code, strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
}

func meaning(err error) (code int, text string) {
	var f *failure
	var blocked *cdc.Blocked
	var permanent interface{ Permanent() bool }
	switch {
	case errors.As(err, &f):
		return f.code, err.Error()
	case errors.Is(err, cdc.ErrInvariant):
		return exitBug, fmt.Sprintf("%v. This is a bug in outrider; the checkpoint is safe and a restart goes on from it. Please report it with this log", err)
	case errors.Is(err, cdc.ErrDrain):
		return exitDrain, fmt.Sprintf("%v. Nothing is to be done; to have it delivered before a stop, see that Kafka and Postgres answer, or raise timeouts.drain", err)
	case errors.As(err, &blocked) && blocked.Verdict == "poison":
		return exitPoison, err.Error()
	case errors.As(err, &blocked) && blocked.Verdict == "kafka lost data":
		return exitLost, err.Error()
	case errors.As(err, &blocked):
		return exitDiverged, err.Error()
	case cdc.IsPreflight(err):
		return exitPostgres, fmt.Sprintf("Postgres is not ready for the relay: %v", err)
	case errors.As(err, &permanent) && permanent.Permanent():
		return exitKafka, fmt.Sprintf("Kafka does not take the relay: %v", err)
	}
	return exitBug, fmt.Sprintf("%v. This end was not foreseen; the checkpoint is safe and a restart goes on from it. Please report it with this log", err)
}
