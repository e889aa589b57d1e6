package migrate

import (
	"strings"

	"github.com/goccy/go-yaml"
)

// document is the settings file that is being written, in the order of what was set.
type document struct {
	values   yaml.MapSlice
	comments yaml.CommentMap
}

// set sets a setting, called as in "kafka.tls.enabled".
func (d *document) set(path string, value any) {
	d.values = put(d.values, strings.Split(path, "."), value)
}

func put(m yaml.MapSlice, path []string, value any) yaml.MapSlice {
	for i := range m {
		if m[i].Key == path[0] {
			m[i].Value = put(m[i].Value.(yaml.MapSlice), path[1:], value)
			return m
		}
	}
	if len(path) > 1 {
		value = put(nil, path[1:], value)
	}
	return append(m, yaml.MapItem{Key: path[0], Value: value})
}

// setEntry sets an entry of a map, whose name may hold dots.
func (d *document) setEntry(path, name string, value any) {
	d.values = put(d.values, append(strings.Split(path, "."), name), value)
}

// comment puts lines above a setting.
func (d *document) comment(path string, lines ...string) {
	if d.comments == nil {
		d.comments = make(yaml.CommentMap)
	}
	for i := range lines {
		lines[i] = " " + lines[i]
	}
	d.comments["$."+path] = []*yaml.Comment{yaml.HeadComment(lines...)}
}

func (d *document) yaml() ([]byte, error) {
	return yaml.MarshalWithOptions(d.values, yaml.WithComment(d.comments), yaml.IndentSequence(true))
}
