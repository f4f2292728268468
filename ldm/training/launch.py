"""Processes started by torchrun or srun that are one run: the first one checks the config and chooses the run folder for all."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as distributed
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from ldm.errors import UserError

RUN_FOLDER = "LDM_RUN_FOLDER"  # environment variable of the other processes of a run
TIMEOUT = 120.0  # seconds to wait for the other processes, which import torch from the same disk
SHORT_TIMEOUT = 15.0  # seconds, if it is unknown whether srun has started them
INTERACTIVE = ("bash", "sh", "zsh", "interactive")  # names of SLURM jobs in which a user starts commands by hand


@dataclass(frozen=True)
class Launch:
    """The place of this process among those of its run.

    Attributes:
        by: the launcher.
        rank: rank of this process.
        world: number of processes.
        local: number of processes on this machine.
        timeout: seconds to wait for the others.
    """

    by: str
    rank: int
    world: int
    local: int
    timeout: float = TIMEOUT

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.world // self.local


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Read the environment of torchrun (`RANK`, `WORLD_SIZE`) or srun (`SLURM_*`); None for a process that is alone or starts others.

    Raises:
        UserError: variables that are not numbers, or machines with different numbers of processes.
    """
    try:
        if "RANK" in environment and int(environment.get("WORLD_SIZE", 1)) > 1:
            world = int(environment["WORLD_SIZE"])
            return Launch("torchrun", int(environment["RANK"]), world, int(environment.get("LOCAL_WORLD_SIZE", world)))
        step = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", 1)))
        by_hand = environment.get("SLURM_JOB_NAME") in INTERACTIVE and (step == 1 or "SLURM_PTY_PORT" in environment)
        if tasks > 1 and not by_hand:
            nodes = int(environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES", 1)))
            if tasks % nodes:
                raise UserError(f"{tasks} processes on {nodes} machines: every machine needs the same number (--ntasks-per-node)")
            sure = "SLURM_STEP_ID" in environment
            return Launch("srun", int(environment.get("SLURM_PROCID", 0)), tasks, tasks // nodes, TIMEOUT if sure else SHORT_TIMEOUT)
    except ValueError as error:
        raise UserError(f"RANK, WORLD_SIZE or SLURM_NTASKS and the like in the environment: {error}") from error
    return None


class ProcessGroup:
    """The processes of one run before training starts: they wait for each other and for the decisions of the first one.

    Raises:
        UserError: some of them did not start.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        set_torchrun_variables(launch)
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        try:
            store = distributed.TCPStore(
                address,
                port,
                is_master=launch.rank == 0 and not served,
                timeout=timedelta(seconds=launch.timeout),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{address}:{port}: the first process of this run does not answer there ({str(error).splitlines()[0]})"
            ) from error
        self.store = distributed.PrefixStore(f"ldm-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self.store.set(f"here-{launch.rank}", "")
        if launch.rank == 0:
            end = time.monotonic() + launch.timeout
            missing = [rank for rank in range(1, launch.world) if not self._arrived(f"here-{rank}", end - time.monotonic())]
            if missing:
                raise UserError(self._missing(len(missing)))

    def _arrived(self, key: str, timeout: float) -> bool:
        try:
            self.store.wait([key], timedelta(seconds=max(timeout, 0.01)))
        except RuntimeError:
            return False
        return True

    def _missing(self, count: int) -> str:
        world = self.launch.world
        if self.launch.by == "srun":
            return (
                f"{count} of the {world} processes (SLURM_NTASKS) did not start within {self.launch.timeout:g} seconds: start "
                "all with `srun python main.py ...`, or request one task (--ntasks=1) and set trainer.params.devices"
            )
        return f"{count} of the {world} processes (WORLD_SIZE) did not start within {self.launch.timeout:g} seconds"

    def announce(self, folder: str) -> None:
        """In the first process: let the others continue in this run folder."""
        self.store.set("folder", folder)

    def wait(self) -> str:
        """In the other processes: wait for the run folder.

        Raises:
            SystemExit: the first process has ended and reported why.
        """
        while not self._arrived("folder", 3600):
            try:
                self.store.check(["folder"])
            except RuntimeError:  # no connection
                raise SystemExit(UserError.exit_code) from None
        folder = self.store.get("folder").decode()
        if folder.startswith("!"):
            raise SystemExit(int(folder[1:]))
        return folder

    @contextmanager
    def propagating_exit(self) -> Iterator[None]:
        """Context in the first process: if it ends before `announce`, the others end as well, without a message."""
        try:
            yield
        except BaseException as error:
            if self.launch.rank == 0 and not self.store.check(["folder"]):
                code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", UserError.exit_code)
                self.store.set("folder", f"!{code}")
                time.sleep(1.0)  # let the others read it before the store ends with this process
            raise


def gather(held: ExitStack) -> ProcessGroup | None:
    """Wait for all processes of this run; the first one continues at once, the others after its decision. None for a single process.

    Raises:
        UserError: some did not start.
        SystemExit: the first process has ended and reported why.
    """
    launch = launched()
    if launch is None:
        return None
    group = ProcessGroup(launch)
    held.enter_context(group.propagating_exit())
    if launch.rank:
        os.environ[RUN_FOLDER] = group.wait()
        held.callback(os.environ.pop, RUN_FOLDER, None)
    return group


def cluster_environment() -> list[Any] | None:
    """Lightning's cluster environment plugin; None lets Lightning detect it."""
    if launched() is not None:
        return [TorchElasticEnvironment()]
    return [LightningEnvironment()] if "SLURM_NTASKS" in os.environ else None  # a single task starts the others itself


def set_torchrun_variables(launch: Launch) -> None:
    """Set torchrun's environment variables from srun's."""
    if launch.by == "srun":
        names = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "")
        host = SLURMEnvironment.resolve_root_node_address(names) if launch.nodes > 1 else "127.0.0.1"
        port = 15000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])
        local = os.environ.get("SLURM_LOCALID", str(launch.rank % launch.local))
        address: dict[str, Any] = {"MASTER_ADDR": os.environ.get("MASTER_ADDR", host), "MASTER_PORT": os.environ.get("MASTER_PORT", port)}
        numbers = {"RANK": launch.rank, "WORLD_SIZE": launch.world, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": launch.local}
        os.environ.update({name: str(value) for name, value in {**address, **numbers}.items()})
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(f"RANK and WORLD_SIZE are set, {name} is not: start the processes with torchrun, or set it")
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(launch.local))
    os.environ.setdefault("LOCAL_RANK", str(launch.rank % launch.local))
