package workflow

// ActsFor is what a run may act for: what whoever submitted it proved to be about. It is settled when the run is submitted and
// recorded with it, so that neither labels nor what an event is called later change it. The zero value is of a run that a person or a
// schedule of this server made: it acts for no repository.
type ActsFor struct {
	// Forge is the instance that Repo is of; empty is the built-in remote. A forge that is not declared has a name that no instance has.
	Forge string `json:"forge,omitempty"`
	Repo  string `json:"repo,omitempty"`
	// Ref is the full name of the ref, empty where several events speak for different ones.
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
	// MR is the number of the merge request, 0 for none; Fork says that it comes from another repository.
	MR   int  `json:"mr,omitempty"`
	Fork bool `json:"fork,omitempty"`
	// Protected says that Ref may be changed only as the forge's rules allow.
	Protected bool `json:"protected,omitempty"`
	// Nobody says that nobody proved who sent an event that led to the run: it may run pods, and do nothing that others see.
	Nobody bool `json:"nobody,omitempty"`
}
