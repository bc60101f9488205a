"""The KFP interface of gradient extraction."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def extract_gradients(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    gradients: dsl.Output[dsl.Dataset],
    output_uri: str,
    dimension: int = 400,
    blocks: int = 4,
    probes: int = 1,
    projection_width: int = 8192,
    tokens_per_batch: int = 2048,
    shard_rows: int = 4096,
    precision: str = "auto",
    seed: int = 0,
) -> None:
    """Write the projected gradient of every train row and of the target's validation rows at theta*.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        gradients: pointer to the gradient store.
        output_uri: run root, a local path or an s3:// address.
        dimension: d, numbers a projected gradient; a multiple of `blocks`.
        blocks: independent projection blocks; their spread is the projection's standard error.
        probes: R, gradients under labels sampled from the model, an example.
        projection_width: m, width of the folded gradient before the dense product; at least `dimension`.
        tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the result.
        shard_rows: rows of a shard; a killed extraction repeats at most one.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        seed: decides the projection and the sampled labels.
    """
    from dataclasses import asdict

    from gradsift.components.gradient_extraction import step
    from gradsift.components.gradient_extraction.config import GradientExtractionConfig
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step

    config = GradientExtractionConfig(
        dimension=dimension,
        blocks=blocks,
        probes=probes,
        projection_width=projection_width,
        tokens_per_batch=tokens_per_batch,
        shard_rows=shard_rows,
        precision=precision,
        seed=seed,
    )
    run_step(
        step.STEP,
        output_uri,
        asdict(config),
        lambda tracker: step.extract_gradients(
            config, read_pointer(data), read_pointer(model), output_uri, tracker
        ),
        gradients,
    )
