package workflow

import "fmt"

// Unsettled describes the nodes that the run still waits for, those without a place included.
func Unsettled(s *State) string {
	out := ""
	for _, n := range s.order {
		if !n.gone && !n.settled {
			out += fmt.Sprintf("%s %s %s planned %v on %q lock %q open %d hooks %d running %d failures %d\n", n.Name, n.Type, n.Phase, n.planned, n.blockedOn, n.lock, n.open, n.hooksOut, n.running, n.failures)
		}
	}
	return out + fmt.Sprint(s.blocked, s.pods)
}
