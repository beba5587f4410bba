package ledger

// Check says what [Ledger.Verify] looks at. The zero value is density and hash chain of all entries.
type Check struct {
	// Since, if not zero, is an earlier head: its entry must be there, unchanged. What is checked is not less for it.
	Since Head
	// From, if not zero, is a head up to which everything was checked before: the check goes on behind it.
	From Head
	// Rows has the rows of all projections derived anew from the entries, beside those that are read, and the two compared.
	Rows bool
	// Storage has the structure of the storage itself checked as well: pages, indexes, rows.
	Storage bool
	// Progress, if not nil, is called now and then from the goroutine of Verify.
	Progress func(Progress)
}

// Progress is how far a verification has come.
type Progress struct {
	// Checked is the last entry that was checked, whole up to there if Faults is 0. Total is the last entry there is to check.
	Checked Head  `json:"checked"`
	Total   int64 `json:"total"`
	Faults  int   `json:"faults,omitempty"`
	// Storage says that the storage is being checked, which cannot say how far it is.
	Storage bool `json:"storage,omitempty"`
	// Rows says that the chain is checked and rows are being derived, Checked being the last entry that they come from.
	Rows bool `json:"rows,omitempty"`
}

// Report is what Verify found.
type Report struct {
	Entries int64 `json:"entries"`
	Pruned  int64 `json:"pruned"`
	// Head is the last entry that was checked.
	Head Head `json:"head"`
	// Faults is empty when the chain is whole.
	Faults []Fault `json:"faults,omitempty"`
	// Damage is what is wrong with the storage itself, in its own words; empty when it was not looked at.
	Damage []string `json:"damage,omitempty"`
	// Rows is how many rows were compared with what the entries make, and Differences which are not that, each with its table and key.
	Rows        int64    `json:"rows,omitempty"`
	Differences []string `json:"differences,omitempty"`
}

// Whole says that nothing was found.
func (r Report) Whole() bool {
	return len(r.Faults) == 0 && len(r.Damage) == 0 && len(r.Differences) == 0
}

// Fault is one place where the ledger is not what was written.
type Fault struct {
	Seq  int64  `json:"seq"`
	What string `json:"what"` // e.g. "hash does not match", "entry is missing", "ledger ends before the given head"
}
