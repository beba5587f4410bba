package main

import tiphys "github.com/tiphys/tiphys/sdk/go"

const image = "busybox:1.37"

func main() {
	write := tiphys.Script(image,
		`mkdir -p /tmp/out && echo "dear `+tiphys.Input("to")+`" > /tmp/out/letter && echo '["Jason","Medea"]' > /tmp/crew`,
		tiphys.ContainerOptions{
			Name: "write",
			Outputs: tiphys.Outputs{
				Parameters: tiphys.Map{{"crew", "/tmp/crew"}},
				Artifacts:  tiphys.Map{{"letter", "/tmp/out/letter"}},
			},
		})
	read := tiphys.Container(image, tiphys.ContainerOptions{
		Command: []string{"cat", "/tmp/in/letter"},
		Inputs:  tiphys.Inputs{Artifacts: tiphys.Map{{"letter", "/tmp/in/letter"}}},
	})
	say := tiphys.Container(image, tiphys.ContainerOptions{Name: "say", Command: []string{"echo", tiphys.Input("text")}})
	text := func(value string) tiphys.Map { return tiphys.Map{{"text", value}} }

	post := tiphys.Steps("post", tiphys.TemplateOptions{Inputs: tiphys.Inputs{Artifacts: tiphys.Map{{"letter", tiphys.Raw{"optional": false}}}}})
	first := post.Task("read", read, tiphys.TaskOptions{Args: tiphys.Map{{"letter", tiphys.InputArtifact("letter")}}})
	post.Task("aside", say, tiphys.TaskOptions{Args: text("meanwhile"), Beside: first})
	last := post.Task("echo", say, tiphys.TaskOptions{Args: text("read: " + first.Result())})
	post.Output("said", last.Result())

	count := tiphys.Dag("count", tiphys.TemplateOptions{FailFast: new(bool)})
	one := count.Task("one", tiphys.Script(image, "print(40 + 2)", tiphys.ContainerOptions{Command: []string{"python3"}}))
	count.Output("answer", one.Result())

	letters := tiphys.NewWorkflow("letters", tiphys.WorkflowOptions{
		Parameters: tiphys.Map{{"to", "reader"}}, OnExit: tiphys.Script(image, "echo the end", tiphys.ContainerOptions{Name: "end"}), More: tiphys.Raw{"arguments": tiphys.Raw{"artifacts": []any{}}},
	})
	wrote := letters.Task("write", write, tiphys.TaskOptions{Args: tiphys.Map{{"to", tiphys.Parameter("to")}}})
	posted := letters.Task("post", post, tiphys.TaskOptions{Args: tiphys.Map{{"letter", wrote.Artifact("letter")}}})
	letters.Task("each", say, tiphys.TaskOptions{Args: text("ahoy " + tiphys.Item() + " /tasks.post.html"), WithParam: wrote.Output("crew")})
	letters.Task("both", say, tiphys.TaskOptions{
		Args: text(tiphys.Item("greeting") + " " + tiphys.Item("name")), After: tiphys.All(posted.Succeeded()),
		WithItems: []any{map[string]string{"greeting": "hail", "name": "Argo"}},
	})
	counted := letters.Task("count", count)
	letters.Task("answer", say, tiphys.TaskOptions{Args: text(counted.Output("answer") + ", " + posted.Output("said"))})
	letters.Task("never", say, tiphys.TaskOptions{Args: text("never said"), When: counted.Output("answer") + " == 41"})
	letters.Task("rest", tiphys.Suspend("1s"), tiphys.TaskOptions{After: tiphys.All(wrote)})

	tiphys.Main(letters)
}
