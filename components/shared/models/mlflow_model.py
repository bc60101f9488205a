"""The tuned model as MLflow serves it: texts in; labels and probabilities, or written answers, out.

MLflow keeps a copy of this file with the model and runs it on loading ("models from code"), so that no object
is pickled.
"""

from pathlib import Path
from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class TunedModel(PythonModel):
    """Answers texts as the pipeline's target task does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model from the folder that was logged as the artifact `model`."""
        from gradsift.components.shared.models.model_loading import open_model

        self.model: Any = open_model(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Return an encoder's `label` and `probability`, or a language model's `answer`, for the first column."""
        from gradsift.components.shared.models.encoder_classifier import EncoderClassifier

        texts = model_input.iloc[:, 0].tolist()
        if isinstance(self.model, EncoderClassifier):
            answers = self.model.predict(texts, self.model.head.target)
            return pandas.DataFrame(answers, columns=["label", "probability"])
        return pandas.DataFrame({"answer": self.model.write(texts)})


set_model(TunedModel())
