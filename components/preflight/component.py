"""The KFP interface of the preflight checks."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def preflight(
    report: dsl.Output[dsl.Markdown],
    output_uri: str,
    prepare_suite: str,
    prepare_target: str,
    prepare_auxiliary_tasks: list,
    prepare_max_rows_per_task: int,
    prepare_seed: int,
    model_base_model: str,
    model_head: str,
    model_score_scale: float,
    model_max_length: int,
    model_train_embeddings: bool,
    model_prompt_form: str,
    model_lora_rank: int,
    model_lora_alpha: int,
    model_lora_dropout: float,
    model_lora_targets: str,
    train_batch_size: int,
    train_weight_decay: float,
    train_zero_stage: int,
    train_offload: str,
    train_gradient_checkpointing: str,
    train_precision: str,
    train_nodes: int,
    train_processes: int,
    train_checkpoint_steps: int,
    meta_epochs: float,
    meta_steps: int,
    meta_learning_rate: float,
    meta_sampling_exponent: float,
    meta_seed: int,
    extract_dimension: int,
    extract_blocks: int,
    extract_probes: int,
    extract_projection_width: int,
    extract_parameters: str,
    extract_tokens_per_batch: int,
    extract_shard_rows: int,
    extract_dtype: str,
    extract_hidden_states: bool,
    extract_base_weights: bool,
    extract_precision: str,
    extract_processes: int,
    extract_pods: int,
    extract_seed: int,
    calibrate_runs: int,
    calibrate_seeds: int,
    calibrate_seed: int,
    estimate_estimator: str,
    estimate_method: str,
    estimate_ridge: float,
    estimate_stopping: str,
    estimate_required_tasks: list,
    estimate_excluded_tasks: list,
    estimate_max_tasks: int,
    estimate_max_rows: int,
    estimate_random_subsets: int,
    estimate_subset_fraction: float,
    estimate_ensemble_top: int,
    estimate_ensemble_threshold: float,
    estimate_random_baseline_draws: int,
    estimate_seed: int,
    fine_tune_epochs: float,
    fine_tune_steps: int,
    fine_tune_learning_rate: float,
    fine_tune_sampling_exponent: float,
    fine_tune_seed: int,
    evaluate_seeds: int,
    evaluate_max_runs: int,
    evaluate_bootstrap: int,
    evaluate_seed: int,
    promote_model_name: str,
    promote_min_gain: float,
    resources_cpu: str,
    resources_memory: str,
    resources_gpus: int,
    resources_gpu_type: str,
    resources_small_cpu: str,
    resources_small_memory: str,
    platform_s3_secret: str,
    platform_mlflow_secret: str,
    platform_hub_secret: str,
    platform_settings: str,
    platform_node_selector: dict,
    platform_tolerations: list,
) -> str:
    """Check parameters, credentials, run root, suite, base model and MLflow before GPUs are spent.

    The other arguments are the pipeline's parameters, under their names.

    Args:
        report: what was found.

    Returns:
        A digest of the parameters that decide what comes out.
    """
    parameters = {name: value for name, value in locals().items() if name != "report"}

    from pathlib import Path

    from gradsift.components.preflight import step
    from gradsift.components.preflight.settings_digest import settings_digest

    step.preflight(parameters, Path(report.path))
    return settings_digest(parameters)
