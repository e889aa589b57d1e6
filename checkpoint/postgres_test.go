package checkpoint_test

import "testing"

func serverURL(t *testing.T) string { return "postgres://postgres@127.0.0.1:5915/postgres" }
