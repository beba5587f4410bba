package wire

import "github.com/tiphys/tiphys/control/hold"

// planners tell what the rooms do once a restored server is released. What makes others do something comes before them: a merge request
// that is not to be merged is an event, and what is left of a trigger is no run.
func (s *Server) planners() hold.Planners {
	list := hold.Planners{hold.Merges{Requests: s.remote}}
	list = append(list, s.events.Planners()...)
	list = append(list, s.crons.Planner(), s.machine.Runs.Planner(), s.posts.Planner())
	return append(list, s.apps.Planners()...)
}
