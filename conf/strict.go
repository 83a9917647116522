// Package conf reads the configuration files of vragent and vrcontroller and
// the CNI configuration of vrouter, strictly: what it does not understand is an
// error that names file, key, cause and fix. A caller owns the value it is
// handed; nothing is kept and nothing is reloaded. It does not look at the
// machine: whether an interface or a certificate exists is found out by who uses it.
package conf

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Error is one mistake in a configuration.
type Error struct {
	File  string // or what was read instead of a file
	Key   string // path of the key: fastpath.workers; empty: the file as a whole
	Cause string
	Fix   string // what to do, may be empty
}

func (e *Error) Error() string {
	s := e.File
	if e.Key != "" {
		s += ": " + e.Key
	}
	s += ": " + e.Cause
	if e.Fix != "" {
		s += " (" + e.Fix + ")"
	}
	return s
}

// loadYAML reads the file over the defaults already in v.
func loadYAML(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err // names the file and the cause
	}
	return parseYAML(file, text, v)
}

func parseYAML(file string, text []byte, v any) error {
	if n := documents(text); n > 1 {
		return &Error{file, "", fmt.Sprintf("has %d YAML documents", n), "keep one: the others would be ignored"}
	}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return &Error{file, "", plainYAML(err), "correct the YAML"}
	}
	if bytes.Equal(bytes.TrimSpace(asJSON), []byte("null")) {
		asJSON = []byte("{}") // an empty file: all defaults
	}
	return parseJSON(file, asJSON, v)
}

// parseJSON decodes text into v after holding every key against v's type.
// encoding/json alone would take keys in any case, the last of duplicates, and
// name unknown ones without their path.
func parseJSON(file string, text []byte, v any) error {
	if err := json.Unmarshal(text, new(any)); err != nil {
		cause := err.Error()
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			cause = fmt.Sprintf("byte %d: %v", syntax.Offset, err)
		}
		return &Error{file, "", "is not JSON: " + cause, "it may be truncated"}
	}
	w := walk{file: file, dec: json.NewDecoder(bytes.NewReader(text))}
	w.value(reflect.TypeOf(v).Elem(), "")
	if len(w.found) > 0 {
		return errors.Join(w.found...)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &Error{file, "", err.Error(), ""}
	}
	return nil
}

// walk compares a JSON text with the Go type it is meant for. The text is
// known to be valid, so tokens never fail.
type walk struct {
	file  string
	dec   *json.Decoder
	found []error
}

func (w *walk) fail(key, cause, fix string) {
	w.found = append(w.found, &Error{w.file, key, cause, fix})
}

// value walks one value; t is nil where anything goes.
func (w *walk) value(t reflect.Type, path string) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[json.RawMessage]() || (t != nil && t.Kind() == reflect.Interface) {
		t = nil
	}
	token, _ := w.dec.Token()
	switch token {
	case json.Delim('{'):
		w.object(t, path)
	case json.Delim('['):
		w.list(t, path)
	default:
		w.scalar(t, token, path)
	}
}

func (w *walk) object(t reflect.Type, path string) {
	var known map[string]reflect.Type
	switch {
	case t == nil || t.Kind() == reflect.Map:
	case t.Kind() == reflect.Struct && !isText(t):
		known = fields(t)
	default:
		w.fail(path, "is a group of keys, must be "+describe(t), "")
		t = nil
	}
	seen := map[string]bool{}
	for w.dec.More() {
		token, _ := w.dec.Token()
		key, _ := token.(string)
		at := strings.TrimPrefix(path+"."+key, ".")
		if seen[key] {
			w.fail(at, "is given twice", "keep one")
		}
		seen[key] = true
		of, ok := known[key]
		switch {
		case known != nil && !ok:
			w.fail(at, "unknown key", suggest(key, known))
		case t != nil && t.Kind() == reflect.Map:
			of = t.Elem()
		}
		w.value(of, at)
	}
	_, _ = w.dec.Token() // }
}

func (w *walk) list(t reflect.Type, path string) {
	var of reflect.Type
	switch {
	case t == nil:
	case t.Kind() == reflect.Slice:
		of = t.Elem()
	default:
		w.fail(path, "is a list, must be "+describe(t), "")
	}
	for i := 0; w.dec.More(); i++ {
		w.value(of, fmt.Sprintf("%s[%d]", path, i))
	}
	_, _ = w.dec.Token() // ]
}

func (w *walk) scalar(t reflect.Type, token json.Token, path string) {
	if t == nil || token == nil { // null leaves the default
		return
	}
	switch got := token.(type) {
	case string:
		if isText(t) {
			if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(got)); err != nil {
				w.fail(path, fmt.Sprintf("%q is not %s", got, describe(t)), "")
			}
			return
		}
		if t.Kind() != reflect.String {
			w.fail(path, fmt.Sprintf("is the text %q, must be %s", got, describe(t)), "")
		}
	case bool:
		if t.Kind() != reflect.Bool {
			w.fail(path, fmt.Sprintf("is %t, must be %s", got, describe(t)), quoted(t))
		}
	case float64:
		if t.Kind() != reflect.Int {
			w.fail(path, fmt.Sprintf("is the number %v, must be %s", got, describe(t)), quoted(t))
		} else if got != float64(int(got)) {
			w.fail(path, fmt.Sprintf("is %v, must be a whole number", got), "")
		}
	}
}

// quoted is the fix for words YAML takes for something else: off, no, 1.10.
func quoted(t reflect.Type) string {
	if t.Kind() == reflect.String {
		return "put it in quotes"
	}
	return ""
}

// fields maps the key names of a struct to their types; embedded ones included.
func fields(t reflect.Type) map[string]reflect.Type {
	known := map[string]reflect.Type{}
	for f := range t.Fields() {
		if f.Anonymous {
			maps.Copy(known, fields(f.Type))
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name] = f.Type
	}
	return known
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// describe says a type in an operator's words.
func describe(t reflect.Type) string {
	switch {
	case t.PkgPath() == "net/netip" && t.Name() == "Prefix":
		return "a subnet such as 192.0.2.0/24"
	case t.PkgPath() == "net/netip":
		return "an IP address such as 192.0.2.1"
	case t == reflect.TypeFor[Duration]():
		return "a time span such as 90s, 15m or 1h"
	}
	switch t.Kind() {
	case reflect.Int:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a group of keys"
	}
	return "a text"
}

// suggest names the known key nearest to a mistyped one, else all of them.
func suggest(key string, known map[string]reflect.Type) string {
	names := slices.Sorted(maps.Keys(known))
	best, least := "", 3
	for _, name := range names {
		if d := distance(strings.ToLower(key), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// distance counts the edits between two short words (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// documents counts YAML documents that hold anything.
func documents(text []byte) int {
	n := 0
	for part := range strings.SplitSeq("\n"+string(text), "\n---") {
		for line := range strings.Lines(part) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				n++
				break
			}
		}
	}
	return n
}

// plainYAML drops the prefixes of the libraries below us; the line stays.
func plainYAML(err error) string {
	s := strings.NewReplacer("error converting YAML to JSON: ", "", "yaml: ", "", "unmarshal errors:\n  ", "").Replace(err.Error())
	return strings.ReplaceAll(s, "already set in map", "is given twice")
}
