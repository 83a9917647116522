package networks

// Import finds which routes are valid in which network; serving are those to
// whose services the pods of other networks open connections.
//
//	everybody's routes lead to the hosts, at least for replies; of an isolated network also to
//	  the pods of the default network: isolation is one-way;
//	who is reached by isolated pods, directly or by a service, has the way back to them;
//	nobody has a route to a custom network: its pods leave with an address of the default one.
func (n *Networks) Import(serving map[*Network]bool) {
	var isolated []*Network
	for _, x := range n.All {
		if x.Kind == Isolated {
			isolated = append(isolated, x)
		}
	}
	for _, x := range n.All {
		if !x.HasPods() {
			continue
		}
		if x != n.Host() {
			x.Imports = []Import{{n.Host(), x.Kind != Isolated}}
		}
		if x != n.Host() && !serving[x] {
			continue
		}
		for _, i := range isolated {
			if i != x {
				x.Imports = append(x.Imports, Import{i, true})
			}
		}
	}
}
