"""The tuned model as MLflow serves it: texts in, labels and probabilities out.

MLflow keeps a copy of this file with the model and runs it on loading ("models from code"), so that no object
is pickled.
"""

import json
from pathlib import Path
from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class TunedClassifier(PythonModel):
    """Labels texts as the pipeline's target task does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model from the folder that was logged as the artifact `model`."""
        from gradsift.components.shared.encoder_classifier import EncoderClassifier

        folder = Path(context.artifacts["model"])
        self.target: str = json.loads((folder / "head.json").read_text())["target"]
        self.classifier = EncoderClassifier.load(folder)

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Return `label` and `probability` for the texts in the first column."""
        answers = self.classifier.predict(model_input.iloc[:, 0].tolist(), self.target)
        return pandas.DataFrame(answers, columns=["label", "probability"])


set_model(TunedClassifier())
