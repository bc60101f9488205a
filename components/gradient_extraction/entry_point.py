"""Gradient extraction as a task of the pipeline: the run's outputs and settings in, an artifact out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.gradient_extraction import step
from gradsift.components.gradient_extraction.clusters.step import cut_sources
from gradsift.components.gradient_extraction.nodes import extract_on_nodes
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.records.source_clusters import SOURCE_CLUSTERS
from gradsift.components.shared.tracking.step_run import begin_step, record_output, run_step
from gradsift.components.shared.tracking.tracking import StepTracker


def extract_gradients(gradients: Any, inputs: str, settings: Mapping[str, Any]) -> str:
    """Write the projected gradients of every train row and of the target's validation rows at theta*.

    Where sources are cut by them, the cut data take the place of the data for the steps after this one.
    """
    config, root = GradientExtractionConfig(**settings["config"]), settings["output_uri"]
    outputs = read_outputs(inputs, root)
    data, model = outputs["data"], outputs["meta_model"]

    def extract(tracker: StepTracker) -> StepOutput:
        if config.pods > 1 and not step.is_finished(config, data, model, root):
            extract_on_nodes(config, inputs, root, tracker, settings["node_resources"])
            return step.seal_store(config, data, model, root)
        return step.extract_gradients(config, data, model, root, tracker)

    outputs["gradients"] = run_step(step.STEP, settings, config.model_dump(), extract, gradients)
    if config.cluster_sources:
        with begin_step(SOURCE_CLUSTERS, settings, {"cluster_sources": config.cluster_sources}) as tracker:
            cut = cut_sources(config, data, outputs["gradients"], root, tracker)
            record_output(cut[0], tracker)
        outputs |= {"whole_data": data, "data": cut[0], "gradients": cut[1]}
    return write_outputs(outputs, root)
