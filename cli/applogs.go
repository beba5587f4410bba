package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newAppLogs(std IO) *cobra.Command {
	var container string
	var tail int
	var follow, previous bool
	c := &cobra.Command{
		Use: "logs NAME [POD]", Short: "Print the log of an application's pod", Args: cobra.RangeArgs(1, 2),
		Long: `Logs prints what a pod of an application has written. POD is its name or the beginning of it; without POD every pod's
log is printed, one after another. A pod that waits to be restarted shows the log of its last try.`,
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	f := c.Flags()
	f.StringVarP(&container, "container", "c", "", "container (default the first)")
	f.IntVar(&tail, "tail", 0, "only this many last lines (default all)")
	f.BoolVarP(&follow, "follow", "f", false, "go on until the pod has ended")
	f.BoolVar(&previous, "previous", false, "of the container before its last restart")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		pods, err := podsOf(c, cl, *ns, args[0])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			if pods, err = begin(pods, args[1]); err != nil {
				return err
			}
		}
		if follow && len(pods) > 1 {
			return usage(fmt.Errorf("%s has %d pods: say which one to follow: %s", args[0], len(pods), strings.Join(pods, ", ")))
		}
		q := url.Values{"container": {container}, "tail": {strconv.Itoa(tail)}}
		for name, on := range map[string]bool{"follow": follow, "previous": previous} {
			if on {
				q.Set(name, "1")
			}
		}
		for _, pod := range pods {
			if len(pods) > 1 {
				fmt.Fprintf(std.Out, "==> %s\n", pod)
			}
			if err := cl.stream(c.Context(), path("apps", *ns, args[0], "logs", pod)+"?"+q.Encode(), std.Out); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func podsOf(c *cobra.Command, cl *client, ns, app string) ([]string, error) {
	var d struct {
		Resources []struct{ Kind, Name string }
	}
	if err := cl.call(c.Context(), http.MethodGet, path("apps", ns, app), nil, &d); err != nil {
		return nil, err
	}
	var pods []string
	for _, r := range d.Resources {
		if r.Kind == "Pod" {
			pods = append(pods, r.Name)
		}
	}
	if len(pods) == 0 {
		return nil, errors.New(ns + "/" + app + " has no pods now")
	}
	return pods, nil
}

// begin gives the pods whose name begins with some text.
func begin(pods []string, text string) ([]string, error) {
	var out []string
	for _, p := range pods {
		if strings.HasPrefix(p, text) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, usage(fmt.Errorf("there is no pod %s: there are %s", text, strings.Join(pods, ", ")))
	}
	return out, nil
}
