"""A pipeline as a program: build for each platform, check what was built, say what came of it.

`tiphys render` shows the manifest that it makes, `tiphys run --executor host` runs it here.
"""

import tiphys
from tiphys import container, input, parameter, script, tag

image = "busybox:1.37"

build = script(
    image,
    f"""mkdir -p /tmp/out
echo "harbour {parameter("version")} for {input("platform")}" > /tmp/out/harbour
cksum < /tmp/out/harbour | cut -d ' ' -f 1 > /tmp/out/sum""",
    name="build",
    outputs={"parameters": {"sum": "/tmp/out/sum"}, "artifacts": {"program": "/tmp/out/harbour"}},
    retry=2,
)
check = container(
    image,
    ["grep", "harbour", "/tmp/in/harbour"],
    name="check",
    inputs={"artifacts": {"program": "/tmp/in/harbour"}},
)
say = container(image, ["echo", input("text")], name="say")
bye = container(image, ["echo", f"the pipeline has {tag('workflow.status')}"], name="bye")

ci = tiphys.workflow("harbour-", parameters={"version": "1.0"}, on_exit=bye)
built = [ci.task(f"build-{platform}", build, args={"platform": platform}) for platform in ("linux", "darwin")]
checked = [ci.task(f"check-{b.name}", check, args={"program": b.artifact("program")}) for b in built]
ci.task("report", say, args={"text": "sums: " + " ".join(b.output("sum") for b in built)}, after=checked)

tiphys.main(ci)
