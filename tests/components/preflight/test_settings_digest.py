"""Which parameters decide what a run makes."""

from gradsift.components.preflight.settings_digest import settings_digest
from gradsift.pipelines.parameters import defaults


def test_the_digest_of_settings_leaves_out_what_does_not_decide_the_result() -> None:
    known = defaults()
    digest = settings_digest(known)
    for name, value in known.items():
        changed = settings_digest({**known, name: f"{value}x"})
        same = name.startswith(("output_uri", "prepare_", "resources_", "platform_", "promote_"))
        assert (changed == digest) is (same or name in {"extract_processes", "extract_pods"}), name
