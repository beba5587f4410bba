package main

import tiphys "github.com/tiphys/tiphys/sdk/go"

func main() {
	work := tiphys.VolumeClaim("work", "1Gi", tiphys.Raw{"storageClassName": "fast"})
	image := "alpine:3.22"

	clean := tiphys.Steps("clean")
	clean.Task("make", tiphys.Container(image, tiphys.ContainerOptions{
		Command: []string{"touch", "/scratch/a"}, Mounts: []tiphys.Mount{work.At("/scratch")},
	}))
	clean.Task("remove", tiphys.Container(image, tiphys.ContainerOptions{
		Command: []string{"rm", "/scratch/a"}, Mounts: []tiphys.Mount{work.At("/scratch", tiphys.Raw{"subPath": "x"})},
		Env: tiphys.Map{{"RUN", tiphys.Tag("workflow.name")}},
	}), tiphys.TaskOptions{When: tiphys.Expression("workflow.status != 'Error'")})

	tiphys.Main(tiphys.NewCronWorkflow("nightly", "0 3 * * *\n30 3 * * 0", tiphys.WorkflowOptions{
		Entrypoint: clean,
		Templates:  []*tiphys.Template{tiphys.Object(tiphys.Raw{"name": "unused", "suspend": tiphys.Raw{}})},
		More: tiphys.Raw{
			"timezone": "Europe/Vienna", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 3, "parallelism": 2,
		},
	}))
}
