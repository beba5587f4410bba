package event

// The labels that runs from Git carry.
const (
	LabelRepo   = "tiphys.dev/repo"
	LabelBranch = "tiphys.dev/branch"
	LabelTag    = "tiphys.dev/tag"
	LabelCommit = "tiphys.dev/commit"
	LabelMR     = "tiphys.dev/mr"
	LabelEvent  = "tiphys.dev/event"
)
