// A pipeline as a program: build for each platform, check what was built, say what came of it.
// `tiphys render` shows the manifest that it makes, `tiphys run --executor host` runs it here.
package main

import (
	"strings"

	tiphys "github.com/tiphys/tiphys/sdk/go"
)

const image = "busybox:1.37"

func main() {
	build := tiphys.Script(image, `mkdir -p /tmp/out
echo "harbour `+tiphys.Parameter("version")+` for `+tiphys.Input("platform")+`" > /tmp/out/harbour
cksum < /tmp/out/harbour | cut -d ' ' -f 1 > /tmp/out/sum`, tiphys.ContainerOptions{
		Name: "build",
		Outputs: tiphys.Outputs{
			Parameters: tiphys.Map{{"sum", "/tmp/out/sum"}},
			Artifacts:  tiphys.Map{{"program", "/tmp/out/harbour"}},
		},
		Retry: 2,
	})
	check := tiphys.Container(image, tiphys.ContainerOptions{
		Name:    "check",
		Command: []string{"grep", "harbour", "/tmp/in/harbour"},
		Inputs:  tiphys.Inputs{Artifacts: tiphys.Map{{"program", "/tmp/in/harbour"}}},
	})
	say := tiphys.Container(image, tiphys.ContainerOptions{Name: "say", Command: []string{"echo", tiphys.Input("text")}})
	bye := tiphys.Container(image, tiphys.ContainerOptions{
		Name: "bye", Command: []string{"echo", "the pipeline has " + tiphys.Tag("workflow.status")},
	})

	ci := tiphys.NewWorkflow("harbour-", tiphys.WorkflowOptions{Parameters: tiphys.Map{{"version", "1.0"}}, OnExit: bye})
	var sums []string
	var built []*tiphys.Task
	for _, platform := range []string{"linux", "darwin"} {
		b := ci.Task("build-"+platform, build, tiphys.TaskOptions{Args: tiphys.Map{{"platform", platform}}})
		built, sums = append(built, b), append(sums, b.Output("sum"))
	}
	var checked []tiphys.Dependency
	for _, b := range built {
		checked = append(checked, ci.Task("check-"+b.Name(), check, tiphys.TaskOptions{Args: tiphys.Map{{"program", b.Artifact("program")}}}))
	}
	ci.Task("report", say, tiphys.TaskOptions{Args: tiphys.Map{{"text", "sums: " + strings.Join(sums, " ")}}, After: checked})

	tiphys.Main(ci)
}
