package route

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// topicRegex rewrites a topic as the transform RegexRouter of Kafka Connect does, which Debezium's outbox event router ends
// with: where the whole of it matches, the first match in it is replaced; otherwise it stays as it is.
type topicRegex struct {
	whole, first *regexp.Regexp
	replacement  []replacement
}

// replacement is literal text, or the text of a group of the match.
type replacement struct {
	text  string
	group int // -1 for text
}

// What Debezium's router does unless it is told otherwise.
const (
	debeziumMatch   = `(?<routedByValue>.*)`
	debeziumReplace = `outbox.event.${routedByValue}`
)

// readRegex reads a match and a replacement; there is none where both are empty. Either alone gets Debezium's default for the
// other.
func (p *parsed) readRegex(r TopicRegex) {
	if r == (TopicRegex{}) {
		return
	}
	match, replace := cmp.Or(r.Match, debeziumMatch), cmp.Or(r.Replace, debeziumReplace)
	if part := unlikeJava(match); part != "" {
		p.refuse("outbox.topic_regex.match", "%s means something else in Java, and is not supported", part)
		return
	}
	t := &topicRegex{}
	var err error
	if t.first, err = regexp.Compile(match); err != nil {
		part := ""
		if what := (*syntax.Error)(nil); errors.As(err, &what) {
			part = what.Expr
			err = errors.New(what.Code.String())
		}
		p.refuse("outbox.topic_regex.match", "%q: %v; what Java has beyond RE2 (lookaround, backreferences, possessive quantifiers, atomic groups) is not supported", part, err)
		return
	}
	// As it was understood, not as it was written: a quote that is still open would take the end in.
	parsed, err := syntax.Parse(match, syntax.Perl)
	if err == nil {
		t.whole, err = regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
	}
	if err != nil {
		p.refuse("outbox.topic_regex.match", "%v", err)
		return
	}
	if r.Replace == "" && t.first.SubexpIndex("routedByValue") < 0 {
		p.refuse("outbox.topic_regex.replace", "required: what becomes of a match")
		return
	}
	if t.replacement, err = parseReplacement(replace, t.first); err != nil {
		p.refuse("outbox.topic_regex.replace", "%v", err)
		return
	}
	p.regex = t
}

// unlikeJava names a part that Go would take for something else without an error: Java's sets within sets.
func unlikeJava(expr string) string {
	in := false // a set
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case c == '\\' && strings.HasPrefix(expr[i:], `\Q`):
			end := strings.Index(expr[i:], `\E`)
			if end < 0 {
				return ""
			}
			i += end + 1
		case c == '\\':
			i++
		case !in && c == '[':
			in = true
			if strings.HasPrefix(expr[i+1:], "^") {
				i++
			}
			if strings.HasPrefix(expr[i+1:], "]") {
				return "[]"
			}
		case in && c == ']':
			in = false
		case in && c == '[':
			return "[ within [ ]"
		case in && strings.HasPrefix(expr[i:], "&&"):
			return "&& within [ ]"
		}
	}
	return ""
}

// parseReplacement reads a replacement as Java's Matcher does: $n, ${name}, and \ before a character that is meant as it is.
func parseReplacement(s string, expr *regexp.Regexp) ([]replacement, error) {
	var parts []replacement
	var literal strings.Builder
	group := func(n int) {
		if literal.Len() > 0 {
			parts = append(parts, replacement{literal.String(), -1})
			literal.Reset()
		}
		parts = append(parts, replacement{group: n})
	}
	for s != "" {
		c := s[0]
		s = s[1:]
		switch {
		case c == '\\':
			if s == "" {
				return nil, errors.New(`\ is the last character: write \\`)
			}
			literal.WriteByte(s[0])
			s = s[1:]
		case c != '$':
			literal.WriteByte(c)
		case strings.HasPrefix(s, "{"):
			name, rest, closed := strings.Cut(s[1:], "}")
			n := expr.SubexpIndex(name)
			if !closed || name == "" || n < 0 {
				return nil, fmt.Errorf("${%s}: outbox.topic_regex.match has no group of this name (it has %s)", name, groups(expr))
			}
			group(n)
			s = rest
		default:
			n, digits := groupNumber(s, expr.NumSubexp())
			if digits == 0 {
				return nil, fmt.Errorf("$%.1s is no group of outbox.topic_regex.match, which has %d: write \\$ for the character", s, expr.NumSubexp())
			}
			group(n)
			s = s[digits:]
		}
	}
	if literal.Len() > 0 {
		parts = append(parts, replacement{literal.String(), -1})
	}
	return parts, nil
}

// groupNumber reads as many digits as still name a group. digits is 0 where not even the first does.
func groupNumber(s string, groups int) (n, digits int) {
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		next := n*10 + int(s[digits]-'0')
		if next > groups {
			break
		}
		n = next
		digits++
	}
	return n, digits
}

func groups(expr *regexp.Regexp) string {
	var names []string
	for _, name := range expr.SubexpNames() {
		if name != "" {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// appendReplaced appends what becomes of topic.
func (t *topicRegex) appendReplaced(b, topic []byte) []byte {
	if !t.whole.Match(topic) {
		return append(b, topic...)
	}
	at := t.first.FindSubmatchIndex(topic)
	b = append(b, topic[:at[0]]...)
	for _, p := range t.replacement {
		switch {
		case p.group < 0:
			b = append(b, p.text...)
		case at[2*p.group] >= 0: // a group that took no part is nothing
			b = append(b, topic[at[2*p.group]:at[2*p.group+1]]...)
		}
	}
	return append(b, topic[at[1]:]...)
}
