import { container, dag, input, inputArtifact, item, parameter, script, steps, suspend, workflow } from "tiphys";

const image = "busybox:1.37";

const write = script(image, `mkdir -p /tmp/out && echo "dear ${input("to")}" > /tmp/out/letter && echo '["Jason","Medea"]' > /tmp/crew`, {
  name: "write",
  outputs: { parameters: { crew: "/tmp/crew" }, artifacts: { letter: "/tmp/out/letter" } },
});
const read = container({ image, command: ["cat", "/tmp/in/letter"], inputs: { artifacts: { letter: "/tmp/in/letter" } } });
const say = container({ image, name: "say", command: ["echo", input("text")] });

const post = steps("post", { inputs: { artifacts: { letter: { optional: false } } } });
const first = post.task("read", read, { args: { letter: inputArtifact("letter") } });
post.task("aside", say, { args: { text: "meanwhile" }, beside: first });
const last = post.task("echo", say, { args: { text: `read: ${first.result}` } });
post.output("said", last.result);

const count = dag("count", { failFast: false });
const one = count.task("one", script(image, "print(40 + 2)", { command: ["python3"] }));
count.output("answer", one.result);

const letters = workflow("letters", { parameters: { to: "reader" }, onExit: script(image, "echo the end", { name: "end" }), arguments: { artifacts: [] } });
const wrote = letters.task("write", write, { args: { to: parameter("to") } });
const posted = letters.task("post", post, { args: { letter: wrote.artifact("letter") } });
letters.task("each", say, { args: { text: `ahoy ${item()} /tasks.post.html` }, withParam: wrote.output("crew") });
letters.task("both", say, { args: { text: `${item("greeting")} ${item("name")}` }, withItems: [{ greeting: "hail", name: "Argo" }], after: posted.succeeded });
const counted = letters.task("count", count);
letters.task("answer", say, { args: { text: `${counted.output("answer")}, ${posted.output("said")}` } });
letters.task("never", say, { args: { text: "never said" }, when: `${counted.output("answer")} == 41` });
letters.task("rest", suspend("1s"), { after: [wrote] });

export default letters;
