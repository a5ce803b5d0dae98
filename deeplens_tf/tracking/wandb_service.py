"""A run in Weights & Biases, by its package `wandb`, an extra.

Where the run is sent is W&B's own decision, by its environment variables and the user's login.
Without WANDB_MODE it is not sent but kept in the run's folder, for `wandb sync`.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from deeplens_tf.errors import RequestError
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.terminal import print_lines
from deeplens_tf.tracking.run_record import record, recorded
from deeplens_tf.tracking.service import Description, Ending, Values

OFFLINE = "offline"
EXIT_CODES: dict[Ending | None, int] = {None: 0, "finished": 0, "stopped": 143, "failed": 1}
MAX_WAIT_S = 60.0  # for the upload at the end


class WandbService:
    """A run in Weights & Biases; its id is stored before the run is created, so there is one only.

    Args:
        run: the run folder.
        project: of W&B.
        description: of the run.

    Raises:
        RequestError: W&B refuses the project's name, or there is no login.
    """

    def __init__(self, run: Run, project: str, description: Description) -> None:
        if _mode() == OFFLINE:  # the package would report its own errors online
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._run_folder, self._project = run, project
        known = recorded(run, "wandb")
        self._known = known if known.get("project") == project else {}
        if not self._known:
            self._remember(id=secrets.token_hex(4), epochs=0)
        try:
            self._run = _started(wandb, run, project, self._known["id"], description)
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            reason = " ".join(str(error).split())
            raise RequestError(f"logging.wandb: {project}: {reason}") from error
        _report(self._run, project)

    def epochs(self) -> int:
        """Return what W&B says of a resumed run; offline it cannot, so what is recorded."""
        return self._run.step if self._run.resumed else int(self._known["epochs"])

    def log(self, epoch: int, values: Values) -> None:
        """Add the values of an epoch under its number as the step."""
        self._run.log({"epoch": epoch, **values}, step=epoch)
        self._remember(epochs=epoch + 1)

    def log_results(self, values: Values) -> None:
        """Set values in the summary of the run."""
        self._run.summary.update(dict(values))

    def close(self, ending: Ending | None) -> None:
        """Finish the run; wait for the upload for at most a minute."""
        self._run.finish(exit_code=EXIT_CODES[ending])

    def _remember(self, **changes: Any) -> None:
        self._known = {"project": self._project, **self._known, **changes}
        record(self._run_folder, "wandb", self._known)


def _started(wandb: Any, run: Run, project: str, identifier: str, description: Description) -> Any:
    if _mode() == "online":
        wandb.login()  # it asks on a terminal
    settings = wandb.Settings(
        console="off",  # the output stays as it is
        silent=True,
        save_code=False,
        finish_timeout=MAX_WAIT_S,
        finish_timeout_raises=True,
    )
    return wandb.init(
        project=project,
        id=identifier,
        name=description.name,
        dir=None if "WANDB_DIR" in os.environ else str(run.folder),
        config={**description.config, "run": dict(description.facts)},
        allow_val_change=True,
        resume="allow",
        reinit="create_new",  # a run of the caller's own goes on
        mode=_mode(),
        settings=settings,
    )


def is_disabled() -> bool:
    """Return whether the user's environment turns W&B off."""
    return _mode() == "disabled"


def _mode() -> str:
    return os.environ.get("WANDB_MODE") or OFFLINE


def _report(started: Any, project: str) -> None:
    folder = Path(started.dir).parent
    where = f"offline; to send it: wandb sync {folder}" if started.offline else started.url
    print_lines(f"logging: Weights & Biases, project {project}, run {started.id}, {where}")
