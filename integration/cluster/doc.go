// Package cluster is what is tested on a real Kubernetes cluster, which up.sh
// and install.sh bring up on this machine. The cluster owns all state; each test
// makes namespaces of its own and removes them. It does not test what needs no
// Kubernetes (integration).
package cluster
