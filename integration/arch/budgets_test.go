package arch

import (
	"go/ast"
	"go/token"
	"testing"
)

// The hard limits of the style. Aim at half of them.
const (
	maxFile      = 600  // lines, tests included
	maxFunction  = 80   // lines; a commented flat switch may be longer
	maxParams    = 5    // the receiver not counted
	maxFields    = 12   // of a struct
	maxMethods   = 4    // of an interface
	maxPackage   = 2500 // lines, tests and generated code not counted
	switchShare  = 75   // percent of a long function its switch must fill
	maxCaseLines = 12   // of one case of such a switch
)

// wideStructs may have more fields than maxFields. Each says why.
var wideStructs = map[string]string{
	"fastpath/table.NextHop":        "flat data: one type for all verbs (style rule 12)",
	"fastpath/engine.Config":        "settings; fields are keys of the configuration",
	"integration/testbed.Config":    "the same, of a lab",
	"fastpath/engine.plane":         "everything between the kernel and the workers, opened and closed as one",
	"fastpath/table.Vif":            "flat data: one type for all kinds of interfaces",
	"fastpath/control.Flow":         "one line of `vragent flow`; fields are columns",
	"fastpath/control.WorkerStatus": "counters; fields are columns",
	"fastpath/flow.Entry":           "the 64-byte cell, laid out by hand",
	"fastpath/flow.Record":          "all of a flow entry as a value: what cells are made of",
	"fastpath/forward.Worker":       "the state of one thread, grouped by owner; its stages share nothing else",
	"fastpath/forward/count.Worker": "counters; fields are columns",
	"agent/record.Attachment":       "one record of the ledger",
	"agent/compile.Pod":             "a record of the ledger and what the controller says of it",
	"agent/rpc.VMI":                 "one line of `vragent vmi`; fields are columns",
	"fastpath/packet.Info":          "what one parse finds; a stage reads a few of them",
}

func TestFilesAreShort(t *testing.T) {
	r, files := source(t)
	lines := map[string]int{}
	first := map[string]*file{}
	for _, f := range files {
		if f.lines > maxFile {
			r.broken(t, f.syntax.Package, "%d lines; a file has at most %d", f.lines, maxFile)
		}
		if f.test {
			continue
		}
		if lines[f.dir] += f.lines; first[f.dir] == nil {
			first[f.dir] = f
		}
	}
	for dir, n := range lines {
		if n > maxPackage {
			r.broken(t, first[dir].syntax.Package, "package %s has %d lines, at most %d", dir, n, maxPackage)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	r, files := source(t)
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			if n := fn.Type.Params.NumFields(); n > maxParams {
				r.broken(t, fn.Pos(), "%s has %d parameters, at most %d", fn.Name.Name, n, maxParams)
			}
			if fn.Body == nil {
				continue
			}
			if n := r.lines(fn); n > maxFunction && !r.isFlatSwitch(fn) {
				r.broken(t, fn.Pos(), "%s has %d lines; a function has at most %d, or is one commented flat switch", fn.Name.Name, n, maxFunction)
			}
		}
	}
}

// isFlatSwitch says whether a function is a commented switch of short cases and
// little else.
func (r *repo) isFlatSwitch(fn *ast.FuncDecl) bool {
	if fn.Doc == nil {
		return false
	}
	for _, s := range fn.Body.List {
		body := switchBody(s)
		if body == nil || r.lines(body)*100 < r.lines(fn)*switchShare {
			continue
		}
		for _, c := range body.List {
			if r.lines(c) > maxCaseLines {
				return false
			}
		}
		return true
	}
	return false
}

func switchBody(s ast.Stmt) *ast.BlockStmt {
	switch s := s.(type) {
	case *ast.SwitchStmt:
		return s.Body
	case *ast.TypeSwitchStmt:
		return s.Body
	}
	return nil
}

func TestTypesAreSmall(t *testing.T) {
	r, files := source(t)
	used := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		forTypes(f, func(spec *ast.TypeSpec) {
			name := f.dir + "." + spec.Name.Name
			switch typ := spec.Type.(type) {
			case *ast.StructType:
				n := typ.Fields.NumFields()
				if n > maxFields && wideStructs[name] == "" {
					r.broken(t, spec.Pos(), "struct %s has %d fields, at most %d (wideStructs lists exemptions)", name, n, maxFields)
				}
				used[name] = used[name] || n > maxFields
			case *ast.InterfaceType:
				if n := typ.Methods.NumFields(); n > maxMethods {
					r.broken(t, spec.Pos(), "interface %s has %d methods, at most %d", name, n, maxMethods)
				}
			}
		})
	}
	for name := range wideStructs {
		if !used[name] {
			t.Errorf("integration/arch/budgets_test.go: wideStructs lists %s, which needs no exemption", name)
		}
	}
}

func forTypes(f *file, visit func(*ast.TypeSpec)) {
	for _, d := range f.syntax.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			for _, s := range g.Specs {
				visit(s.(*ast.TypeSpec))
			}
		}
	}
}

// lines counts the lines a piece of syntax covers.
func (r *repo) lines(n ast.Node) int {
	return r.fset.Position(n.End()).Line - r.fset.Position(n.Pos()).Line + 1
}
