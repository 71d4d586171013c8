"""One promotion at a time: on a machine by a file, and among hosts by a record in the registry that they share.

MLflow has no locks, but a registered model is made by one caller alone. While somebody works on model M's aliases a
registered model ``M.lease`` is there, with a heartbeat in its tag; one whose heart stopped is taken over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.lease import file_lease, shared_lease
from infra.settings import Settings
from infra.tracking import registry_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RegisteredLease", "registry_lock"]

HOLDER = "deepmill.lease"
"""Tag that tells a lease from a model, and who holds it."""
TAKEN = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")


@dataclass(frozen=True)
class RegisteredLease:
    """A lease as a registered model (`infra.lease.Place`)."""

    client: MlflowClient
    name: str

    def create(self, body: bytes) -> bool:
        """See `infra.lease.Place`."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(
                self.name, tags={HOLDER: body.decode()}, description="Somebody moves an alias; gone in a moment."
            )
        except MlflowException as error:
            if error.error_code in TAKEN:
                return False
            raise
        return True

    def read(self) -> bytes | None:
        """See `infra.lease.Place`."""
        from mlflow.exceptions import MlflowException

        seen: int | None = None
        while True:
            try:
                model = self.client.get_registered_model(self.name)
            except MlflowException as error:
                if error.error_code in TAKEN:
                    return None
                raise
            held = model.tags.get(HOLDER)
            if held is not None:
                return str(held).encode()
            # MLflow reads a model and then its tags: one let go in between has none. The next read sees neither, or a
            # younger lease; only somebody's model is still the same.
            if model.creation_timestamp == seen:
                raise UserError(f"{self.name}: a registered model of this name is in the way of promotions; rename it")
            seen = model.creation_timestamp

    def write(self, body: bytes) -> None:
        """See `infra.lease.Place`."""
        self.client.set_registered_model_tag(self.name, HOLDER, body.decode())

    def remove(self) -> None:
        """See `infra.lease.Place`."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.delete_registered_model(self.name)
        except MlflowException as error:
            if error.error_code not in TAKEN:
                raise


@contextlib.contextmanager
def registry_lock(settings: Settings, name: str) -> Iterator[Callable[[], None]]:
    """Hold the aliases of model `name`.

    Yields:
        To be called before each move: UserError when the lock was lost to another host meanwhile.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(file_lease(settings.local_root / ".leases" / f"registry-{name}", lambda holder: None))
        if settings.has_own_registry:
            yield lambda: None
            return
        place = RegisteredLease(registry_client(settings), f"{name}.lease")
        is_mine = held.enter_context(shared_lease(place, lambda holder: None))

        def check() -> None:
            if not is_mine():
                raise UserError(f"{name}: another host took over while this process stood still; promote again")

        yield check
