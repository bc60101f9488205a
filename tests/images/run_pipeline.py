"""Runs a compiled pipeline by one of KFP's local runners.

Called as `run_pipeline.py docker|subprocess YAML FOLDER ARGUMENTS`, where ARGUMENTS is a JSON text. Containers get
the variables that PASSED names, as they would from a cluster's secrets, no more rights than a restricted pod has,
and a root they cannot write to.
"""

import json
import os
import sys

from kfp import components, local

PASSED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_SECRET_ACCESS_KEY",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "KFP_RUN_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "OMP_NUM_THREADS",
)


def main(runner: str, compiled: str, folder: str, arguments: str) -> None:
    """Run it to its end."""
    if runner == "docker":
        chosen = local.DockerRunner(
            environment={name: os.environ[name] for name in PASSED},
            network_mode="host",
            read_only=True,
            tmpfs={"/tmp": "size=4g,mode=1777"},
            shm_size="1g",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
    else:
        chosen = local.SubprocessRunner(use_venv=False)
    local.init(chosen, pipeline_root=folder)
    components.load_component_from_file(compiled)(**json.loads(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
