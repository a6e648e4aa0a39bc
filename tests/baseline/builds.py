"""The build farm that a person writes by hand in an afternoon: a Celery task that clones a repository and runs each
stage by the Docker SDK. scripts/bench --only celery measures it beside buildr."""

import os
import shutil
import subprocess
import tempfile

import celery
import docker

app = celery.Celery("builds", broker=os.environ["BASELINE_AMQP"], backend="rpc://")
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True)


@app.task
def build(repo, image, stages):
    client = docker.from_env()
    folder = tempfile.mkdtemp(prefix="baseline-")
    try:
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", repo, folder], check=True)
        for script in stages:
            container = client.containers.run(
                image,
                ["sh", "-ec", script],
                volumes={folder: {"bind": "/app", "mode": "rw"}},
                working_dir="/app",
                detach=True,
            )
            try:
                log = b"".join(container.logs(stream=True, follow=True))
                if container.wait()["StatusCode"] != 0:
                    return {"status": "failed", "log": log.decode(errors="replace")}
            finally:
                container.remove(force=True)
        return {"status": "passed"}
    finally:
        shutil.rmtree(folder)
        client.close()
