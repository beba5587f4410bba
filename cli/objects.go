package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/wire"
	"github.com/tiphys/tiphys/workflow"
)

func newApply(std IO) *cobra.Command {
	c := &cobra.Command{Use: "apply FILE...", Short: "Declare templates, sensors, applications and other objects on the server", Args: cobra.MinimumNArgs(1)}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, args []string) error {
		for _, file := range args {
			data, err := readManifest(c.Context(), std, file)
			if err != nil {
				return usage(err)
			}
			var out struct {
				Set, Unchanged []string
				Diagnostics    []manifest.Diagnostic
			}
			if err := server().call(c.Context(), http.MethodPost, "/api/v1/definitions?file="+url.QueryEscape(file), data, &out); err != nil {
				return err
			}
			for _, d := range out.Diagnostics {
				fmt.Fprintf(std.Err, "warning: %s\n", d.Error())
			}
			for _, k := range out.Set {
				fmt.Fprintln(std.Out, k+" applied")
			}
			for _, k := range out.Unchanged {
				fmt.Fprintln(std.Out, k+" unchanged")
			}
		}
		return nil
	}
	return c
}

// kinds are the short forms of kinds, as kubectl users write them.
func kindOf(word string) string {
	for kind, forms := range map[string]string{
		"WorkflowTemplate": "workflowtemplate workflowtemplates wftmpl", "ClusterWorkflowTemplate": "clusterworkflowtemplate cwft",
		"CronWorkflow": "cronworkflow cronworkflows cronwf cwf", "EventSource": "eventsource eventsources es", "Sensor": "sensor sensors",
		"Application": "application applications app", "ApplicationSet": "applicationset applicationsets appset", "AppProject": "appproject project", "Forge": "forge forges", "SecretGrant": "secretgrant secretgrants",
		"ConfigMap": "configmap configmaps cm", "Secret": "secret secrets", "PersistentVolumeClaim": "persistentvolumeclaim pvc", "EventBus": "eventbus",
		"Workflow": "workflow workflows wf run runs",
	} {
		for _, f := range strings.Fields(forms) {
			if strings.EqualFold(f, word) {
				return kind
			}
		}
	}
	return word
}

func newGet(std IO) *cobra.Command {
	var output string
	var attempts bool
	c := &cobra.Command{
		Use: "get NAME | get KIND [NAME]", Short: "Show a run, or what is declared", Args: cobra.RangeArgs(1, 2),
		Long: "Get shows a run as a tree (get NAME), lists what is declared of a kind (get KIND), or shows one object (get KIND NAME).",
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	c.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	c.Flags().BoolVar(&attempts, "attempts", false, "show earlier attempts of a run's steps too")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		kind := kindOf(args[0])
		switch {
		case len(args) == 2 && kind == "Workflow":
			return getRun(c, std, cl, *ns, args[1], output, attempts)
		case len(args) == 2:
			var d struct {
				Object     json.RawMessage         `json:"object"`
				Conditions []definitions.Condition `json:"conditions"`
			}
			if err := cl.call(c.Context(), http.MethodGet, path("definitions", kind, *ns, args[1]), nil, &d); err != nil {
				return err
			}
			for _, condition := range d.Conditions {
				fmt.Fprintf(std.Err, "warning: %s (%s)\n", condition.Message, condition.Hint)
			}
			if len(d.Object) == 0 {
				return nil // the condition says why there is nothing to show
			}
			return printObject(std, d.Object, output)
		case kind != args[0] && kind != "Workflow" || isKind(args[0]):
			return getKind(c, std, cl, kind, output)
		}
		return getRun(c, std, cl, *ns, args[0], output, attempts)
	}
	return c
}

func isKind(word string) bool { return word != "" && word[0] >= 'A' && word[0] <= 'Z' }

func getKind(c *cobra.Command, std IO, cl *client, kind, output string) error {
	var out items[struct {
		Kind, Namespace, Name, Origin, Digest string
		Conditions                            []definitions.Condition `json:",omitempty"`
	}]
	if err := cl.call(c.Context(), http.MethodGet, "/api/v1/definitions?limit=1000&kind="+url.QueryEscape(kind), nil, &out); err != nil {
		return err
	}
	if output != "" {
		return printJSON(std.Out, out.Items)
	}
	t := tabwriter.NewWriter(std.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tNAME\tORIGIN\tDIGEST\tSTATE")
	for _, d := range out.Items {
		state := definitions.Present.String()
		for _, c := range d.Conditions {
			state = strings.ToLower(c.Type) + ": " + oneLine(c.Message)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.19s\t%s\n", d.Namespace, d.Name, d.Origin, d.Digest, state)
	}
	return t.Flush()
}

func getRun(c *cobra.Command, std IO, cl *client, ns, name, output string, attempts bool) error {
	if output != "" {
		var wf json.RawMessage
		if err := cl.call(c.Context(), http.MethodGet, path("workflows", ns, name), nil, &wf); err != nil {
			return err
		}
		return printObject(std, wf, output)
	}
	a, err := cl.readRun(c.Context(), ns, name)
	if err != nil {
		return err
	}
	nodes, order := map[string]workflow.Node{}, []string{}
	for _, n := range a.Nodes {
		nodes[n.ID] = n
		order = append(order, n.ID)
	}
	printTree(std.Out, a.Run, nodes, order)
	if !attempts {
		return nil
	}
	fmt.Fprintln(std.Out)
	for _, at := range a.Attempts {
		fmt.Fprintf(std.Out, "%s attempt %d: %s %s %s\n", at.Name, at.Attempt, at.Phase, at.Reason, oneLine(at.Message))
	}
	return nil
}

func printObject(std IO, raw json.RawMessage, output string) error {
	switch output {
	case "json":
		return printJSON(std.Out, raw)
	case "", "yaml":
		y, err := yaml.JSONToYAML(raw)
		if err != nil {
			return err
		}
		_, err = std.Out.Write(y)
		return err
	}
	return usage(fmt.Errorf("output %q: use json or yaml", output))
}

func newDelete(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "delete KIND NAME | delete RUN", Short: "Delete what was declared by apply, or take a finished run out of the lists", Args: cobra.RangeArgs(1, 2),
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		to := path("workflows", *ns, args[0])
		if len(args) == 2 {
			to = path("definitions", kindOf(args[0]), *ns, args[1])
			if kindOf(args[0]) == "Workflow" {
				to = path("workflows", *ns, args[1])
			}
		}
		if err := server().call(c.Context(), http.MethodDelete, to, nil, nil); err != nil {
			return err
		}
		fmt.Fprintln(std.Out, strings.Join(args, "/")+" deleted")
		return nil
	}
	return c
}

func newLint(std IO) *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check manifests, without a server",
		Long: `Lint checks every object in the files as the server would, each fault with file:line:column. Templates in the same
files are known; references to others are passed over, unless --strict. An unknown field is a fault.

Exit status: 0 no faults (there may be warnings), 2 faults.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			objects, diags, made, err := decodeFiles(c.Context(), std, args)
			if err != nil && !manifest.Failed(diags) {
				return usage(err)
			}
			rules, err := wire.Rules(nil)
			if err != nil {
				return err
			}
			diags = append(diags, made.placeAll(rules.Lint(objects, strict))...)
			for _, d := range diags {
				fmt.Fprintf(std.Err, "%s: %s\n", d.Severity, d.Error())
			}
			if manifest.Failed(diags) {
				return usage(errors.New("there are faults"))
			}
			fmt.Fprintf(std.Out, "%d objects, no faults\n", len(objects))
			return nil
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "refuse what Argo's own check would: references to objects that are not in the files, too")
	return c
}
