"""The double of KFP's driver: which pods a run has, in which order, with which inputs and resources."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from doubles.kfp_driver import resolve
from doubles.kfp_error import DriverError
from kfp import dsl

Compile = Callable[[Any], list[dict[str, Any]]]
GPU = "nvidia.com/gpu"


@dsl.component(base_image="image", install_kfp_package=False)
def step(text: str = "", number: int = 0, settings: dict = {}, items: list = []) -> dict:  # noqa: B006
    return {}


@dsl.component(base_image="image", install_kfp_package=False)
def plan() -> list:
    return []


@dsl.component(base_image="image", install_kfp_package=False)
def say() -> str:
    return ""


@dsl.component(base_image="image", install_kfp_package=False)
def clean_up(status: dsl.PipelineTaskFinalStatus) -> None:
    pass


@dsl.component(base_image="image", install_kfp_package=False)
def train(model: dsl.Output[dsl.Model]) -> None:
    pass


@dsl.component(base_image="image", install_kfp_package=False)
def use(model: dsl.Input[dsl.Model]) -> None:
    pass


def names(pods: list) -> list[str]:
    return [pod.name for pod in pods]


def test_a_number_of_accelerators_is_dropped_without_a_word(compiled: Compile) -> None:
    @dsl.pipeline(name="numbers")
    def pipeline(gpus: int = 2, kind: str = GPU) -> None:
        step().set_accelerator_type(kind).set_accelerator_limit(gpus)

    [pod] = resolve(compiled(pipeline), {"gpus": 4})
    assert pod.limits == {}


def test_a_text_limits_the_accelerators(compiled: Compile) -> None:
    @dsl.pipeline(name="texts")
    def pipeline(gpus: str = "2", kind: str = GPU) -> None:
        step().set_accelerator_type(kind).set_accelerator_limit(gpus)

    documents = compiled(pipeline)
    assert resolve(documents)[0].limits == {GPU: "2"}
    assert resolve(documents, {"gpus": "0", "kind": "amd.com/gpu"})[0].limits == {"amd.com/gpu": "0"}
    assert resolve(documents, {"gpus": ""})[0].limits == {}


def test_resources_are_constants_and_texts(compiled: Compile) -> None:
    @dsl.pipeline(name="resources")
    def pipeline(memory: str = "16Gi") -> None:
        task = step().set_accelerator_type(GPU).set_accelerator_limit(1)
        task.set_cpu_request("500m").set_cpu_limit("2").set_memory_request(memory).set_memory_limit(memory)

    [pod] = resolve(compiled(pipeline), {"memory": "32Gi"})
    assert pod.requests == {"cpu": "500m", "memory": "32Gi"}
    assert pod.limits == {"cpu": "2", "memory": "32Gi", GPU: "1"}


def test_a_number_of_cpus_fails_the_task(compiled: Compile) -> None:
    @dsl.pipeline(name="cpus")
    def pipeline(cpu: int = 2) -> None:
        step().set_cpu_request(cpu)

    with pytest.raises(DriverError, match=r"Task `step, resourceCpuRequest`: quantities must match .* ''"):
        resolve(compiled(pipeline))


def test_parameters_have_defaults_and_are_checked(compiled: Compile) -> None:
    @dsl.pipeline(name="parameters")
    def pipeline(text: str, number: int = 3, settings: dict = {"a": 1}) -> None:  # noqa: B006
        step(text=text, number=number, settings=settings)

    documents = compiled(pipeline)
    assert resolve(documents, {"text": "a"})[0].inputs == {"text": "a", "number": 3, "settings": {"a": 1}}
    assert resolve(documents, {"text": "a", "number": 4})[0].inputs["number"] == 4
    assert '"number":3,' in resolve(documents, {"text": "a"})[0].container["command"][8]
    for given, message in [
        ({}, "parameter `text` is missing"),
        ({"text": 1}, "Parameter `text`: a STRING is expected, not 1"),
        ({"text": "a", "number": "4"}, "a NUMBER_INTEGER is expected, not '4'"),
        ({"text": "a", "number": True}, "a NUMBER_INTEGER is expected, not True"),
        ({"text": "a", "numbers": 1}, "no parameter `numbers`"),
    ]:
        with pytest.raises(DriverError, match=message):
            resolve(documents, given)


def test_an_optional_parameter_without_a_value_is_left_to_the_component(compiled: Compile) -> None:
    @dsl.pipeline(name="optional")
    def pipeline(text: str = None) -> None:  # noqa: RUF013
        step(text=text, number=1)

    documents = compiled(pipeline)
    assert resolve(documents)[0].inputs == {"number": 1}
    assert resolve(documents, {"text": "a"})[0].inputs == {"text": "a", "number": 1}


def test_constants_stay_as_they_are_but_for_the_runs_placeholders(compiled: Compile) -> None:
    @dsl.pipeline(name="constants")
    def pipeline(text: str = "a") -> None:
        step(text=f"{text}-b", settings={"text": text})
        step(text=dsl.PIPELINE_TASK_NAME_PLACEHOLDER).after()

    first, second = resolve(compiled(pipeline))
    channel = "{{$.inputs.parameters['pipelinechannel--text']}}"
    assert first.inputs["settings"] == {"text": channel}
    assert first.inputs["text"] == f"{channel}-b"
    assert first.inputs["pipelinechannel--text"] == "a"
    assert second.inputs["text"] == "step-2"


def test_outputs_of_any_type_are_inputs_of_others(compiled: Compile) -> None:
    @dsl.pipeline(name="outputs")
    def pipeline() -> None:
        step(settings=step(text="a").output, items=plan().output)

    returned = {"step": {"Output": {"gpus": "2", "n": 1}}, "plan": {"Output": ["a", 1]}}
    pods = resolve(compiled(pipeline), outputs=returned)
    assert pods[-1].inputs == {"settings": {"gpus": "2", "n": 1}, "items": ["a", 1]}


def test_outputs_are_checked_when_they_are_given_and_read(compiled: Compile) -> None:
    @dsl.pipeline(name="outputs")
    def pipeline() -> None:
        step(items=plan().output)

    documents = compiled(pipeline)
    for given, message in [
        ({"Output": "a"}, "Task `plan`, output `Output`: a LIST is expected, not 'a'"),
        ({"output": []}, "Task `plan` has no output parameter `output`"),
        ({}, "reads the output `Output` of `plan`, which was not given"),
    ]:
        with pytest.raises(DriverError, match=message):
            resolve(documents, outputs={"plan": given})


def test_tasks_follow_those_they_wait_for(compiled: Compile) -> None:
    @dsl.pipeline(name="order")
    def pipeline() -> None:
        last = use(model=train().outputs["model"])
        plan().after(last)

    pods = resolve(compiled(pipeline))
    assert names(pods) == ["train", "use", "plan"]
    [model] = pods[1].executor_input["inputs"]["artifacts"]["model"]["artifacts"]
    assert model == pods[0].executor_input["outputs"]["artifacts"]["model"]["artifacts"][0]
    assert model["type"]["schemaTitle"] == "system.Model"


def test_one_branch_of_a_condition_runs(compiled: Compile) -> None:
    @dsl.pipeline(name="branches")
    def pipeline(number: int = 1, flag: bool = True) -> None:
        with dsl.If(number > 2):
            step(text="if")
        with dsl.Elif(flag == True):  # noqa: E712
            step(text="elif")
        with dsl.Else():
            step(text="else")

    documents = compiled(pipeline)
    for given, branch in [({"number": 3}, "if"), ({}, "elif"), ({"flag": False}, "else")]:
        [pod] = resolve(documents, given)
        assert pod.inputs["text"] == branch


def test_what_waits_for_a_skipped_task_is_skipped(compiled: Compile) -> None:
    @dsl.pipeline(name="skipped")
    def pipeline() -> None:
        with dsl.If(say().output == "yes"):
            step(text="inside")
        step(text="after")

    documents = compiled(pipeline)
    # kfp compiles no such dependency; Argo knows it.
    documents[0]["root"]["dag"]["tasks"]["step-2"]["dependentTasks"] = ["condition-1"]
    assert names(resolve(documents, outputs={"say": {"Output": "no"}})) == ["say"]
    pods = resolve(documents, outputs={"say": {"Output": "yes"}})
    assert [pod.path for pod in pods] == [("say",), ("condition-1", "step"), ("step-2",)]


def test_one_of_several_outputs_is_read(compiled: Compile) -> None:
    @dsl.pipeline(name="one-of")
    def pipeline(flag: bool = True) -> None:
        with dsl.If(flag == True):  # noqa: E712
            first = say()
        with dsl.Else():
            second = say()
        step(text=dsl.OneOf(first.output, second.output))

    documents = compiled(pipeline)
    returned = {"say": {"Output": "first"}, "say-2": {"Output": "second"}}
    assert resolve(documents, outputs=returned)[-1].inputs["text"] == "first"
    assert resolve(documents, {"flag": False}, returned)[-1].inputs["text"] == "second"


def test_the_exit_task_runs_last_and_knows_how_it_ended(compiled: Compile) -> None:
    @dsl.pipeline(name="exit")
    def pipeline() -> None:
        with dsl.ExitHandler(clean_up()):
            step()

    pods = resolve(compiled(pipeline))
    assert [pod.path for pod in pods] == [("exit-handler-1", "step"), ("clean-up",)]
    status = pods[1].inputs["status"]
    assert (status["state"], status["pipelineTaskName"]) == ("COMPLETE", "exit-handler-1")


def test_nested_pipelines_have_inputs_and_outputs_of_their_own(compiled: Compile) -> None:
    @dsl.pipeline(name="inner")
    def inner(text: str, gpus: str = "1") -> dict:
        task = step(text=text).set_accelerator_type(GPU).set_accelerator_limit(gpus)
        return task.output

    @dsl.pipeline(name="outer")
    def outer(text: str = "a") -> None:
        step(settings=inner(text=text).output)

    pods = resolve(compiled(outer), outputs={"step": {"Output": {"b": 1}}})
    assert [pod.path for pod in pods] == [("inner", "step"), ("step",)]
    assert pods[0].inputs["text"] == "a"
    assert pods[0].limits == {GPU: "1"}
    assert pods[1].inputs["settings"] == {"b": 1}


def test_a_loop_has_pods_for_each_item(compiled: Compile) -> None:
    @dsl.pipeline(name="loops")
    def pipeline(words: list = ["a", "b"]) -> None:  # noqa: B006
        with dsl.ParallelFor(words) as word:
            step(text=word)
        with dsl.ParallelFor(plan().output) as item:
            say()
            step(text=item).after()

    pods = resolve(compiled(pipeline), {"words": ["c"]}, {"plan": {"Output": ["d", "e"]}})
    assert {"/".join(pod.path): pod.inputs["text"] for pod in pods if pod.name.startswith("step")} == {
        "for-loop-1/0/step": "c",
        "for-loop-2/0/step-2": "d",
        "for-loop-2/1/step-2": "e",
    }
    assert names(pods).count("say") == 2


def test_a_text_is_made_of_what_a_loop_finds_in_a_list(compiled: Compile) -> None:
    @dsl.pipeline(name="items")
    def pipeline(words: list = []) -> None:  # noqa: B006
        with dsl.ParallelFor(words) as word:
            step(text=word)

    pods = resolve(compiled(pipeline), {"words": [1, {"a": True}, "b"]})
    assert [pod.inputs["text"] for pod in pods] == ["1", '{"a":true}', "b"]


def test_a_loop_over_constants_takes_them_apart_and_collects(compiled: Compile) -> None:
    @dsl.pipeline(name="constants")
    def pipeline() -> None:
        with dsl.ParallelFor([{"word": "a", "label": "x"}, {"word": "b", "label": "y"}]) as item:
            inside = step(text=item.word, settings=item)
        step(items=dsl.Collected(inside.output))

    def returned(pod: Any) -> dict[str, Any]:
        return {"Output": {"of": pod.inputs["text"]}} if len(pod.path) > 1 else {}

    first, second, last = resolve(compiled(pipeline), outputs=returned)
    assert first.inputs == {"text": "a", "settings": {"word": "a", "label": "x"}}
    assert second.inputs == {"text": "b", "settings": {"word": "b", "label": "y"}}
    assert last.inputs["items"] == [{"of": "a"}, {"of": "b"}]


def test_an_empty_loop_succeeds_and_gives_nothing(compiled: Compile) -> None:
    @dsl.pipeline(name="empty")
    def waits() -> None:
        with dsl.ParallelFor(plan().output) as item:
            inside = step(text=item)
        say().after(inside)

    @dsl.pipeline(name="empty")
    def collects() -> None:
        with dsl.ParallelFor(plan().output) as item:
            inside = step(text=item)
        step(items=dsl.Collected(inside.output))

    returned = {"plan": {"Output": []}}
    assert names(resolve(compiled(waits), outputs=returned)) == ["plan", "say"]
    with pytest.raises(DriverError, match="of `for-loop-1`, which was not given"):
        resolve(compiled(collects), outputs=returned)


def test_the_launcher_gets_the_inputs_and_the_component_as_arguments(compiled: Compile) -> None:
    @dsl.pipeline(name="launcher")
    def pipeline(text: str = "a") -> None:
        step(text=text).set_container_image(text).set_env_variable("HOME", "/home")

    [pod] = resolve(compiled(pipeline))
    command = pod.container["command"]
    given = dict(zip(command[1:-1:2], command[2:-1:2], strict=True))
    assert json.loads(given["--executor_input"]) == pod.executor_input
    assert json.loads(given["--component_spec"])["executorLabel"] == "exec-step"
    assert command[-1] == "--"
    assert pod.container["args"][-2:] == ["--function_to_execute", "step"]
    assert "def step(" in pod.container["args"][3]
    assert pod.container["image"] == "a"
    assert pod.environment == {"HOME": {"name": "HOME", "value": "/home"}}


def test_what_is_left_out_is_refused(compiled: Compile) -> None:
    @dsl.pipeline(name="importer")
    def pipeline() -> None:
        dsl.importer(artifact_uri="s3://bucket/model", artifact_class=dsl.Model)

    with pytest.raises(DriverError, match="importers and volume tasks are not part of the double"):
        resolve(compiled(pipeline))
