package decoder

import "testing"

func TestRelationNameIsQuotedWhereNeeded(t *testing.T) {
	for _, tt := range []struct{ namespace, name, want string }{
		{"public", "outbox", "public.outbox"},
		{"app_2", "_outbox9", "app_2._outbox9"},
		{"App", "2nd", `"App"."2nd"`},
		{"a.b", `say "hi"`, `"a.b"."say ""hi"""`},
		{"", "pg_class", "pg_catalog.pg_class"},
		{"schéma", "", `"schéma".""`},
	} {
		r := &Relation{Namespace: tt.namespace, Name: tt.name}
		if got := r.String(); got != tt.want {
			t.Errorf("%q, %q is written %s, want %s", tt.namespace, tt.name, got, tt.want)
		}
	}
}
