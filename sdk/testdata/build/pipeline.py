import tiphys
from tiphys import container, input, parameter, script

cache = tiphys.volume("cache", {"hostPath": {"path": "/var/cache/go"}})

build = script(
    "golang:1.26", "go build -o /tmp/app . && sha256sum /tmp/app > /tmp/digest",
    env={"CGO_ENABLED": 0, "TOKEN": tiphys.secret("forge", "token"), "LEVEL": tiphys.config_map("settings", "level"), "VERBOSE": True},
    mounts=[cache.at("/var/cache/build", readOnly=False)],
    outputs={"parameters": {"digest": "/tmp/digest"}, "artifacts": {"app": "/tmp/app"}},
    retry={"limit": 2, "retryPolicy": "Always", "backoff": {"duration": "5s", "factor": 2}},
    labels={"room": "engine"},
    activeDeadlineSeconds=600,
    imagePullPolicy="IfNotPresent",
)
check = container(
    "alpine:3.22", ["test", "-s", "/in/app"],
    inputs={"artifacts": {"app": "/in/app"}, "parameters": {"suite": None}},
    working_dir="/in",
    retry=1,
)
say = container("alpine:3.22", ["echo", input("text"), input("n")])

bye = script("alpine:3.22", "echo over", name="bye")

ci = tiphys.workflow(
    "build-",
    namespace="team",
    labels={"app": "harbour"},
    annotations={"tiphys.dev/executor": "host"},
    parameters={"version": "1.0", "branch": None, "level": {"value": "info", "enum": ["info", "debug"]}},
    on_exit=bye,
    serviceAccountName="builder",
)
built = ci.task("build", build)
suites = [ci.task(f"check-{suite}", check, args={"app": built.artifact("app"), "suite": suite}) for suite in ("unit", "browser")]
scanned = ci.task("scan", tiphys.template_ref("scanners", "image"), args={"digest": built.output("digest")}, after=suites)
ci.task(
    "report", say,
    args={"text": f"{built.output('digest')} of {parameter('version')} <&>", "n": 3},
    after=[scanned.failed],
    when=f"{parameter('branch')} == main",
    on_exit=bye,
    hooks={"failed": {"expression": "tasks.report.status == 'Failed'", "template": "bye"}},
)

tiphys.main(ci)
