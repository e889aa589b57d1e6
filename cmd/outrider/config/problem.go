package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Where string // file:line, the environment variable or the flag; empty for a setting that is missing or left at its default
	Key   string // the setting's path; empty where Where says it
	Text  string

	line int // in the file; 0 elsewhere
}

func (p Problem) String() string {
	var b strings.Builder
	for _, part := range []string{p.Where, p.Key} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is the error that Load returns: everything that is wrong, in the order of the file.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// sort puts the problems of the file first, by line, and leaves the others as they were found.
func (p Problems) sort() {
	rank := func(line int) int {
		if line == 0 {
			return math.MaxInt
		}
		return line
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(rank(a.line), rank(b.line)) })
}

// origin is where a setting was last set.
type origin struct {
	where string
	line  int // in the file; 0 elsewhere
}

func inFile(file string, line int) origin {
	return origin{fmt.Sprintf("%s:%d", file, line), line}
}
