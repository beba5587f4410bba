package wire

import "github.com/tiphys/tiphys/control/sweep"

// sweeps are what is swept, in this order.
func (s *Server) sweeps() *sweep.Sweeper {
	return sweep.New(sweep.Options{Now: s.o.Now, Log: s.o.Log},
		sweep.Artifacts{Data: s.o.Data, Store: s.machine.Artifacts},
		sweep.Images{Data: s.o.Data, Store: s.machine.Images},
		sweep.Layers{Library: s.machine.Library, Pods: s.machine.Executor, Named: sweep.Named{Ledger: s.ledger, Objects: s.target, Runs: s.machine.Runs}},
		sweep.Deliveries{Ledger: s.ledger},
		sweep.Checkouts{Repositories: s.repos})
}
