// Package arch tests the repository itself: layers, homes of libraries, size
// budgets, package docs, habits of the code, and that the examples load. It
// reads source as text and syntax trees and keeps nothing. It does not test
// behaviour; a failure names the file, the line and the rule.
package arch
