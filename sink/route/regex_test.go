package route

import (
	"strings"
	"testing"
)

// What Java's Matcher gives for the same expression, replacement and topic, as RegexRouter uses it.
func TestTopicIsRewrittenAsJavaDoes(t *testing.T) {
	for _, c := range []struct{ match, replace, topic, want string }{
		{"", "${routedByValue}.events", "order", "order.events"},
		{"(?<routedByValue>x.*)", "", "order", "order"},
		{"(?<routedByValue>o.*)", "", "order", "outbox.event.order"},
		{"(.*)-(.*)", "$2.$1", "order-paid", "paid.order"},
		{"o", "x", "order", "order"},                      // not the whole of it
		{"a|ab", "x", "ab", "xb"},                         // the whole matches, and the first match in it is replaced
		{"(a)(b)?", "$1-$2", "a", "a-"},                   // a group that took no part
		{"(.)(.)(.)(.)(.)(.)", "$12", "abcdef", "a2"},     // $12 is no group, so $1 and 2
		{"(?<n>.*)", `\$1\\${n}`, "x", `$1\x`},            // escapes
		{"(?i)ORDER", "x", "order", "x"},                  // flags
		{"(?<routedByValue>.*)", "", "a\nb", "a\nb"},      // the dot stops at a line's end
		{".*", "fixed", "order", "fixed"},                 // once, though an empty match follows
		{`\Q[a]\E[b\]]`, "x", "[a]]", "x"},                // sets and quotes are told apart
		{`\Qa.b`, "x", "a.b", "x"},                        // a quote that is open to the end
		{"(?<routedByValue>.*)", "", "", "outbox.event."}, // an empty topic matches
	} {
		s := parsed{}
		s.readRegex(TopicRegex{c.match, c.replace})
		if len(s.wrong) > 0 {
			t.Errorf("%q -> %q: %v", c.match, c.replace, s.wrong[0])
			continue
		}
		if got := string(s.regex.appendReplaced(nil, []byte(c.topic))); got != c.want {
			t.Errorf("%q: %q -> %q gives %q, not %q", c.topic, c.match, c.replace, got, c.want)
		}
	}
}

func TestExpressionsBeyondRE2AreNamed(t *testing.T) {
	for _, c := range []struct{ match, replace, setting, says string }{
		{`(?=a)b`, "x", "match", `"(?="`},
		{`(?<!a)b`, "x", "match", `"(?<`},
		{`(a)\1`, "x", "match", `"\\1"`},
		{`a*+`, "x", "match", `"*+"`},
		{`(?>a)`, "x", "match", `"(?>"`},
		{`[a-z&&[^b]]`, "x", "match", "&& within [ ]"},
		{`[a[b]]`, "x", "match", "[ within [ ]"},
		{`[^[b]]`, "x", "match", "[ within [ ]"},
		{`[]a]`, "x", "match", "[]"},
		{`a(`, "x", "match", "missing closing"},
		{`(a)`, "$2", "replace", "$2 is no group"},
		{`(a)`, "$x", "replace", "$x is no group"},
		{`(a)`, "${b}", "replace", "${b}: outbox.topic_regex.match has no group of this name (it has none)"},
		{`(?<b>a)`, "${c}", "replace", "(it has b)"},
		{`a`, `x\`, "replace", "last character"},
		{`a`, "", "replace", "required"},
	} {
		s := parsed{}
		s.readRegex(TopicRegex{c.match, c.replace})
		if len(s.wrong) != 1 || s.wrong[0].Setting != "outbox.topic_regex."+c.setting || !strings.Contains(s.wrong[0].Reason, c.says) {
			t.Errorf("%q -> %q: %v, want something about %s in %s", c.match, c.replace, s.wrong, c.says, c.setting)
		}
	}
}
