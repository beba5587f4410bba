package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/workflow"
)

type resubmitOptions struct {
	parameters []string
	labels     []string
	memoized   bool
	watch      bool
}

func newResubmit(std IO) *cobra.Command {
	o := resubmitOptions{}
	c := &cobra.Command{
		Use:   "resubmit [RUN...] [-l key=value]",
		Short: "Run again what a run was made of, as a new run",
		Long: `Resubmit makes a new run of the manifest, the arguments, the labels and the annotations of another run. What a template
gave is taken from the template as it is now. The new run acts for what the earlier one acted for; a run that somebody
submitted by hand is run again as by you.

With --memoized, for a run that failed, steps that succeeded are not run again: the new run has what they left.`,
		Example: `  tiphys resubmit ci-x7k2p --watch
  tiphys resubmit nightly-4hqzd --memoized
  tiphys resubmit -l stage=canary -p version=2`,
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	f := c.Flags()
	f.StringArrayVarP(&o.parameters, "parameter", "p", nil, "set an argument anew, name=value (may be repeated)")
	f.StringArrayVarP(&o.labels, "selector", "l", nil, "run again all runs with this label, key=value (may be repeated)")
	f.BoolVar(&o.memoized, "memoized", false, "keep what steps left that succeeded")
	f.BoolVarP(&o.watch, "watch", "w", false, "follow the new run; the exit code tells how it ended")
	c.RunE = func(c *cobra.Command, args []string) error { return runResubmit(c, std, server(), *ns, o, args) }
	return c
}

func runResubmit(c *cobra.Command, std IO, cl *client, ns string, o resubmitOptions, names []string) error {
	if len(names) == 0 && len(o.labels) == 0 {
		return usage(errors.New("name a run, or choose runs by -l"))
	}
	if len(o.labels) > 0 {
		found, err := labelled(c, cl, ns, o.labels)
		if err != nil {
			return err
		}
		names = append(names, found...)
	}
	if o.watch && len(names) != 1 {
		return usage(fmt.Errorf("--watch follows one run, and there would be %d", len(names)))
	}
	if o.memoized && len(o.parameters) > 0 {
		fmt.Fprintln(std.Err, "warning: steps that succeeded keep what they left with the earlier arguments")
	}
	for _, name := range names {
		var made submittedRun
		body := map[string]any{"parameters": o.parameters, "memoized": o.memoized}
		if err := cl.call(c.Context(), http.MethodPut, path("workflows", ns, name, "resubmit"), body, &made); err != nil {
			return err
		}
		made.print(std, cl)
		if o.watch {
			return followRemote(c.Context(), std, cl, made.Metadata.Namespace, made.Metadata.Name)
		}
	}
	return nil
}

// mostResubmitted bounds how many runs are run again at a time.
const mostResubmitted = 1000

// labelled names the runs that have all of the labels.
func labelled(c *cobra.Command, cl *client, ns string, labels []string) ([]string, error) {
	q := url.Values{"namespace": {ns}, "label": labels, "limit": {fmt.Sprint(mostResubmitted)}}
	var out items[listedRun]
	if err := cl.call(c.Context(), http.MethodGet, "/api/v1/runs?"+q.Encode(), nil, &out); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range out.Items {
		names = append(names, r.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no run in namespace %s has these labels", ns)
	}
	return names, nil
}

// submittedRun is what the server answers with when a run was made.
type submittedRun struct {
	Metadata struct{ Name, Namespace string } `json:"metadata"`
	Status   struct {
		Conditions []workflow.Condition `json:"conditions"`
	} `json:"status"`
}

// print says which run was made, and what its manifest was warned of.
func (r submittedRun) print(std IO, cl *client) {
	printWarnings(std.Err, r.Status.Conditions)
	fmt.Fprintf(std.Out, "%s submitted: %s/runs/%s/%s\n", r.Metadata.Name, cl.base, r.Metadata.Namespace, r.Metadata.Name)
}
