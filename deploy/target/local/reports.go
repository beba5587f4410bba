package local

import (
	"context"
	"strings"

	"github.com/tiphys/tiphys/executor"
)

// Reports brings the target what a shared executor reports of its pods: see [Options.Reports].
type Reports chan executor.Report

// NewReports returns an empty way; as many reports may be under way as the executor has.
func NewReports() Reports { return make(Reports, 1024) }

// Take takes a report, if it is of a pod of this target. It waits until there is room, or for ctx: the report is then repeated.
func (r Reports) Take(ctx context.Context, rep executor.Report) (taken bool) {
	if !strings.HasPrefix(rep.ID.Owner, OwnerPrefix) {
		return false
	}
	select {
	case r <- rep:
	case <-ctx.Done():
	}
	return true
}
