package arch

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// goStatements may stand, beside main.go, Run methods and tests, in these
// functions. Each says who waits for the goroutine.
var goStatements = map[string]string{}

// constructors build package-level values that nobody changes.
var constructors = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "netip.MustParseAddr", "netip.MustParsePrefix", "netip.AddrFrom4",
	"netip.AddrFrom16", "netip.PrefixFrom", "net.ParseIP", "template.Must", "strings.NewReplacer", "crc32.MakeTable",
	"packet.AddrFrom", "packet.AddrFrom4",
}

func checkTypeNames(t *testing.T, r *repo, f *file) {
	t.Helper()
	forTypes(f, func(spec *ast.TypeSpec) {
		for _, bad := range []string{"Manager", "Handler", "Helper", "Util", "Utils", "Common", "Impl"} {
			if strings.HasSuffix(spec.Name.Name, bad) {
				r.broken(t, spec.Pos(), "the name of type %s ends with %q, which says nothing", spec.Name.Name, bad)
			}
		}
	})
}

func TestNoInit(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				r.broken(t, fn.Pos(), "init acts behind the reader's back; call it from main or New")
			}
		}
	}
}

// TestGoroutinesAreWaitedFor keeps `go` where somebody visibly waits.
func TestGoroutinesAreWaitedFor(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		if f.test || below(f.dir, "integration") || f.syntax.Name.Name == "main" && strings.HasSuffix(f.path, "/main.go") {
			continue
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name == "Run" || goStatements[f.dir+"."+fn.Name.Name] != "" {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					r.broken(t, g.Pos(), "%s starts a goroutine; that belongs into main.go or a Run method, which waits for it", fn.Name.Name)
				}
				return true
			})
		}
	}
}

// TestNoMutableGlobals allows package-level variables that are constants in all
// but name: errors, parsed patterns and addresses, embedded files, tables that
// nothing in the package assigns to.
func TestNoMutableGlobals(t *testing.T) {
	r, files := source(t)
	assigned := assignments(files)
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if isEmbed(g, v) {
					continue
				}
				for i, name := range v.Names {
					why := complaint(f, v, i, assigned)
					if why != "" {
						r.broken(t, name.Pos(), "package variable %s %s; state belongs into a value somebody owns", name.Name, why)
					}
				}
			}
		}
	}
}

// complaint says what is wrong with the i-th variable of a declaration.
func complaint(f *file, v *ast.ValueSpec, i int, assigned map[string]bool) string {
	name := v.Names[i].Name
	switch {
	case name == "_", name == "version" && f.syntax.Name.Name == "main": // the linker writes the version
		return ""
	case assigned[f.dir+"."+name]:
		return "is assigned to"
	case i >= len(v.Values) || !isConstantValue(v.Values[i]):
		return "is not a constant in all but name"
	}
	return ""
}

func isEmbed(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed") {
				return true
			}
		}
	}
	return false
}

// isConstantValue accepts literals, conversions of literals, addresses of no
// variable, and calls of the known constructors.
func isConstantValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.CompositeLit, *ast.Ident, *ast.SelectorExpr, *ast.FuncLit:
		return true
	case *ast.UnaryExpr:
		_, literal := e.X.(*ast.CompositeLit)
		return literal || e.Op != token.AND && isConstantValue(e.X)
	case *ast.BinaryExpr:
		return isConstantValue(e.X) && isConstantValue(e.Y)
	case *ast.CallExpr:
		switch fun := e.Fun.(type) {
		case *ast.SelectorExpr:
			pkg, ok := fun.X.(*ast.Ident)
			return ok && slices.Contains(constructors, pkg.Name+"."+fun.Sel.Name)
		case *ast.ArrayType, *ast.Ident: // []byte("…"), Label(16), or an own pure function
			return true
		}
	}
	return false
}

// assignments finds package variables by name that are changed anywhere: x = …,
// x[i] = …, x.f = …, x++, &x, delete(x, …). Locals of the same name that are
// declared in the function do not count.
func assignments(files []*file) map[string]bool {
	globals := map[string]bool{}
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR && !f.test {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						globals[f.dir+"."+n.Name] = true
					}
				}
			}
		}
	}
	found := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		changed(f, func(id *ast.Ident) {
			if name := f.dir + "." + id.Name; globals[name] {
				found[name] = true
			}
		})
	}
	return found
}

// changed calls visit for every identifier of package scope at the root of an
// expression that is changed.
func changed(f *file, visit func(*ast.Ident)) {
	root := func(e ast.Expr) {
		if id := rootOf(e); id != nil && isPackageScope(f, id) {
			visit(id)
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, l := range n.Lhs {
					root(l)
				}
			}
		case *ast.IncDecStmt:
			root(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				root(n.X)
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") {
				root(n.Args[0])
			}
		}
		return true
	})
}

// isPackageScope relies on the parser's resolution within the file: a local
// name has an object of its own; one of another file has none.
func isPackageScope(f *file, id *ast.Ident) bool {
	return id.Obj == nil || f.syntax.Scope.Lookup(id.Name) == id.Obj
}

func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// TestNoPrinting keeps stray output out: programs talk through their CLI
// packages, daemons through slog.
func TestNoPrinting(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		if f.syntax.Name.Name == "main" || below(f.dir, "agent/cli") || below(f.dir, "controller/cli") || f.test {
			continue
		}
		f.imports(func(at token.Pos, _, path string) {
			if path == "log" {
				r.broken(t, at, "package log; use log/slog with the fixed keys")
			}
		})
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				if (fun.Name == "print" || fun.Name == "println") && fun.Obj == nil {
					r.broken(t, call.Pos(), "%s is for debugging", fun.Name)
				}
			case *ast.SelectorExpr:
				if pkg, ok := fun.X.(*ast.Ident); ok && pkg.Name == "fmt" && strings.HasPrefix(fun.Sel.Name, "Print") {
					r.broken(t, call.Pos(), "fmt.%s outside of a program's CLI; use log/slog, or take an io.Writer", fun.Sel.Name)
				}
			}
			return true
		})
	}
}
