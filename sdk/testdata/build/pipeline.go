package main

import tiphys "github.com/tiphys/tiphys/sdk/go"

func main() {
	cache := tiphys.NewVolume("cache", tiphys.Raw{"hostPath": tiphys.Raw{"path": "/var/cache/go"}})

	build := tiphys.Script("golang:1.26", "go build -o /tmp/app . && sha256sum /tmp/app > /tmp/digest", tiphys.ContainerOptions{
		Env: tiphys.Map{
			{"CGO_ENABLED", 0}, {"TOKEN", tiphys.Secret("forge", "token")}, {"LEVEL", tiphys.ConfigMap("settings", "level")}, {"VERBOSE", true},
		},
		Mounts: []tiphys.Mount{cache.At("/var/cache/build", tiphys.Raw{"readOnly": false})},
		Outputs: tiphys.Outputs{
			Parameters: tiphys.Map{{"digest", "/tmp/digest"}},
			Artifacts:  tiphys.Map{{"app", "/tmp/app"}},
		},
		Retry:  tiphys.Raw{"limit": 2, "retryPolicy": "Always", "backoff": tiphys.Raw{"duration": "5s", "factor": 2}},
		Labels: map[string]string{"room": "engine"},
		More:   tiphys.Raw{"activeDeadlineSeconds": 600, "imagePullPolicy": "IfNotPresent"},
	})
	check := tiphys.Container("alpine:3.22", tiphys.ContainerOptions{
		Command: []string{"test", "-s", "/in/app"},
		Inputs: tiphys.Inputs{
			Artifacts:  tiphys.Map{{"app", "/in/app"}},
			Parameters: tiphys.Map{{"suite", nil}},
		},
		WorkingDir: "/in",
		Retry:      1,
	})
	say := tiphys.Container("alpine:3.22", tiphys.ContainerOptions{Command: []string{"echo", tiphys.Input("text"), tiphys.Input("n")}})

	bye := tiphys.Script("alpine:3.22", "echo over", tiphys.ContainerOptions{Name: "bye"})

	ci := tiphys.NewWorkflow("build-", tiphys.WorkflowOptions{
		Namespace:   "team",
		Labels:      map[string]string{"app": "harbour"},
		Annotations: map[string]string{"tiphys.dev/executor": "host"},
		Parameters: tiphys.Map{
			{"version", "1.0"}, {"branch", nil}, {"level", tiphys.Raw{"value": "info", "enum": []string{"info", "debug"}}},
		},
		OnExit: bye,
		More:   tiphys.Raw{"serviceAccountName": "builder"},
	})
	built := ci.Task("build", build)
	var suites []tiphys.Dependency
	for _, suite := range []string{"unit", "browser"} {
		suites = append(suites, ci.Task("check-"+suite, check, tiphys.TaskOptions{Args: tiphys.Map{{"app", built.Artifact("app")}, {"suite", suite}}}))
	}
	scanned := ci.Task("scan", tiphys.NewTemplateRef("scanners", "image"), tiphys.TaskOptions{
		Args: tiphys.Map{{"digest", built.Output("digest")}}, After: suites,
	})
	ci.Task("report", say, tiphys.TaskOptions{
		Args:   tiphys.Map{{"text", built.Output("digest") + " of " + tiphys.Parameter("version") + " <&>"}, {"n", 3}},
		After:  tiphys.All(scanned.Failed()),
		When:   tiphys.Parameter("branch") + " == main",
		OnExit: bye,
		More:   tiphys.Raw{"hooks": tiphys.Raw{"failed": tiphys.Raw{"expression": "tasks.report.status == 'Failed'", "template": "bye"}}},
	})

	tiphys.Main(ci)
}
