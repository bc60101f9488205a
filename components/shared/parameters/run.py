"""Where a run keeps what it makes."""

from typing import ClassVar

from gradsift.components.shared.parameters.settings import Settings, form_field


class RunSettings(Settings):
    """Where a run keeps what it makes."""

    GROUP: ClassVar[str] = ""

    output_uri: str = form_field(
        "output_uri",
        "s3://gradsift/runs",
        description="run root, a local path or an s3:// address; what is finished there is used again.",
        min_length=1,
    )
