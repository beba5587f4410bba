import tiphys
from tiphys import container, input, item, parameter, script

image = "busybox:1.37"

write = script(
    image, f"""mkdir -p /tmp/out && echo "dear {input('to')}" > /tmp/out/letter && echo '["Jason","Medea"]' > /tmp/crew""",
    name="write",
    outputs={"parameters": {"crew": "/tmp/crew"}, "artifacts": {"letter": "/tmp/out/letter"}},
)
read = container(image, ["cat", "/tmp/in/letter"], inputs={"artifacts": {"letter": "/tmp/in/letter"}})
say = container(image, ["echo", input("text")], name="say")

post = tiphys.steps("post", inputs={"artifacts": {"letter": {"optional": False}}})
first = post.task("read", read, args={"letter": tiphys.input_artifact("letter")})
post.task("aside", say, args={"text": "meanwhile"}, beside=first)
last = post.task("echo", say, args={"text": f"read: {first.result}"})
post.output("said", last.result)

count = tiphys.dag("count", fail_fast=False)
one = count.task("one", script(image, "print(40 + 2)", ["python3"]))
count.output("answer", one.result)

letters = tiphys.workflow("letters", parameters={"to": "reader"}, on_exit=script(image, "echo the end", name="end"), arguments={"artifacts": []})
wrote = letters.task("write", write, args={"to": parameter("to")})
posted = letters.task("post", post, args={"letter": wrote.artifact("letter")})
letters.task("each", say, args={"text": f"ahoy {item()} /tasks.post.html"}, with_param=wrote.output("crew"))
letters.task("both", say, args={"text": f"{item('greeting')} {item('name')}"}, with_items=[{"greeting": "hail", "name": "Argo"}], after=posted.succeeded)
counted = letters.task("count", count)
letters.task("answer", say, args={"text": f"{counted.output('answer')}, {posted.output('said')}"})
letters.task("never", say, args={"text": "never said"}, when=f"{counted.output('answer')} == 41")
letters.task("rest", tiphys.suspend("1s"), after=[wrote])

tiphys.main(letters)
