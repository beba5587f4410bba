package manifest

import "strings"

// TemplatesBesideRef is Argo's refusal of templates in a spec that refers to a WorkflowTemplate.
const TemplatesBesideRef = "Templates is invalid field in spec if workflow referred WorkflowTemplate reference"

// Nearest gives the name that was perhaps meant: one that differs in case only, or else in at most two letters and in less than half of
// them; empty if there is none.
func Nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return k
		}
		if d := distance(name, k, least); d < least && 2*d < max(len(name), len(k)) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters that must be added, left out or exchanged to make one text of another; limit if it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return min(row[len(b)], limit)
}
