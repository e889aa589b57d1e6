package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mattn/go-isatty"
)

// Colours, as ANSI escape sequences.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	reset  = "\x1b[0m"
)

// screen prints records to one stream and everything else to another, line by line.
type screen struct {
	mu      sync.Mutex
	records stream // written under mu
	notes   stream // written under mu
}

type stream struct {
	io.Writer
	terminal bool
}

func newScreen(records, notes io.Writer) *screen {
	return &screen{records: newStream(records), notes: newStream(notes)}
}

func newStream(w io.Writer) stream {
	f, ok := w.(*os.File)
	return stream{w, ok && isatty.IsTerminal(f.Fd())}
}

// colour wraps text where it is shown on a terminal by somebody who has nothing against it (no-color.org).
func (s stream) colour(code, text string) string {
	if !s.terminal || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return code + text + reset
}

// headline says what all this is.
func (s *screen) headline(text string) { s.print(s.notes.colour(bold, text)) }

// line prints a line as it is, to be copied.
func (s *screen) line(format string, args ...any) { s.print(fmt.Sprintf(format, args...)) }

// note, good, bad and warn say who did what.
func (s *screen) note(who, format string, args ...any) {
	s.tell(dim, who, fmt.Sprintf(format, args...))
}

func (s *screen) good(who, format string, args ...any) {
	s.tell(green, who, fmt.Sprintf(format, args...))
}

func (s *screen) bad(who, format string, args ...any) {
	s.tell(red, who, fmt.Sprintf(format, args...))
}

func (s *screen) warn(who, format string, args ...any) {
	s.tell(yellow, who, fmt.Sprintf(format, args...))
}

func (s *screen) tell(colour, who, text string) {
	s.print(s.notes.colour(colour, fmt.Sprintf("%-9s", who)) + " " + text)
}

func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintln(s.notes, text) // nobody is left to tell
}

// record prints a record: on two lines for people, on one for programs.
func (s *screen) record(what, delay, headers string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.records
	if !out.terminal {
		_, err := fmt.Fprintf(out, "%s  %s  %s\n", what, headers, delay)
		return err
	}
	_, err := fmt.Fprintf(out, "%s %s  %s\n          %s\n", out.colour(bold, "record   "), what, out.colour(bold, delay), out.colour(dim, headers))
	return err
}
