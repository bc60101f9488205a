"""The KFP interface of gradient extraction: its parts are planned, written in a pod each, and sealed to a store."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def plan_extraction(
    dimension: int = 400,
    blocks: int = 4,
    probes: int = 1,
    projection_width: int = 8192,
    parameters: str = "shared",
    tokens_per_batch: int = 2048,
    shard_rows: int = 4096,
    dtype: str = "float16",
    hidden_states: bool = False,
    base_weights: bool = False,
    precision: str = "auto",
    processes: int = 0,
    pods: int = 1,
    seed: int = 0,
) -> list:
    """Divide the extraction into parts, one a pod.

    Args:
        dimension: d, numbers a projected gradient; a multiple of `blocks`.
        blocks: independent projection blocks; their spread is the projection's standard error.
        probes: R, gradients under labels sampled from the model, an example.
        projection_width: m, width of the folded gradient before the dense product; at least `dimension`.
        parameters: whose gradient it is: `shared` takes the trained parameters that all tasks share, `trained` a
            trained head's too.
        tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the result. Halved when
            a GPU's memory does not suffice.
        shard_rows: rows of a shard, 4096 to 16384 for large data; a killed process repeats at most one.
        dtype: type of the stored gradients, `float16` (with a scale) or `float32`.
        hidden_states: store each row's mean-pooled last hidden state too, for comparing rows by similarity.
        base_weights: write a second store at the pretrained weights, for calibration runs to choose from; twice
            the time.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        processes: number of processes of a pod that compute shards; 0 is one a GPU, and one on a machine without.
        pods: number of pods that share the work, each with the resources of a training step.
        seed: decides the projection and the sampled labels.

    Returns:
        The planned parts, a JSON text for each.
    """
    from gradsift.components.gradient_extraction.config import GradientExtractionConfig
    from gradsift.components.gradient_extraction.parts import plan_parts

    config = GradientExtractionConfig(
        dimension=dimension,
        blocks=blocks,
        probes=probes,
        projection_width=projection_width,
        parameters=parameters,
        tokens_per_batch=tokens_per_batch,
        shard_rows=shard_rows,
        dtype=dtype,
        hidden_states=hidden_states,
        precision=precision,
        processes=processes,
        pods=pods,
        seed=seed,
    )
    return [each.model_dump_json() for each in plan_parts(config, base_weights)]


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def extract_part(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    output_uri: str,
    planned: str,
) -> None:
    """Write the projected gradients of one part's rows at theta*.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        output_uri: run root, a local path or an s3:// address.
        planned: one of the texts that `plan_extraction` returns.
    """
    from gradsift.components.gradient_extraction import step
    from gradsift.components.gradient_extraction.parts import PlannedPart
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import open_step

    plan = PlannedPart.model_validate_json(planned)
    inputs = read_pointer(data), read_pointer(model)
    with open_step(f"{step.STEP}-{plan.part.number}", output_uri, {}) as tracker:
        if step.extract_part(plan.config, *inputs, plan.base_weights, plan.part, output_uri, tracker):
            tracker.reused()


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def seal_gradients(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    gradients: dsl.Output[dsl.Dataset],
    output_uri: str,
    planned: list,
) -> None:
    """Make the finished parts one gradient store, of every train row and of the target's validation rows.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        gradients: pointer to the gradient store.
        output_uri: run root, a local path or an s3:// address.
        planned: the texts that `plan_extraction` returned, all with the same settings.
    """
    from dataclasses import asdict

    from gradsift.components.gradient_extraction import step
    from gradsift.components.gradient_extraction.parts import PlannedPart
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step

    plan = PlannedPart.model_validate_json(planned[0])
    run_step(
        step.STEP,
        output_uri,
        asdict(plan.config),
        lambda _: step.seal_store(
            plan.config, read_pointer(data), read_pointer(model), plan.base_weights, output_uri
        ),
        gradients,
    )
