package config

// checkBuilt refuses settings whose features this version does not have: ignoring one would relay something else than was asked for.
func (l *loader) checkBuilt() {
	s := l.settings
	for _, f := range []struct {
		path    string
		asked   bool
		instead string
	}{
		{"start_from", s.StartFrom == "beginning", "beginning is not built yet in this version: use slot"},
	} {
		if f.asked {
			l.wrong(f.path, "%s", f.instead)
		}
	}
}
