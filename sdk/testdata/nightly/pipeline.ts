import { container, cronWorkflow, expression, steps, tag, volumeClaim } from "tiphys";

const work = volumeClaim("work", "1Gi", { storageClassName: "fast" });
const image = "alpine:3.22";

const clean = steps("clean");
clean.task("make", container({ image, command: ["touch", "/scratch/a"], mounts: [work.at("/scratch")] }));
clean.task("remove", container({ image, command: ["rm", "/scratch/a"], mounts: [work.at("/scratch", { subPath: "x" })], env: { RUN: tag("workflow.name") } }), {
  when: expression("workflow.status != 'Error'"),
});

export default cronWorkflow("nightly", ["0 3 * * *", "30 3 * * 0"], {
  timezone: "Europe/Vienna",
  concurrencyPolicy: "Forbid",
  successfulJobsHistoryLimit: 3,
  parallelism: 2,
  entrypoint: clean,
  templates: [{ name: "unused", suspend: {} }],
});
