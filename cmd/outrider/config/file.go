package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// parseFile takes the settings of a YAML document. It is false when the document cannot be parsed at all.
func (l *loader) parseFile(file string, b []byte) bool {
	// Keys that are set twice are told by us, so that they stand beside the other problems.
	tree, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, text := origin{where: file}, "not YAML"
		// The error's own text quotes the file around the place, and with it perhaps a secret.
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			at, text = inFile(file, syntax.Token.Position.Line), "not YAML: "+syntax.Message
		}
		l.fail(at, "", "%s", text)
		return false
	}
	f := yamlFile{loader: l, name: file, sections: l.sections(), seen: make(map[string]int)}
	for i, doc := range tree.Docs {
		switch {
		case doc.Body == nil:
		case i > 0:
			l.fail(inFile(file, doc.Body.GetToken().Position.Line), "", "a second document; the settings are one")
		default:
			f.section("", doc.Body, doc.Body.GetToken().Position.Line)
		}
	}
	return true
}

// sections are the paths that hold settings and are none themselves.
func (l *loader) sections() []string {
	sections := []string{""}
	for _, path := range l.paths {
		for i, c := range path {
			if c == '.' && !slices.Contains(sections, path[:i]) {
				sections = append(sections, path[:i])
			}
		}
	}
	return sections
}

// yamlFile walks one document.
type yamlFile struct {
	*loader
	name     string
	sections []string
	seen     map[string]int // paths, and the line of each
}

// section takes the members of a mapping that holds settings.
func (f *yamlFile) section(path string, node ast.Node, line int) {
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		if node.Type() != ast.NullType { // a section with nothing in it is no mistake
			f.fail(inFile(f.name, line), path, "settings are expected here, as key: value")
		}
		return
	}
	for _, member := range mapping.Values {
		key := member.Key.GetToken()
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		at := inFile(f.name, key.Position.Line)
		if !f.first(full, at) {
			continue
		}
		if k, known := f.keys[full]; known {
			f.value(&k, member.Value, at)
		} else if slices.Contains(f.sections, full) {
			f.section(full, member.Value, at.line)
		} else {
			f.fail(at, full, "unknown key; the nearest is %s", nearest(full, append(f.sections[1:], f.paths...)))
		}
	}
}

// first is false, with a problem, for a key that was set before.
func (f *yamlFile) first(path string, at origin) bool {
	if line, again := f.seen[path]; again {
		f.fail(at, path, "set a second time; first in line %d", line)
		return false
	}
	f.seen[path] = at.line
	return true
}

// value takes a setting. An empty value leaves the default.
func (f *yamlFile) value(k *key, node ast.Node, at origin) {
	if node.Type() == ast.NullType {
		return
	}
	switch field := k.field.(type) {
	case *[]string:
		f.list(k, field, node, at)
	case *map[string]string:
		f.mapping(k, field, node, at)
	default:
		if text, ok := f.scalar(k.path, k.wants(), node, at); ok {
			f.set(k.path, text, at)
		}
	}
}

func (f *yamlFile) list(k *key, field *[]string, node ast.Node, at origin) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		f.fail(at, k.path, "wants %s", k.wants())
		return
	}
	f.origins[k.path] = at
	*field = nil
	for i, element := range sequence.Values {
		at := inFile(f.name, element.GetToken().Position.Line)
		if text, ok := f.expanded(fmt.Sprintf("%s[%d]", k.path, i), rejoined(element), at); ok {
			*field = append(*field, text)
		} else {
			f.broken[k.path] = true
		}
	}
}

func (f *yamlFile) mapping(k *key, field *map[string]string, node ast.Node, at origin) {
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		f.fail(at, k.path, "wants %s", k.wants())
		return
	}
	f.origins[k.path] = at
	*field = make(map[string]string, len(mapping.Values))
	for _, member := range mapping.Values {
		key := member.Key.GetToken()
		path, at := k.path+"."+key.Value, inFile(f.name, key.Position.Line)
		f.origins[path] = at
		if !f.first(path, at) {
			continue
		}
		if text, ok := f.expanded(path, member.Value, at); ok {
			(*field)[key.Value] = text
		} else {
			f.broken[k.path] = true
		}
	}
}

// rejoined gives back a plain host:port. In a list within braces, {brokers: [localhost:9092]}, the parser takes the colon for
// a mapping's, which YAML says it is only with a space behind it.
func rejoined(node ast.Node) ast.Node {
	mapping, ok := node.(*ast.MappingNode)
	if !ok || len(mapping.Values) != 1 {
		return node
	}
	member := mapping.Values[0]
	key, value := member.Key.GetToken(), member.Value.GetToken()
	if value.Position.Line != key.Position.Line || value.Position.Column != key.Position.Column+len(key.Value)+len(":") {
		return node
	}
	joined := *key
	joined.Value = key.Value + ":" + value.Value
	return ast.String(&joined)
}

// expanded is scalar with its ${env:VAR} replaced.
func (f *yamlFile) expanded(path string, node ast.Node, at origin) (string, bool) {
	text, ok := f.scalar(path, "a text", node, at)
	if !ok {
		return "", false
	}
	text, err := expand(text, f.environ)
	if err != nil {
		f.fail(at, path, "%v", err)
	}
	return text, err == nil
}

// scalar gives the text of a plain value: a number and a boolean as they are written.
func (f *yamlFile) scalar(path, wants string, node ast.Node, at origin) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		f.fail(at, path, "anchors, aliases and tags are not read: write the value itself")
	default:
		f.fail(at, path, "wants %s", wants)
	}
	return "", false
}
