"""A registered model in MLflow: its versions, found by their tags, and who holds its aliases."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.tracking.mlflow_connection import (
    LATER,
    QUIET,
    contact,
    environment,
    mlflow_errors,
    tracking_uri,
    within_limit,
)
from gradsift.components.shared.training.job import RESULT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
MODEL_DIGEST, DATA_DIGEST = "gradsift.model_digest", "gradsift.data_digest"
T = TypeVar("T")


@contextmanager
def open_registry(root_uri: str, name: str) -> Iterator["ModelRegistry"]:
    """Give the registered model `name` of the MLflow server that a run under this root is tracked on.

    Raises:
        InputError: there is no such server.
        TrackingError: the server does not answer, or refuses.
    """
    uri = tracking_uri(root_uri)
    if uri is None:
        raise InputError(
            f"The model {name!r} cannot be registered: MLFLOW_TRACKING_URI is not set, and {root_uri} is not local."
        )
    with mlflow_errors(uri, f"could not serve the registered model {name!r}"):
        contact(uri)
        with environment({"MLFLOW_TRACKING_URI": uri, **QUIET, **LATER}):
            from mlflow import MlflowClient

            yield ModelRegistry(uri, within_limit(uri, MlflowClient), name)


class ModelRegistry:
    """One registered model.

    Attributes:
        uri: the server's address.
        client: the client of its requests, which are sent through `call`.
        name: the model's name.
    """

    def __init__(self, uri: str, client: "MlflowClient", name: str) -> None:
        self.uri = uri
        self.client = client
        self.name = name

    def call(self, request: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Return what a request returns; a database that does not answer is given up, see `within_limit`."""
        return within_limit(self.uri, lambda: request(*arguments, **options))

    def holders(self) -> "dict[str, ModelVersion]":
        """Return the version behind each alias; nothing where the model is not registered yet."""
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.call(self.client.get_registered_model, self.name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {
            alias: self.call(self.client.get_model_version, self.name, str(number))
            for alias, number in aliases.items()
        }

    def ensure_version(
        self, model_id: str, mlflow_run: str, digest: str, tags: Mapping[str, str]
    ) -> "ModelVersion":
        """Return the version that holds the model of this digest; it is made where there is none.

        Args:
            model_id: the model as it was logged in MLflow.
            mlflow_run: id of the MLflow run that logged it.
            digest: the model's digest, by which a retry finds what an earlier try made.
            tags: further tags of a new version.
        """
        self._ensure_model()
        found = self.call(
            self.client.search_model_versions, f"name = '{self.name}' and tags.`{MODEL_DIGEST}` = '{digest}'"
        )
        if found:
            return found[0]
        return self.call(
            self.client.create_model_version,
            self.name,
            source=f"models:/{model_id}",
            run_id=mlflow_run,
            tags={**tags, MODEL_DIGEST: digest},
            model_id=model_id,
        )

    def set_alias(self, alias: str, version: "ModelVersion") -> None:
        """Give the alias to this version."""
        self.call(self.client.set_registered_model_alias, self.name, alias, str(version.version))

    def set_tags(self, version: "ModelVersion", tags: Mapping[str, str]) -> None:
        """Set tags of a version, one after the other."""
        for name, value in tags.items():
            self.call(self.client.set_model_version_tag, self.name, str(version.version), name, value)

    def download(self, version: "ModelVersion", folder: Path) -> Path:
        """Download a version's files and return the folder of the model as it was trained.

        Raises:
            InputError: the version has no such files.
        """
        from mlflow.artifacts import download_artifacts

        uri = f"models:/{self.name}/{version.version}"
        files = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        trained = sorted(files.glob(f"artifacts/*/{RESULT}"))
        if not trained:
            raise InputError(
                f"Version {version.version} of the registered model {self.name!r} has no files of a model of "
                "gradsift's: give the alias champion to another version, or take it away."
            )
        return trained[0].parent

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.call(self.client.create_registered_model, self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
