import tiphys
from tiphys import container

work = tiphys.volume_claim("work", "1Gi", storageClassName="fast")
image = "alpine:3.22"

clean = tiphys.steps("clean")
clean.task("make", container(image, ["touch", "/scratch/a"], mounts=[work.at("/scratch")]))
clean.task(
    "remove", container(image, ["rm", "/scratch/a"], mounts=[work.at("/scratch", subPath="x")], env={"RUN": tiphys.tag("workflow.name")}),
    when=tiphys.expression("workflow.status != 'Error'"),
)

nightly = tiphys.cron_workflow(
    "nightly", ["0 3 * * *", "30 3 * * 0"],
    timezone="Europe/Vienna",
    concurrencyPolicy="Forbid",
    successfulJobsHistoryLimit=3,
    parallelism=2,
    entrypoint=clean,
    templates=[{"name": "unused", "suspend": {}}],
)

tiphys.main(nightly)
