// Package integration tests the whole system as a user meets it: the three real
// programs on two nodes made of network namespaces (package testbed), pods
// attached by the real plugin, packets through AF_XDP. One lab serves all tests
// of the package; a test that breaks something puts it right again. What one
// package can show alone is not tested here.
package integration
