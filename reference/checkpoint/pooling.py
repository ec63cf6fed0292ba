"""How a model makes one vector of a text: `1_Pooling/config.json` of sentence-transformers, the mean by default."""

from pathlib import Path

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

SETTINGS = "1_Pooling/config.json"
MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


def load_pooling(directory: Path) -> str:
    """The pooling of a model directory. ModelError if it is neither mean nor last."""
    path = directory / SETTINGS
    if not path.exists():
        return "mean"
    settings = read_json(path)
    wanted = [mode for mode in settings if mode.startswith("pooling_mode_") and settings[mode] is True]
    if len(wanted) != 1 or wanted[0] not in MODES:
        raise ModelError(f"{path} must ask for one of {', '.join(MODES)}, not {', '.join(wanted) or 'nothing'}")
    return MODES[wanted[0]]
