package plan

// remarks are what the objects themselves are to be told about.
func (b *builder) remarks() {
	for i := range b.idx.Namespaces {
		b.faults("Namespace", &b.idx.Namespaces[i].Meta)
	}
	for i := range b.idx.Nodes {
		b.faults("Node", &b.idx.Nodes[i].Meta)
	}
	for i := range b.idx.Pods {
		b.faults("Pod", &b.idx.Pods[i].Meta)
	}
	for i := range b.idx.Services {
		b.faults("Service", &b.idx.Services[i].Meta)
	}
	for _, p := range b.in.Cluster.Pools {
		b.faults("FloatingIPPool", &p.Meta)
	}
	for _, u := range b.in.Cluster.Unserved {
		sentence := "is not enforced yet: what the networks allow passes"
		if u.Kind == "Ingress" {
			sentence = "is not enforced yet: nothing listens for it"
		}
		b.model.Notices = append(b.model.Notices, Problem{u.Kind + " " + u.Ref(), sentence})
	}
}

func (b *builder) faults(kind string, m *Meta) {
	for _, f := range m.Faults {
		b.problem(kind+" "+m.Ref(), f)
	}
}
