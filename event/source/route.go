package source

// Paths says who is called at which path: an event's own path comes before an endpoint that looks like it, and of two endpoints the
// one of the receiver that stands first.
func Paths(receivers []Receiver) map[string]Receiver {
	paths := map[string]Receiver{}
	for _, declared := range []bool{false, true} {
		for _, r := range receivers {
			for _, route := range r.Routes() {
				if route.Declared == declared && paths[route.Path] == nil {
					paths[route.Path] = r
				}
			}
		}
	}
	return paths
}
