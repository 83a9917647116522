package arch

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// badNames say nothing about what a thing is. They name no package, no file,
// and end no type's name.
var badNames = []string{
	"manager", "handler", "helper", "helpers", "util", "utils", "common", "base", "impl", "data", "info", "process", "misc",
}

// sentenceEnd is where a sentence of a package doc ends.
var sentenceEnd = regexp.MustCompile(`[.?!:](\s|$)`)

// TestPackageDocs asks for the three sentences of style rule 3.
func TestPackageDocs(t *testing.T) {
	r, files := source(t)
	docs := map[string][]*file{}
	first := map[string]*file{}
	for _, f := range files {
		if f.test {
			continue
		}
		if first[f.dir] == nil {
			first[f.dir] = f
		}
		if f.syntax.Doc != nil {
			docs[f.dir] = append(docs[f.dir], f)
		}
	}
	for dir, f := range first {
		at := f.syntax.Package
		switch with := docs[dir]; len(with) {
		case 0:
			r.broken(t, at, "package %s has no package doc: what it is, who owns its state, what it is not for", dir)
		case 1:
			checkDoc(t, r, with[0])
		default:
			r.broken(t, with[1].syntax.Package, "package %s has a second package doc; the first is in %s", dir, with[0].path)
		}
	}
}

func checkDoc(t *testing.T, r *repo, f *file) {
	t.Helper()
	text := strings.Join(strings.Fields(f.syntax.Doc.Text()), " ")
	want := "Package " + f.syntax.Name.Name + " "
	if f.syntax.Name.Name == "main" {
		want = "Command "
	}
	if !strings.HasPrefix(text, want) {
		r.broken(t, f.syntax.Doc.Pos(), "the package doc begins with %q", want)
	}
	if n := len(sentenceEnd.FindAllString(text, -1)); n < 3 {
		r.broken(t, f.syntax.Doc.Pos(), "the package doc has %d sentences; it has three: what it is, who owns its state, what it is not for", n)
	}
}

func TestNamesSayWhatThingsAre(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		stem := strings.TrimSuffix(strings.TrimSuffix(f.path[strings.LastIndex(f.path, "/")+1:], ".go"), "_test")
		for _, name := range []string{f.syntax.Name.Name, stem} {
			if slices.Contains(badNames, name) {
				r.broken(t, f.syntax.Package, "the name %q says nothing", name)
			}
		}
	}
	for _, f := range files {
		if f.test {
			continue
		}
		checkTypeNames(t, r, f)
	}
}
