package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/vragent/vragent"

// file is one Go source file.
type file struct {
	path      string // from the root of the repository: agent/main.go
	dir       string // its package: agent; "." for the root
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
}

// repo is the whole source, read once.
type repo struct {
	root  string
	fset  *token.FileSet
	files []*file
}

var load = sync.OnceValues(func() (*repo, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	r := &repo{root: root, fset: token.NewFileSet()}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != root && (name == "build" || name == "testdata" || strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		return r.add(p)
	})
	return r, err
})

func (r *repo) add(p string) error {
	text, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(r.root, p)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(r.fset, rel, text, parser.ParseComments)
	if err != nil {
		return err
	}
	r.files = append(r.files, &file{
		path:      rel,
		dir:       path.Dir(rel),
		test:      strings.HasSuffix(rel, "_test.go"),
		generated: ast.IsGenerated(syntax),
		lines:     strings.Count(string(text), "\n"),
		syntax:    syntax,
	})
	return nil
}

// source returns the repository and its hand-written files.
func source(t *testing.T) (*repo, []*file) {
	t.Helper()
	r, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var written []*file
	for _, f := range r.files {
		if !f.generated {
			written = append(written, f)
		}
	}
	return r, written
}

// broken reports a breach of a rule at a place.
func (r *repo) broken(t *testing.T, at token.Pos, rule string, args ...any) {
	t.Helper()
	p := r.fset.Position(at)
	t.Errorf("%s:%d: "+rule, append([]any{p.Filename, p.Line}, args...)...)
}

// below says whether dir is root or a folder inside it.
func below(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

// imports calls visit for every import of a file: the folder when it is ours,
// else "" and the path.
func (f *file) imports(visit func(at token.Pos, own, path string)) {
	for _, i := range f.syntax.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		if rest, ours := strings.CutPrefix(p, module+"/"); ours {
			visit(i.Pos(), rest, p)
			continue
		}
		visit(i.Pos(), "", p)
	}
}
