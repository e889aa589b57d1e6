package route

import (
	"strings"
	"testing"
)

// What Properties.store writes is read back, whatever it is.
func FuzzProperty(f *testing.F) {
	f.Add("00-4bf92f-00f0-01", "traceparent=x\n")
	f.Add("a=b:c#d!e\\f\n\t é", `tracestate\=\u12`)
	f.Fuzz(func(t *testing.T, value, junk string) {
		_, _ = property(junk, "k") // must not panic
		escaped := strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\f", `\f`, "=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`, " ", `\ `).Replace(value)
		if got, found := property("#comment\nj=1\nk="+escaped+"\nl=2\n", "k"); !found || got != value {
			t.Fatalf("%q is read as %q (%v)", value, got, found)
		}
	})
}

// An expression is refused, or applied to any topic; what it does not match whole stays.
func FuzzTopicRegex(f *testing.F) {
	for _, seed := range [][3]string{{"(?<routedByValue>.*)", "outbox.event.${routedByValue}", "order"}, {"a|ab", "$0$1", "ab"}, {`[\Q]\E]`, `\$`, "]"}, {`\Q`, "x", ""}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, match, replace, topic string) {
		p := parsed{}
		p.readRegex(TopicRegex{match, replace})
		if (p.regex == nil) != (len(p.wrong) > 0 || match == "" && replace == "") {
			t.Fatalf("expression %v, refused with %v", p.regex, p.wrong)
		}
		if p.regex == nil {
			return
		}
		got := string(p.regex.appendReplaced(nil, []byte(topic)))
		if !p.regex.whole.MatchString(topic) && got != topic {
			t.Fatalf("%q became %q", topic, got)
		}
	})
}
