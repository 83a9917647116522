package networks

import "github.com/vragent/vragent/controller/plan/cluster"

// Project is a namespace.
type Project struct {
	UUID          string
	Name          string // <cluster>-<namespace>
	Namespace     string
	SecurityGroup *SecurityGroup // of all its interfaces
}

// FQName is Contrail's path of names.
func (p *Project) FQName() []string { return []string{Domain, p.Name} }

// SecurityGroup is a project's default one. It allows everything: no policy is
// enforced yet.
type SecurityGroup struct {
	UUID    string
	Name    string
	Project string
}

// FQName is Contrail's path of names.
func (g *SecurityGroup) FQName() []string { return []string{Domain, g.Project, g.Name} }

// Project is that of a namespace, with its default security group.
func (n *Networks) Project(namespace string) *Project {
	if p := n.projects[namespace]; p != nil {
		return p
	}
	name := n.in.Project(namespace)
	group := name + "-default-sg"
	p := &Project{
		UUID: cluster.Derive("project", name), Name: name, Namespace: namespace,
		SecurityGroup: &SecurityGroup{UUID: cluster.Derive("security-group", name, group), Name: group, Project: name},
	}
	n.projects[namespace] = p
	n.Projects = append(n.Projects, p)
	return p
}
