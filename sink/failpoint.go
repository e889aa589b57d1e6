//go:build !failpoint

package sink

// failpoint names a place where a test ends the process as kill -9 does. Only a build with the tag failpoint can; in any
// other one it compiles to nothing. A name is a literal, and used once, so that the test finds all of them in the source.
func failpoint(string) {}

// planted says that a test has asked for the bug of that name (failpoint.Plants), to see that it would be found. In any build
// but those with the tag failpoint it is never so, and what it guards is not compiled.
func planted(string) bool { return false }
